"""`--model.compile`: the same run, through torch.compile."""

from pathlib import Path

import pytest
import torch
import torch._dynamo as dynamo

from medmol_diffusion.errors import InputError
from medmol_diffusion.training.curve import read_rows
from medmol_diffusion.training.fit import fit


@pytest.mark.parametrize(("domain", "backend"), [("molecule", "eager"), ("volume", "aot_eager")])
def test_a_compiled_run_is_captured_whole_and_logs_the_same_figures(
    domain: str, backend: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    config, run = (request.getfixturevalue(f"{domain}_{kind}") for kind in ("config", "run"))
    dynamo.reset()
    dynamo.utils.counters.clear()
    folder = ["--config", str(config), "--trainer.default_root_dir", str(tmp_path)]
    compiled = fit([*folder, "--model.compile", backend])
    assert dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert not dynamo.utils.counters["graph_break"]
    for one, other in zip(read_rows(compiled / "metrics.csv"), read_rows(run / "metrics.csv"), strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            assert float(one[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name
    weights, others = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in (compiled, run)
    )
    assert weights.keys() == others.keys()


def test_an_unknown_backend_is_refused(molecule_config: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="compile = indictor is no backend"):
        fit(
            [
                "--config",
                str(molecule_config),
                "--trainer.default_root_dir",
                str(tmp_path),
                "--model.compile",
                "indictor",
            ]
        )
