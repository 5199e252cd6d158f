import itertools
import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import write_sdf
from medmol_diffusion.molecules.data import EnumeratedData, MoleculeData
from medmol_diffusion.molecules.sampler import SizeBucketSampler
from tests.molecules import geometries as known

SIZES = np.random.default_rng(0).choice(
    [3, 5, 8, 9, 10, 11, 12, 20], p=[0.01, 0.02, 0.2, 0.3, 0.3, 0.1, 0.06, 0.01], size=997
)


@pytest.fixture
def npz(tmp_path):
    draw = np.random.default_rng(1)
    numbers = draw.choice([1, 6, 8], size=(300, 12)).astype(np.uint8)
    count = draw.integers(4, 13, size=300)
    numbers[np.arange(12) >= count[:, None]] = 0
    positions = (draw.normal(size=(300, 12, 3)) + 4).astype(np.float32)
    np.savez(tmp_path / "set.npz", atomic_numbers=numbers, positions=positions, num_atoms=count)
    return str(tmp_path / "set.npz")


def test_an_epoch_covers_each_item_once_within_the_budget():
    sampler = SizeBucketSampler(SIZES, pair_budget=2000)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(len(SIZES)))
    assert all(len(batch) * SIZES[batch].max() ** 2 <= 2000 for batch in batches)


def test_batches_are_of_one_size_but_for_what_is_left_over():
    sampler = SizeBucketSampler(SIZES, pair_budget=2000)
    mixed = [batch for batch in sampler if len(set(SIZES[batch])) > 1]
    assert len(mixed) <= len(set(SIZES))
    padded = sum(len(batch) * SIZES[batch].max() ** 2 for batch in sampler)
    assert padded / (SIZES**2).sum() < 1.05


def test_seed_and_epoch_decide_the_batches():
    one, other = SizeBucketSampler(SIZES, 2000, seed=1), SizeBucketSampler(SIZES, 2000, seed=1)
    assert list(one) == list(other)
    first = list(one)
    one.set_epoch(1)
    assert list(one) != first
    assert len(list(one)) == len(first)  # Lightning counts batches once
    one.set_epoch(0)
    assert list(one) == first
    assert list(SizeBucketSampler(SIZES, 2000, seed=2)) != first


def test_ranks_share_an_epoch():
    shares = [list(SizeBucketSampler(SIZES, 2000, rank=rank, ranks=3)) for rank in range(3)]
    assert len({len(share) for share in shares}) == 1
    assert {row for share in shares for batch in share for row in batch} == set(range(len(SIZES)))


def test_a_budget_too_small_for_the_largest_molecule_is_refused():
    with pytest.raises(InputError, match="give 400 or more"):
        SizeBucketSampler(SIZES, pair_budget=399)


def test_an_npz_is_split_once_and_for_all(npz):
    data, again = MoleculeData(npz, validation=0.1, test=0.2), MoleculeData(npz, validation=0.1, test=0.2, seed=5)
    data.setup()
    again.setup()
    parts = [set(part.index.tolist()) for part in (data.train, data.validation, data.test)]
    assert [len(part) for part in parts] == [210, 30, 60]
    assert set.union(*parts) == set(range(300))
    np.testing.assert_array_equal(data.test.index, again.test.index)
    other = MoleculeData(npz, validation=0.1, test=0.2, split_seed=1)
    other.setup()
    assert set(other.test.index.tolist()) != parts[2]


def test_batches_are_centred_molecules_of_the_file(npz):
    data = MoleculeData(npz, validation=0, test=0)
    data.setup()
    with np.load(npz) as arrays:
        numbers, positions = arrays["atomic_numbers"], arrays["positions"]
    seen = []
    for batch in data.train_dataloader():
        assert len(batch) * batch.mask.shape[1] ** 2 <= data.pair_budget
        torch.testing.assert_close(batch.positions.sum(1), torch.zeros(len(batch), 3), rtol=0, atol=1e-5)
        assert (batch.positions[~batch.mask] == 0).all()
        for molecule, index in zip(batch.unbatch(), batch.index.tolist(), strict=True):
            size = molecule.num_atoms
            np.testing.assert_array_equal(molecule.atomic_numbers, numbers[index, :size])
            original = positions[index, :size] - positions[index, :size].mean(0)
            np.testing.assert_allclose(molecule.positions, original, atol=1e-5)
            seen.append(index)
    assert sorted(seen) == list(range(300))
    np.testing.assert_array_equal(data.size_counts(), np.bincount((numbers > 0).sum(1)))
    assert data.elements == [1, 6, 8]


