"""datasets/prepare_heads.py on a made-up study: a scan and a label map of one head."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import Volume
from medmol_diffusion.mri.data import VolumeData

sys.path.insert(0, str(Path(__file__).parent.parent / "datasets"))
import prepare_brains
from prepare_heads import EXTENT, prepare
from simulate_heads import FAMILIES, draws, simulate

WHITE, CSF = 2, 4
CENTRE = np.array([12.0, -7.0, 30.0])  # mm
RADIUS = 60.0  # mm


def ball(spacing: float, codes: str = "RAS") -> Volume:
    """Of white matter with a core of CSF that lies to the right of its middle."""
    shape = np.array([200, 190, 220]) // int(spacing)
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = CENTRE - spacing * (shape / 2)
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) * spacing + affine[:3, 3]
    data = WHITE * (np.linalg.norm(places - CENTRE, axis=-1) < RADIUS).astype(np.float32)
    data[np.linalg.norm(places - CENTRE - [25, 0, 0], axis=-1) < 20] = CSF
    return Volume(data, affine).reorient(codes)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mine") / "mine_2mm"
    folder.mkdir()
    scan = ball(4.0, "PSR")
    Volume(100 * (scan.data == WHITE), scan.affine).write(folder / "p1_T1w.nii.gz")
    Volume(100 * (scan.data == WHITE), scan.affine).write(folder / "p3_T1w.nii.gz")
    ball(2.0, "LIA").write(folder / "p2.nii.gz", np.int16)
    (folder / "participants.tsv").write_text(
        "id\tmodality\tage\tsex\tskull_stripped\timage\tsegmentation\n"
        "p1\tT1w\t44\tF\tno\tp1_T1w.nii.gz\t\n"
        "p2\tlabel map (whole head)\t\t\tno\t\tp2.nii.gz\n"
        "p3\tT1w\t50\tM\tyes\tp3_T1w.nii.gz\t\n"
    )
    return folder


@pytest.fixture(scope="module")
def prepared(study: Path) -> Path:
    output = study.parent / "out"
    prepare([study], output, 4.0)
    return output


def middle(volume: Volume, inside: np.ndarray) -> np.ndarray:
    return volume.to_mm(np.argwhere(inside).mean(0))


def test_all_lie_on_one_grid_and_heads_stay_where_they_were(prepared: Path) -> None:
    for file in sorted(prepared.rglob("*.nii.gz")):
        volume = Volume.read(file)
        assert volume.shape == tuple(EXTENT // 4)
        assert volume.orientation == "RAS"
        head = volume.data > 0.4 * np.percentile(volume.data, 99.9)
        above = 4 * (volume.shape[2] - 1 - np.argwhere(head)[:, 2].max())
        assert 4 <= above <= 12, "the crown is 8 mm below the top"
        low, high = (volume.to_mm(end(np.argwhere(head), 0)) for end in (np.min, np.max))
        np.testing.assert_allclose((low + high)[1:] / 2, CENTRE[1:], atol=3.0)


def test_right_stays_right(prepared: Path) -> None:
    scan = Volume.read(prepared / "sub-minep1/anat/sub-minep1_T1w.nii.gz")
    hole = (20 / RADIUS) ** 3  # of the ball's volume, 25 mm to the right of its middle
    np.testing.assert_allclose(middle(scan, scan.data > 50), CENTRE - [25 * hole / (1 - hole), 0, 0], atol=0.3)
    simulated = Volume.read(prepared / "sub-minep2/anat/sub-minep2_acq-sim1_T2w.nii.gz")
    core = simulated.data > 0.8 * simulated.data.max()
    np.testing.assert_allclose(middle(simulated, core), CENTRE + np.array([25.0, 0, 0]), atol=2.0)


def test_the_table_says_what_is_real_and_whose_it_is(prepared: Path) -> None:
    data = VolumeData(str(prepared), (EXTENT // 4).tolist(), validation=0.0, test=0.5)
    data.setup()
    rows = dict(
        zip([*data.train.names, *data.test.names], [*data.train.covariates, *data.test.covariates], strict=True)
    )
    assert {row["source"] for name, row in rows.items() if "sim" in name} == {"simulated"}
    assert {row["contrast"] for row in rows.values()} == set(FAMILIES)
    real = rows["sub-minep1/anat/sub-minep1_T1w.nii.gz"]
    assert (real["source"], real["age"], real["stripped"]) == ("real", "44", "no")
    assert len(rows) == 4, "the skull-stripped one is left out"
    assert not set(data.train.subjects) & set(data.test.subjects)


def test_stripped_scans_come_when_asked_and_nothing_is_overwritten(study: Path, prepared: Path) -> None:
    with pytest.raises(InputError, match="exists"):
        prepare([study], prepared, 4.0)
    rows = prepare([study], study.parent / "with", 4.0, copies=0, stripped=True)
    assert [row["stripped"] for row in rows] == ["no", "yes"]


def test_labels_lie_beside_the_real_scans_on_their_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "mine_4mm"
    study.mkdir()
    for name in ("p1", "p2"):
        ball(4.0, "PSR").write(study / f"{name}_T1w.nii.gz")
    ball(2.0, "LIA").write(study / "p1_dseg.nii.gz", np.uint8)
    table = "id\tmodality\tskull_stripped\timage\tsegmentation\np2\tT1w\tno\tp2_T1w.nii.gz\t\n"
    (study / "participants.tsv").write_text(table)
    with pytest.raises(InputError, match="no real scan has labels"):
        prepare([study], tmp_path / "none", 4.0, brains=True)
    (study / "participants.tsv").write_text(table + "p1\tT1w\tno\tp1_T1w.nii.gz\tp1_dseg.nii.gz\n")
    prepare([study], tmp_path / "heads", 4.0, brains=True)
    assert "without labels: sub-minep2" in capsys.readouterr().out
    (file,) = (tmp_path / "heads").rglob("*_dseg.nii.gz")
    labels, scan = (Volume.read(file.with_name(f"sub-minep1_{end}.nii.gz")) for end in ("dseg", "T1w"))
    assert labels.same_grid(scan)
    assert set(np.unique(labels.data)) == {0, WHITE, CSF}
    assert ((labels.data > 0) != (scan.data > 1)).sum() < 0.03 * (labels.data > 0).sum()
    np.testing.assert_allclose(middle(labels, labels.data == CSF), CENTRE + np.array([25, 0, 0]), atol=1.0)


def test_partial_volume_is_the_mean_and_the_seed_repeats() -> None:
    labels = ball(2.0).crop_or_pad((96, 96, 96), value=0)
    scan, again, other = (simulate(labels, "T1w", 2, draws(seed, "x")) for seed in (0, 0, 1))
    np.testing.assert_array_equal(scan.data, again.data)
    assert (scan.data != other.data).mean() > 0.5
    share = (labels.data == WHITE).reshape(48, 2, 48, 2, 48, 2).mean(axis=(1, 3, 5))
    alone = (labels.data != CSF).reshape(48, 2, 48, 2, 48, 2).all(axis=(1, 3, 5))
    means = [scan.data[alone & (share == part)].mean() for part in (0.0, 0.5, 1.0)]
    assert means[1] == pytest.approx((means[0] + means[2]) / 2, rel=0.06)
    np.testing.assert_allclose(scan.to_mm([0, 0, 0]), labels.to_mm([0.5, 0.5, 0.5]))


def test_an_unknown_label_is_named() -> None:
    labels = Volume(np.full((4, 4, 4), 999), np.eye(4))
    with pytest.raises(InputError, match="label 999"):
        simulate(labels, "T1w", 2, draws(0, "x"))


def test_brains_are_cut_out_by_labels_of_another_grid_and_masks_come_along(tmp_path: Path) -> None:
    study = tmp_path / "mine_4mm"
    study.mkdir()
    whole, bare = Volume(np.full_like(ball(4.0).data, 7), ball(4.0).affine), ball(4.0, "PSR")
    whole.data[0] = 1  # the smallest value
    for name, scan in (("p1", whole), ("p2", bare), ("p3", whole)):
        scan.write(study / f"{name}_FLAIR.nii.gz")
    ball(2.0, "LIA").write(study / "p1_dseg.nii.gz", np.uint8)
    lesion = replace(bare, data=bare.data == CSF)
    lesion.write(study / "p2_lesion.nii.gz", np.uint8)
    (study / "participants.tsv").write_text(
        "id\tmodality\tskull_stripped\timage\tsegmentation\tlesion_mask\n"
        "p1\tFLAIR\tno\tp1_FLAIR.nii.gz\t\t\n"
        "p1\tT1w\tno\tp1_T1w.nii.gz\tp1_dseg.nii.gz\t\n"
        "p2\tFLAIR\tyes\tp2_FLAIR.nii.gz\t\tp2_lesion.nii.gz\n"
        "p3\tFLAIR\tno\tp3_FLAIR.nii.gz\t\t\n"
    )
    output = tmp_path / "brains"
    rows = prepare_brains.prepare([study], output, 4.0, "FLAIR", [])
    assert [row["participant_id"] for row in rows] == ["sub-minep1", "sub-minep2"], "p3 has no labels"
    for name in ("sub-minep1", "sub-minep2"):
        scan, brain = (
            Volume.read(output / name / "anat" / f"{name}_{end}.nii.gz") for end in ("FLAIR", "desc-brain_mask")
        )
        assert scan.shape == brain.shape == tuple(EXTENT // 4)
        assert 64 * brain.data.sum() == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.03)
        np.testing.assert_allclose(middle(brain, brain.data > 0), CENTRE, atol=2.0)
        assert (scan.data > scan.data.min())[brain.data == 0].mean() < 0.02
    copied = Volume.read(output / "sub-minep2/anat/sub-minep2_label-lesion_mask.nii.gz")
    np.testing.assert_array_equal(copied.data, lesion.data)
    with pytest.raises(InputError, match="nobody is called sub-4"):
        prepare_brains.prepare([study], tmp_path / "other", 4.0, "FLAIR", ["sub-4"])
