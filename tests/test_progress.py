"""The bar: lines where there is no terminal, nothing where it is disabled."""

import pytest

from medmol_diffusion import progress
from medmol_diffusion.progress import Bar


def test_without_a_terminal_a_line_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Bar("sampling", 10, transient=True) as bar:
        bar.reach(1)
        assert "sampling: 1" not in capsys.readouterr().err  # a minute has not passed
        monkeypatch.setattr(progress, "INTERVAL", 0.0)
        bar.reach(4, "loss 0.5")
    assert "sampling: 4 of 10 loss 0.5" in capsys.readouterr().err


def test_a_disabled_bar_is_silent(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    with Bar("training", None, disable=True) as bar:
        bar.reach(4)
    assert capsys.readouterr().err == ""