def test_limit_keeps_a_part_of_the_split(npz):
    data = MoleculeData(npz, limit=40, validation=0.25, test=0.25)
    data.setup()
    assert [len(part) for part in (data.train, data.validation, data.test)] == [20, 10, 10]


def test_other_elements_are_counted_skipped_and_told(npz):
    data = MoleculeData(npz, elements=[1, 6], limit=None)
    with np.load(npz) as arrays:
        without = int((arrays["atomic_numbers"] != 8).all(1).sum())
    with pytest.warns(UserWarning, match=f"skipped {300 - without} of 300 molecules .* other than H, C: O"):
        data.setup()
    assert len(data.train) + len(data.validation) + len(data.test) == without
    with pytest.raises(InputError, match="add H, C, O to elements"):
        MoleculeData(npz, elements=[9]).setup()


def test_rows_that_cannot_be_used_are_told(tmp_path):
    numbers, positions = np.ones((10, 2), dtype=np.uint8), np.arange(60.0).reshape(10, 2, 3)
    positions[4, 1, 2] = np.nan
    np.savez(tmp_path / "a.npz", atomic_numbers=numbers, positions=positions)
    data = MoleculeData(str(tmp_path / "a.npz"), validation=0, test=0)
    with pytest.warns(UserWarning, match="skipped 1 record that cannot be used: row 4"):
        data.setup()
    assert data.train.index.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_sdf_keeps_the_places_of_its_records(tmp_path):
    write_sdf([known.WATER, known.METHANE], tmp_path / "a.sdf")
    text = (tmp_path / "a.sdf").read_text()
    (tmp_path / "a.sdf").write_text("junk\n\n\nbad counts\n$$$$\n" + text)
    data = MoleculeData(str(tmp_path / "a.sdf"), validation=0, test=0)
    with pytest.warns(UserWarning, match="skipped 1 record that .* record 1 .junk."):
        data.setup()
    assert data.train.index.tolist() == [1, 2]
    assert data.train[1].num_atoms == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [({"validation": 0.6, "test": 0.4}, "fractions"), ({"limit": 0}, "limit is 0"), ({"batch_size": 0}, "batch_size")],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        MoleculeData("set.npz", **options)


def test_embedded_data_never_splits_the_conformers_of_a_molecule(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = EnumeratedData(max_heavy_atoms=2, conformers=3, validation=0.2, test=0.2)
    data.setup()
    groups = [set(part.group.tolist()) for part in (data.train, data.validation, data.test)]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert all(len(part) % 3 == 0 for part in (data.train, data.validation, data.test))
    assert data.elements == [1, 6, 7, 8, 9]


class Recorder(pl.LightningModule):
    """Trains nothing and writes down which molecules it was given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch, _):
        self.seen.append(batch.index.tolist())
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(npz, folder, steps, num_workers=0, ckpt_path=None):
    module, data = Recorder(), MoleculeData(npz, batch_size=16, num_workers=num_workers)
    trainer = pl.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, enable_checkpointing=False, barebones=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, data, ckpt_path=ckpt_path)
    trainer.save_checkpoint(folder / f"{steps}.ckpt")
    return module.seen


def test_every_epoch_of_a_run_draws_its_batches_anew(npz, tmp_path):
    data = MoleculeData(npz, batch_size=16)
    data.setup()
    length = len(data.train_dataloader())
    seen = fit(npz, tmp_path, 3 * length)
    epochs = [seen[i * length : (i + 1) * length] for i in range(3)]
    for epoch in epochs:
        assert sorted(itertools.chain(*epoch)) == sorted(data.train.index)
    assert all(set(map(tuple, a)) != set(map(tuple, b)) for a, b in itertools.combinations(epochs, 2))


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("stop", [3, 17, 25])
def test_a_run_taken_up_in_the_middle_of_an_epoch_sees_what_an_unbroken_one_sees(npz, tmp_path, stop, num_workers):
    whole = fit(npz, tmp_path, 40)
    first = fit(npz, tmp_path, stop, num_workers)
    rest = fit(npz, tmp_path, 40, num_workers, ckpt_path=tmp_path / f"{stop}.ckpt")
    assert first + rest == whole
