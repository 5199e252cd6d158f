"""What the guide on judging shows runs as it stands there, and says what the judge says."""

import textwrap
from pathlib import Path

import pytest

from medmol_diffusion.molecules import write_sdf
from medmol_diffusion.molecules.metrics import score_molecules, smiles_of
from tests.molecules.drawn import embedded

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "judging-molecules.md"


def block(heading: str) -> str:
    """The code of a section: its lines that begin with four spaces."""
    section = GUIDE.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("    ") or not line]
    return textwrap.dedent("\n".join(lines))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sdf([embedded("CCO"), embedded("CC")], tmp_path / "train.sdf")
    write_sdf([embedded("CCO"), embedded("CCO"), embedded("CC(N)=O")], tmp_path / "samples.sdf")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("files")
def test_the_torchmetrics_of_the_guide_are_the_scores(capsys: pytest.CaptureFixture[str]) -> None:
    exec(block("As torchmetrics"), {})
    *printed, validity = capsys.readouterr().out.splitlines()
    molecules = [embedded("CCO"), embedded("CCO"), embedded("CC(N)=O")]
    scores = score_molecules(molecules, smiles_of([embedded("CCO"), embedded("CC")])).to_dict()
    said = {name: float(value) for name, value in (line.split(": ") for line in printed)}
    assert said == {name: round(one["value"], 3) for name, one in scores.items() if name != "unknown_elements"}
    assert said["novelty"] == 0.5
    assert validity == "1.0"


@pytest.mark.usefixtures("files")
def test_the_measures_of_the_guide_run(capsys: pytest.CaptureFixture[str]) -> None:
    exec(block("In Python"), {})
    assert "bond lengths" in capsys.readouterr().out
