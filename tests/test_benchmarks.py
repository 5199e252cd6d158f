"""tests/benchmarks: run by hand, and yet none may rot."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

MODULES = sorted(file.stem for file in (Path(__file__).parent / "benchmarks").glob("*.py"))
PARTS = {"anomaly_curves", "anomaly_kept", "anomaly_own", "anomaly_sets", "monai_peer"}
"""Of other benchmarks: they have no command."""


@pytest.mark.parametrize("name", MODULES)
def test_a_benchmark_can_be_imported_and_says_how_it_is_run(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = import_module(f"tests.benchmarks.{name}")
    assert hasattr(module, "main") != (name in PARTS)
    if name in PARTS:
        return
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stopped:
        module.main()
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert "usage:" in said
    assert (module.__doc__ or "none").split()[0] in said
