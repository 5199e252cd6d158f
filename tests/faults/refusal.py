"""How `medmol` refuses: the one line that it says, and a folder before and after."""

from pathlib import Path

import pytest

from medmol_diffusion.cli import main


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that `medmol` says on its way out with exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    errors = [line for line in said if line.startswith("error: ")]
    assert len(errors) == 1, said
    assert said[-1] == errors[0]
    assert all(line.startswith(("error: ", "warning: ")) for line in said)
    assert "Traceback" not in errors[0]
    return errors[0]


def listing(folder: Path) -> list[str]:
    """Every file below a folder."""
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))
