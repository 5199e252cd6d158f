"""Training under Lightning's distributed strategies, which must leave the loaders' own sharing out alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from medmol_diffusion.training.curve import read_rows
from medmol_diffusion.training.fit import fit


@pytest.fixture
def process_group() -> Iterator[None]:
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("domain", ["molecule", "volume"])
def test_ddp_takes_the_loaders_of_both_domains_as_they_are(
    domain: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """One rank is enough: Lightning replaces samplers, or fails to, under ddp with any number of them. Gradients lie
    elsewhere in memory there, so that sums over several threads differ in their last digits, and Adam
    makes more of that in the weights; the logged figures agree."""
    config, alone = (request.getfixturevalue(f"{domain}_{what}") for what in ("config", "run"))
    ranks = ["--trainer.strategy", "ddp", "--trainer.devices", "1"]
    run = fit(["--config", str(config), "--trainer.default_root_dir", str(tmp_path / "run"), *ranks])
    for row, other in zip(read_rows(run / "metrics.csv"), read_rows(alone / "metrics.csv"), strict=True):
        assert {name: float(value) for name, value in row.items()} == pytest.approx(
            {name: float(value) for name, value in other.items()}, rel=1e-2
        )
