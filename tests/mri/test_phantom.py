import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.phantom import KINDS, LABEL, Contrast, Frame, LesionKind, Phantom, head_phantom

SMALL = (32, 40, 32)


def signal(phantom: Phantom, tissue: str) -> float:
    return float(np.median(phantom.volume.data[phantom.labels == LABEL[tissue]]))


@pytest.mark.parametrize("lesion_kind", KINDS)
def test_the_seed_decides_everything(lesion_kind: LesionKind) -> None:
    first, again, other = (head_phantom(seed, SMALL, lesions=2, lesion_kind=lesion_kind) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.volume.data, again.volume.data)
    np.testing.assert_array_equal(first.lesion, again.lesion)
    assert np.mean(first.labels != other.labels) > 0.05


@pytest.mark.parametrize("lesion_kind", ["white_matter", "cavity", "haemorrhage"])
@pytest.mark.parametrize("seed", range(3))
def test_lesions_lie_in_the_brain_and_change_nothing_elsewhere(seed: int, lesion_kind: LesionKind) -> None:
    healthy = head_phantom(seed, SMALL, contrast="FLAIR")
    ill = head_phantom(seed, SMALL, contrast="FLAIR", lesions=3, lesion_kind=lesion_kind)
    assert not healthy.lesion.any()
    assert ill.lesion.any()
    assert ill.brain[ill.lesion].all()
    np.testing.assert_array_equal(ill.brain, healthy.brain)
    change = ill.volume.data - healthy.volume.data
    assert (-1 if lesion_kind == "cavity" else 1) * change[ill.lesion].mean() > 100
    assert np.abs(change[~ill.lesion]).mean() < 0.02 * np.abs(change[ill.lesion]).mean()


@pytest.mark.parametrize("lesion_kind", ["white_matter", "mass"])
@pytest.mark.parametrize(("contrast", "sign"), [("T1w", -1), ("T2w", 1), ("FLAIR", 1)])
def test_lesions_are_dark_on_t1w_and_bright_on_t2w_and_flair(
    contrast: Contrast, sign: int, lesion_kind: LesionKind
) -> None:
    phantom = head_phantom(1, contrast=contrast, lesions=2, lesion_kind=lesion_kind, bias=0.0)
    lesion = float(np.median(phantom.volume.data[phantom.lesion]))
    assert sign * (lesion - signal(phantom, "white")) > 100


@pytest.mark.parametrize(
    ("lesion_kind", "contrast", "low", "high"),
    [
        ("cavity", "T1w", -900, -500),  # as fluid is in each
        ("cavity", "T2w", 300, 700),
        ("cavity", "FLAIR", -500, -200),
        ("haemorrhage", "T1w", 150, 450),
        ("haemorrhage", "T2w", 200, 600),
        ("haemorrhage", "FLAIR", 200, 600),
    ],
)
def test_cavities_look_like_fluid_and_haemorrhages_are_bright(
    lesion_kind: LesionKind, contrast: Contrast, low: float, high: float
) -> None:
    """Held against white matter, in the middle of the lesion: cavities have a rim of gliosis, haemorrhages one of
    haemosiderin, which is dark on T2w."""
    head = head_phantom(11, (64, 80, 64), contrast=contrast, lesions=1, lesion_kind=lesion_kind, bias=0.0)
    for tissue, sign in ((lesion_kind, 1), ("lesion" if lesion_kind == "cavity" else "haemosiderin", 0)):
        voxels = head.volume.data[head.labels == LABEL[tissue]]
        assert len(voxels) > 10
        assert not sign or low < float(np.median(voxels)) - signal(head, "white") < high
    assert (head.lesion & (head.labels == LABEL[lesion_kind])).sum() > 0.5 * head.lesion.sum()


@pytest.mark.parametrize("lesion_kind", KINDS)
def test_a_lesion_has_a_voxel_at_any_resolution(lesion_kind: LesionKind) -> None:
    for seed in range(6):
        assert head_phantom(seed, (16, 20, 16), lesions=1, lesion_kind=lesion_kind).lesion.any()


def test_phantoms_are_what_they_have_always_been() -> None:
    """Models and figures of before are of the same heads."""
    head = head_phantom(7, (16, 20, 16), contrast="FLAIR", lesions=2)
    assert head.volume.data.astype(np.float64).sum() == pytest.approx(1382008.06, rel=1e-6)
    assert head.lesion.sum() == 4


