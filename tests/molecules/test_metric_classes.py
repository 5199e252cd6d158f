"""The judge as torchmetrics: equal to score_molecules on all molecules, however they come."""

import math

import pytest
import torch
from torch import Tensor

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.judge import metric_classes, verdict
from medmol_diffusion.molecules.judge.metric_classes import Novelty, Uniqueness, Validity, molecule_metrics
from medmol_diffusion.molecules.metrics import score_molecules, smiles_of
from tests.molecules import geometries as known
from tests.molecules.test_metrics import GRAPHS, MIXED

REFERENCE = smiles_of([known.WATER])


def expected(molecules, reference=REFERENCE, protocol="distances"):
    scores = score_molecules(molecules, reference, protocol=protocol).to_dict()
    return {name: score["value"] for name, score in scores.items() if name != "unknown_elements"}


@pytest.mark.parametrize("protocol", ["distances", "bonds"])
def test_updates_give_the_scores_of_their_union(protocol):
    molecules = {"distances": MIXED, "bonds": GRAPHS}[protocol]
    reference = smiles_of(molecules[:1], protocol)
    metrics = molecule_metrics(reference, protocol)
    for start in range(0, len(molecules), 2):
        metrics.update(molecules[start : start + 2])
    found = metrics.compute()
    assert {name: float(value) for name, value in found.items()} == expected(molecules, reference, protocol)
    assert all(value.dtype == torch.float64 and value.shape == () for value in found.values())


def test_a_collection_judges_each_molecule_once(monkeypatch):
    calls = []

    def counted(molecules, protocol):
        calls.append(len(molecules))
        return verdict.verdicts(molecules, protocol)

    monkeypatch.setattr(metric_classes, "verdicts", counted)
    metrics = molecule_metrics(REFERENCE)
    metrics.update(MIXED)  # the first update finds which states are equal
    first = len(calls)
    metrics.update(MIXED)
    assert (first, len(calls) - first) == (6, 1)
    assert {name: float(value) for name, value in metrics.compute().items()} == expected(MIXED * 2)


def test_merged_states_are_the_union():
    one, other = Uniqueness(), Uniqueness()
    one.update(MIXED[:2])
    other.update(MIXED[1:])
    one.merge_state(other)
    assert float(one.compute()) == score_molecules([*MIXED[:2], *MIXED[1:]]).uniqueness.value


@pytest.mark.parametrize("shares", [(MIXED[:4], MIXED[4:]), (MIXED, [])], ids=["both ranks", "one rank has none"])
def test_ranks_gather_the_union(shares):
    """What torchmetrics does over ranks, with the other rank's table given: both must be of one type and width."""
    other = Uniqueness()
    if shares[1]:
        other.update(shares[1])

    def gather(state: Tensor, group: object) -> list[Tensor]:
        theirs = torch.cat(other.table)
        assert (state.dtype, state.shape[1:]) == (theirs.dtype, theirs.shape[1:])
        return [state, theirs]

    one = Uniqueness(dist_sync_fn=gather, distributed_available_fn=lambda: True)
    one.update(shares[0])
    assert float(one.compute()) == score_molecules(MIXED).uniqueness.value
    assert sum(len(table) for table in one.table) == len(shares[0])  # its own again after the sync


def test_a_metric_forgets_on_reset_and_gives_each_batch_its_own_value_on_the_way():
    metric = Validity()
    assert float(metric([known.AMMONIUM])) == 0
    assert float(metric([known.WATER])) == 1
    assert float(metric.compute()) == 0.5
    metric.reset()
    metric.update([known.WATER])
    assert float(metric.compute()) == 1


def test_nothing_to_divide_by_is_not_a_number():
    metric = Uniqueness()
    metric.update([known.AMMONIUM])
    assert math.isnan(metric.compute())


def test_state_goes_through_a_checkpoint():
    metric = Uniqueness()
    metric.persistent(True)
    metric.update(MIXED)
    again = Uniqueness()
    again.persistent(True)
    again.load_state_dict(metric.state_dict())
    again.update([])
    assert float(again.compute()) == score_molecules(MIXED).uniqueness.value


def test_what_a_metric_lacks_is_said():
    assert "novelty" not in molecule_metrics()
    with pytest.raises(InputError, match="needs reference_smiles"):
        Novelty(None)
    with pytest.raises(InputError, match="is unknown"):
        Validity(protocol="both")
