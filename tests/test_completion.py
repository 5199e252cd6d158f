"""Shells complete what medmol takes."""

import subprocess
from pathlib import Path

import pytest

from medmol_diffusion.cli import main, parser

ASK = """
source {script}
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
COMPREPLY=()
_shtab_medmol
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script of each shell, as the command prints it."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        with (folder / shell).open("w") as file, pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdout", file)
            main(["completion", shell])
    return folder


@pytest.mark.parametrize(
    ("words", "some"),
    [
        ("medmol s", {"sample", "score", "split", "super-resolve"}),
        ("medmol sample --st", {"--steps"}),
        ("medmol sample qm9-chno --sampler dpm", {"dpm++2m", "dpm++3m-sde"}),
        ("medmol sample ''", {"head-phantom", "qm9-chno", "qm9-chno-early", "my-run"}),
        ("medmol sample qm9-chno --worse q", {"qm9-chno", "qm9-chno-early"}),
        ("medmol score mol", {"molecules.sdf"}),
        ("medmol score molecules.sdf --protocol ''", {"bonds", "distances"}),
        ("medmol fit --trainer.m", {"--trainer.max_steps", "--trainer.max_time"}),
        ("medmol fit --config my", {"my-run", "my.yaml"}),
        ("medmol completion ''", {"bash", "zsh", "fish"}),
    ],
)
def test_bash_completes(words: str, some: set[str], scripts: Path, tmp_path: Path) -> None:
    (tmp_path / "molecules.sdf").touch()
    (tmp_path / "my.yaml").touch()
    (tmp_path / "my-run").mkdir()
    code = ASK.format(script=scripts / "bash", words=words)
    done = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = set(done.stdout.split())
    assert some <= found, done.stderr
    typed = words.split()[-1].strip("'")
    assert all(one.startswith(typed) for one in found)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_verb_and_every_model_is_in_the_script(shell: str, scripts: Path) -> None:
    text = (scripts / shell).read_text()
    (verbs,) = (action.choices for action in parser()._actions if action.dest == "verb")
    assert verbs is not None
    assert all(verb in text for verb in verbs)
    assert "head-phantom" in text
    assert "max_steps" in text
