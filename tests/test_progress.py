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


def lines_at(seconds: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a bar says that is told of one more item at each of these times."""
    now = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    capsys.readouterr()
    with Bar("sampling", len(seconds), transient=True) as bar:
        for done, time in enumerate(seconds):
            now[0] = time
            bar.reach(done + 1)
    return capsys.readouterr().err.splitlines()  # and no empty one among them


def test_lines_come_soon_and_then_more_rarely_and_the_end_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = lines_at([float(second) for second in range(1, 251)], monkeypatch, capsys)
    assert found == [
        *(f"sampling: {second} of 250" for second in (10, 30, 70, 130, 190)),
        "sampling: 250 of 250, 250 s",
    ]
    assert lines_at([1.0, 9.0], monkeypatch, capsys) == []
    assert lines_at([1.0, 19.0], monkeypatch, capsys) == ["sampling: 2 of 2, 19 s"]


def test_a_disabled_bar_is_silent(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    with Bar("training", None, disable=True) as bar:
        bar.reach(4)
    assert capsys.readouterr().err == ""


def test_a_bar_that_stays_ends_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("training", 1) as bar:
        bar.reach(1)
    said = capsys.readouterr().err
    assert said.endswith("\n")
    assert "" not in said.splitlines()
