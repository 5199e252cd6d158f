"""What the judge measures, as torchmetrics: equal to the judge's own functions on all molecules, however they come."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import Molecule
from medmol_diffusion.molecules.judge.distributions import QUANTITIES, distances
from medmol_diffusion.molecules.judge.diversity import fingerprints, internal_diversity
from medmol_diffusion.molecules.judge.druglikeness import property_columns, property_scores
from medmol_diffusion.molecules.judge.gathered import Gathered
from medmol_diffusion.molecules.judge.measured_classes import (
    GeometryDistance,
    InternalDiversity,
    PoseBustersPass,
    PropertyDistance,
    PropertyMean,
    Strain,
)
from medmol_diffusion.molecules.judge.poses import pose_scores
from medmol_diffusion.molecules.judge.score_report import as_judged
from medmol_diffusion.molecules.judge.strain import strain_scores
from tests.molecules import geometries as known
from tests.molecules.drawn import embedded

MOLECULES = [embedded("CCO"), known.AMMONIUM, embedded("CC(N)=O"), embedded("CC"), embedded("OCC1CC1")]
REAL = [embedded("CCCO"), embedded("CCN(C)C"), known.METHYL_RADICAL]


def of_property(name: str) -> Callable[[list[Molecule]], list]:
    columns = property_columns(as_judged(REAL, "distances"), [name])
    return lambda molecules: property_scores(property_columns(molecules, [name]), columns)


Case = tuple[Callable[..., Gathered], Callable[[list[Molecule]], float]]
CASES: dict[str, Case] = {
    "strain": (Strain, lambda molecules: strain_scores(molecules).figures[0].median),
    "diversity": (InternalDiversity, lambda molecules: internal_diversity(fingerprints(molecules)).value),
}
for one in ("qed", "sa", "logp"):
    CASES[f"mean {one}"] = (
        lambda name=one, **options: PropertyMean(name, **options),
        lambda molecules, name=one: of_property(name)(molecules)[0].figure.mean,
    )
    CASES[f"distance of {one}"] = (
        lambda name=one, **options: PropertyDistance(name, REAL, **options),
        lambda molecules, name=one: of_property(name)(molecules)[0].wasserstein,
    )
for place, one in enumerate(QUANTITIES):
    CASES[f"distance of {one}"] = (
        lambda name=one, **options: GeometryDistance(REAL, name, **options),
        lambda molecules, place=place: distances(molecules, as_judged(REAL, "distances"), draws=2)[place].value,
    )


@pytest.mark.parametrize(("kind", "expected"), CASES.values(), ids=CASES.keys())
def test_updates_and_ranks_give_the_judges_figure_of_their_union(
    kind: Callable[..., Gathered], expected: Callable[[list[Molecule]], float]
) -> None:
    other = kind()
    other.update(MOLECULES[3:])

    def gather(state: Tensor, group: object) -> list[Tensor]:
        theirs = torch.cat(getattr(other, other._state))
        assert (state.dtype, state.shape[1:]) == (theirs.dtype, theirs.shape[1:])
        return [state, theirs]

    metric = kind(dist_sync_fn=gather, distributed_available_fn=lambda: True)
    metric.update(MOLECULES[:2])
    metric.update(MOLECULES[2:3])
    found = metric.compute()
    assert (found.dtype, found.shape) == (torch.float64, ())
    assert float(found) == pytest.approx(expected(as_judged(MOLECULES, "distances")), rel=1e-12)
    nothing = kind()
    nothing.update([])
    assert math.isnan(nothing.compute())


def test_the_share_that_passes_posebusters_is_the_judges_and_radicals_do_not() -> None:
    some = [embedded("CCO"), known.METHYL_RADICAL]
    metric = PoseBustersPass()
    for molecule in some:
        metric.update([molecule])
    assert float(metric.compute()) == pose_scores(as_judged(some, "distances"))[0].value == 0.5


def test_a_collection_keeps_apart_what_began_alike() -> None:
    """Ethane has no rings and no nitrogen: two columns of zeros, which must not become one."""
    metrics = MetricCollection({"rings": PropertyMean("rings"), "nitrogen": PropertyMean("num_N")})
    metrics.update([embedded("CC")])
    metrics.update([embedded("OCC1CC1")])
    assert {name: float(value) for name, value in metrics.compute().items()} == {"rings": 0.5, "nitrogen": 0.0}


def test_a_protocol_goes_by_its_own_bonds() -> None:
    ethane = embedded("CC")
    unbonded = Molecule(ethane.atomic_numbers, ethane.positions)
    metric = PropertyMean("rings", protocol="bonds")
    metric.update([ethane])
    with pytest.raises(InputError, match="no bonds"):
        metric.update([unbonded])


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(InputError, match="no property 'beauty'"):
        PropertyMean("beauty")
    with pytest.raises(InputError, match="no quantity 'colour'"):
        GeometryDistance(REAL, "colour")
    with pytest.raises(InputError, match="no molecule of the reference has"):
        PropertyDistance("qed", [])
    with pytest.raises(InputError, match="the reference has no dihedrals"):
        GeometryDistance([known.WATER], "dihedrals")