def test_tissues_stand_in_the_order_of_their_contrast() -> None:
    t1, t2, flair = (head_phantom(2, contrast=contrast, bias=0.0) for contrast in ("T1w", "T2w", "FLAIR"))
    np.testing.assert_array_equal(t1.labels, t2.labels)
    assert signal(t1, "white") > signal(t1, "deep_grey") > signal(t1, "grey") > signal(t1, "ventricle")
    assert signal(t2, "ventricle") > signal(t2, "grey") > signal(t2, "white")
    assert signal(flair, "grey") > signal(flair, "white") > signal(flair, "ventricle")
    for phantom in (t1, t2, flair):
        assert signal(phantom, "air") < 0.2 * signal(phantom, "white")


def test_people_differ_and_are_of_human_size() -> None:
    people = [head_phantom(seed, SMALL) for seed in range(8)]
    litres = np.array([person.brain.sum() * np.prod(person.volume.spacing) / 1e6 for person in people])
    assert (litres > 0.9).all()
    assert (litres < 1.9).all()
    ventricles = np.array([(person.labels == LABEL["ventricle"]).sum() for person in people])
    assert ventricles.std() > 0.1 * ventricles.mean()


def test_the_anatomy_is_the_same_at_every_resolution() -> None:
    coarse, fine = head_phantom(5, SMALL), head_phantom(5, (64, 80, 64))
    assert coarse.volume.spacing == (6.0, 6.0, 6.0)
    assert fine.volume.spacing == (3.0, 3.0, 3.0)
    np.testing.assert_allclose(coarse.volume.to_mm([-0.5] * 3), fine.volume.to_mm([-0.5] * 3))
    halved = fine.brain.reshape(32, 2, 40, 2, 32, 2).mean((1, 3, 5)) > 0.5
    assert 2 * (halved & coarse.brain).sum() / (halved.sum() + coarse.brain.sum()) > 0.97


def test_noise_is_rician_and_of_the_size_asked() -> None:
    still, noisy = head_phantom(0, SMALL, noise=0.0, bias=0.0), head_phantom(0, SMALL, noise=0.05, bias=0.0)
    air = (still.labels == LABEL["air"]) & (still.volume.data < 1e-3)
    # Rayleigh: the mean is sqrt(pi / 2) sigma, with sigma 50 on the scale where white matter is 1000.
    assert noisy.volume.data[air].mean() == pytest.approx(np.sqrt(np.pi / 2) * 50, rel=0.02)
    bright = still.volume.data > 800
    assert (noisy.volume.data - still.volume.data)[bright].std() == pytest.approx(50, rel=0.05)


def test_random_fields_have_unit_variance_at_every_scale() -> None:
    for scale in (8.0, 14.0):
        field = Frame((48, 48, 48), 3.0).field(np.random.default_rng(0), scale)
        assert field.std() == pytest.approx(1, abs=0.08)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(InputError, match=r"'PET' is unknown: use one of T1w, T2w, FLAIR"):
        head_phantom(0, SMALL, contrast="PET")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'stroke' is unknown"):
        head_phantom(0, SMALL, lesion_kind="stroke")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="200 mm are too large for white-matter lesions"):
        head_phantom(0, (4, 4, 4), spacing=200.0, lesions=1)
    with pytest.raises(InputError, match="three sizes"):
        head_phantom(0, (32, 32))
    with pytest.raises(InputError, match="spacing above 0"):
        head_phantom(0, SMALL, spacing=-1.0)


def test_ageing_grows_the_ventricles_thins_the_cortex_and_leaves_the_person_as_big() -> None:
    ages = [head_phantom(1, (48, 60, 48), atrophy=atrophy) for atrophy in (0.0, 0.5, 1.0)]
    ventricles = [head.ventricles for head in ages]
    grey, csf = ([int((head.labels == LABEL[tissue]).sum()) for head in ages] for tissue in ("grey", "csf"))
    assert ventricles == sorted(ventricles)
    assert ventricles[2] > 2 * ventricles[0]
    assert grey == sorted(grey, reverse=True)
    assert csf == sorted(csf)
    assert len({head.brain_volume for head in ages}) == 1


def test_what_a_phantom_has_in_millilitres_is_what_its_masks_hold() -> None:
    head = head_phantom(4, SMALL, contrast="FLAIR", lesions=3)
    assert head.ventricles == pytest.approx((head.labels == LABEL["ventricle"]).sum() * 0.216)
    assert head.lesion_load == pytest.approx(head.lesion.sum() * 0.216)
    assert head.lesion_load > 0 == head_phantom(4, SMALL).lesion_load
    with pytest.raises(InputError, match="atrophy runs from 0"):
        head_phantom(0, SMALL, atrophy=1.5)
