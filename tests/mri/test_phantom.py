import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.phantom import LABEL, Contrast, Frame, LesionKind, Phantom, head_phantom

SMALL = (32, 40, 32)


def signal(phantom: Phantom, tissue: str) -> float:
    return float(np.median(phantom.volume.data[phantom.labels == LABEL[tissue]]))


@pytest.mark.parametrize("lesion_kind", ["white_matter", "mass"])
def test_the_seed_decides_everything(lesion_kind: LesionKind) -> None:
    first, again, other = (head_phantom(seed, SMALL, lesions=2, lesion_kind=lesion_kind) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.volume.data, again.volume.data)
    np.testing.assert_array_equal(first.lesion, again.lesion)
    assert np.mean(first.labels != other.labels) > 0.05


@pytest.mark.parametrize("seed", range(3))
def test_lesions_lie_in_the_brain_and_change_nothing_elsewhere(seed: int) -> None:
    healthy = head_phantom(seed, SMALL, contrast="FLAIR")
    ill = head_phantom(seed, SMALL, contrast="FLAIR", lesions=3)
    assert not healthy.lesion.any()
    assert ill.lesion.any()
    assert ill.brain[ill.lesion].all()
    np.testing.assert_array_equal(ill.brain, healthy.brain)
    change = ill.volume.data - healthy.volume.data
    assert change[ill.lesion].mean() > 100
    assert np.abs(change[~ill.lesion]).mean() < 0.02 * change[ill.lesion].mean()


@pytest.mark.parametrize("lesion_kind", ["white_matter", "mass"])
@pytest.mark.parametrize(("contrast", "sign"), [("T1w", -1), ("T2w", 1), ("FLAIR", 1)])
def test_lesions_are_dark_on_t1w_and_bright_on_t2w_and_flair(
    contrast: Contrast, sign: int, lesion_kind: LesionKind
) -> None:
    phantom = head_phantom(1, contrast=contrast, lesions=2, lesion_kind=lesion_kind, bias=0.0)
    lesion = float(np.median(phantom.volume.data[phantom.lesion]))
    assert sign * (lesion - signal(phantom, "white")) > 100


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
