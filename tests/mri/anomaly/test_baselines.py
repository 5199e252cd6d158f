"""Baselines, registration and the cleaning of maps: each against its closed form."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.ndimage import gaussian_filter, label

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import IdentityStage, KLStage, UNet3D, VolumeBatch, VolumeDiffusion
from medmol_diffusion.mri.anomaly import METHODS, Exam, Method, Setting
from medmol_diffusion.mri.anomaly.postprocess import PUBLISHED, Cleaned, without_small
from medmol_diffusion.mri.anomaly.registration import REGISTRATIONS, Template, moments
from medmol_diffusion.mri.anomaly.residual import bright, l1
from medmol_diffusion.mri.anomaly.restore.autoencoder import AutoencoderRestore
from medmol_diffusion.mri.anomaly.restore.black import Black
from medmol_diffusion.mri.anomaly.restore.healthy_mean import HealthyMean
from medmol_diffusion.mri.anomaly.restore.pca import PCA
from tests.mri.anomaly.test_method import exam, white
from tests.mri.linear import drawn_scans, linear_autoencoder

SIZES = (28, 30, 26)
AS_IT_IS = Cleaned(median=1, rim=0.0)


def places() -> np.ndarray:
    return np.stack(np.meshgrid(*[np.arange(n, dtype=np.float64) for n in SIZES], indexing="ij"))


def head(matrix: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid with structure, and its mask: the scan whose voxel x shows what the first shows at ``matrix`` x."""
    at = np.concatenate([places(), np.ones((1, *SIZES))])
    x, y, z, _ = np.tensordot(np.eye(4) if matrix is None else matrix, at, 1)
    radius = ((x - 13) / 9) ** 2 + ((y - 14) / 11) ** 2 + ((z - 12) / 8) ** 2
    inside = 1 / (1 + np.exp(8 * (radius - 1)))
    bumps = sum(
        a * np.exp(-((x - i) ** 2 + (y - j) ** 2 + (z - k) ** 2) / 8)
        for a, i, j, k in ((0.7, 9, 12, 12), (-0.6, 17, 17, 10), (0.6, 13, 8, 15), (0.5, 15, 20, 14), (-0.5, 10, 17, 8))
    )
    return (-1 + inside * (1 + bumps)).astype(np.float32), radius < 1


def as_exam(scans: list[np.ndarray], heads: list[np.ndarray]) -> Exam:
    data, inside = (torch.from_numpy(np.stack(one))[:, None] for one in (scans, heads))
    batch = VolumeBatch(data.float(), torch.ones_like(inside), torch.arange(len(data)), ["scan"] * len(data))
    return Exam(batch, inside)


def setting_of(sizes: tuple[int, ...] = SIZES) -> Setting:
    return Setting(VolumeDiffusion(list(sizes), IdentityStage(), network=UNet3D(1, 1, [8], 1)).eval())


def known_affine(kind: str) -> np.ndarray:
    """About the head's centre."""
    generator = {
        "moments": [[0.08, 0.03, 0], [0.03, -0.06, 0.02], [0, 0.02, 0.1]],
        "similarity": [[0.06, 0.1, -0.05], [-0.1, 0.06, 0.08], [0.05, -0.08, 0.06]],
        "affine": [[0.08, 0.1, -0.02], [-0.06, -0.05, 0.07], [0.04, -0.06, 0.1]],
    }[kind]
    centre, matrix = np.array([13.0, 14.0, 12.0]), np.eye(4)
    matrix[:3, :3] = expm(np.array(generator))
    matrix[:3, 3] = centre + np.array([0.7, -0.9, 0.5]) - matrix[:3, :3] @ centre
    return matrix


@pytest.mark.parametrize(("kind", "within"), [("moments", 0.15), ("similarity", 0.1), ("affine", 0.1)])
def test_a_known_affine_is_recovered(kind: str, within: float) -> None:
    """Of maps that stretch without turning the moments know all; the corners of the head are compared, in voxels."""
    template, _ = Template.of(*([one] for one in head()), kind)
    true = known_affine(kind)
    found = template.place(*head(np.linalg.inv(true)))
    corners = np.array([[5, 4, 5, 1], [21, 24, 19, 1], [5, 24, 19, 1], [21, 4, 5, 1.0]]).T
    assert np.abs((found - true) @ corners).max() < within
    assert np.abs((np.eye(4) - true) @ corners)[:3].max() > 1


def test_moments_put_one_covariance_on_another_and_mirror_nothing() -> None:
    draw = np.random.default_rng(0)
    here, there = (m @ m.T + np.eye(3) for m in draw.standard_normal((2, 3, 3)))
    template = Template("moments", np.zeros(3), here, np.zeros((2, 2, 2)), np.ones((2, 2, 2), dtype=bool))
    matrix = template._by_moments(np.array([1.0, 2.0, 3.0]), there)
    np.testing.assert_allclose(matrix[:3, :3] @ here @ matrix[:3, :3].T, there, atol=1e-10)
    np.testing.assert_allclose(matrix[:3, :3], matrix[:3, :3].T, atol=1e-10)
    assert np.linalg.eigvalsh(matrix[:3, :3]).min() > 0
    assert matrix[:3, 3].tolist() == [1, 2, 3]


def test_the_moments_of_a_box_are_those_of_its_sides() -> None:
    box = np.zeros((20, 20, 20), dtype=bool)
    box[2:8, 3:13, 5:9] = True
    centre, covariance = moments(box)
    assert centre.tolist() == [4.5, 7.5, 6.5]
    np.testing.assert_allclose(covariance, np.diag([36, 100, 16]) / 12)


def test_a_lesion_does_not_pull_the_head_out_of_place() -> None:
    template, _ = Template.of(*([one] for one in head()), "affine")
    true = known_affine("affine")
    scan, mask = head(np.linalg.inv(true))
    scan[15:20, 8:13, 9:14] = 1.0
    corners = np.array([[5, 4, 5, 1], [21, 24, 19, 1], [5, 24, 19, 1], [21, 4, 5, 1.0]]).T
    assert np.abs((template.place(scan, mask) - true) @ corners).max() < 0.5


def test_there_and_back_touches_only_what_is_abnormal() -> None:
    template, _ = Template.of(*([one] for one in head()), "affine")
    scan, mask = head(np.linalg.inv(known_affine("affine")))
    same, _ = template.restore(scan, mask, np.zeros_like)
    assert np.array_equal(same, scan)


def test_an_unknown_registration_is_refused() -> None:
    with pytest.raises(InputError, match="similarity"):
        Template.of([head()[0]], [head()[1]], "magic")
    with pytest.raises(InputError, match="at least one"):
        Template.of([], [], "affine")


def healthy_heads(count: int, seed: int = 0) -> list[Exam]:
    """The head in smooth noise of standard deviation 0.1."""
    draw, (scan, mask) = np.random.default_rng(seed), head()
    found = []
    for _ in range(count):
        noise = gaussian_filter(draw.standard_normal(SIZES), 0.8)
        found.append(as_exam([(scan + 0.1 * noise / noise.std()).astype(np.float32)], [mask]))
    return found


def test_the_intensity_is_the_map_of_a_black_scan() -> None:
    scans = exam(2)
    answer = Method(Black(), postprocess=AS_IT_IS)(white(), scans)
    torch.testing.assert_close(answer.maps, (scans.data + 1).abs())


@pytest.mark.parametrize("registration", REGISTRATIONS)
def test_a_blob_of_three_sigma_has_a_z_score_of_three(registration: str) -> None:
    interpolated = registration in ("similarity", "affine")  # which smooths the noise
    setting, known = setting_of(), healthy_heads(5 if interpolated else 40)
    stage = HealthyMean(registration).fitted(setting, known)
    assert stage.mean is not None
    assert stage.std is not None
    sigma = np.median(stage.std[known[0].inside[0, 0].numpy()])
    assert sigma == pytest.approx(0.1, rel=0.3 if interpolated else 0.1)
    scan = stage.mean.copy()
    scan[11:16, 12:17, 10:15] += 3 * stage.std[11:16, 12:17, 10:15]
    scan[11:16, 6:9, 10:15] -= 2 * stage.std[11:16, 6:9, 10:15]
    planted = as_exam([scan], [known[0].inside[0, 0].numpy()])
    maps = Method(stage, l1, AS_IT_IS)(setting, planted).maps[0, 0]
    assert maps[12:15, 13:16, 11:14].mean().item() == pytest.approx(3, abs=0.2)
    assert maps[12:15, 7, 11:14].mean().item() == pytest.approx(2, abs=0.2)
    assert maps[planted.inside[0, 0]].median().item() < 0.1
    signed = Method(stage, bright, AS_IT_IS)(setting, planted).maps[0, 0]
    assert signed[12:15, 7, 11:14].max() < 0.1
    assert signed[12:15, 13:16, 11:14].mean().item() == pytest.approx(3, abs=0.2)


def test_healthy_scans_have_z_scores_of_mean_square_one() -> None:
    setting = setting_of()
    stage = HealthyMean("none").fitted(setting, healthy_heads(40))
    maps = Method(stage, l1, AS_IT_IS)(setting, new := healthy_heads(1, seed=1)[0]).maps
    assert maps[new.inside].square().mean().item() == pytest.approx(1, abs=0.15)


def test_a_head_that_lies_elsewhere_is_put_on_the_mean_and_the_map_comes_back() -> None:
    setting, true = setting_of(), known_affine("affine")
    stage = HealthyMean("affine").fitted(setting, healthy_heads(4))
    scan, mask = head(np.linalg.inv(true))
    moved = as_exam([scan], [mask])
    maps = {
        kind: Method(one, l1, AS_IT_IS)(setting, moved).maps[moved.inside].mean().item()
        for kind, one in (("affine", stage), ("none", HealthyMean("none").fitted(setting, healthy_heads(4))))
    }
    assert maps["affine"] < 0.3 * maps["none"]
    blob = scan.copy()
    x, y, z = np.rint(true @ (13, 14, 12, 1))[:3].astype(int)
    blob[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2] += 0.8
    found = Method(stage, bright, AS_IT_IS)(setting, as_exam([blob], [mask])).maps[0, 0].numpy()
    assert np.abs(np.unravel_index(found.argmax(), SIZES) - np.array([x, y, z])).max() <= 1


@pytest.mark.parametrize("registration", REGISTRATIONS)
def test_all_components_return_a_training_scan(registration: str) -> None:
    setting, known = setting_of(), healthy_heads(4)
    stage = PCA(1.0, registration).fitted(setting, known)
    assert stage.components is not None
    assert len(stage.components) == 3
    for one in known[:2]:
        torch.testing.assert_close(stage(setting, one).scans, one.data, atol=1e-4, rtol=0)
    stranger = healthy_heads(1, seed=7)[0]
    assert (stage(setting, stranger).scans - stranger.data).abs().max() > 0.1


def test_components_are_orthonormal_and_as_few_as_explain_the_share() -> None:
    """Variances 16, 4 and 1 along three directions: 76, 95 and 100 %."""
    setting, draw = setting_of((4, 4, 4)), np.random.default_rng(0)
    directions = np.linalg.qr(draw.standard_normal((64, 3)))[0].T.reshape(3, 4, 4, 4)
    steps = 0.05 * np.array([[4, 0, 0], [-4, 0, 0], [0, 2, 0], [0, -2, 0], [0, 0, 1], [0, 0, -1]])
    known = [as_exam([np.tensordot(step, directions, 1)], [np.ones((4, 4, 4), dtype=bool)]) for step in steps]
    for share, count in ((0.5, 1), (0.76, 1), (0.77, 2), (0.95, 2), (0.96, 3), (1.0, 3)):
        stage = PCA(share, "none").fitted(setting, known)
        assert stage.components is not None
        flat = stage.components.reshape(len(stage.components), -1)
        assert len(flat) == count
        np.testing.assert_allclose(flat @ flat.T, np.eye(count), atol=1e-5)
        np.testing.assert_allclose(np.abs(flat @ directions[:count].reshape(count, -1).T), np.eye(count), atol=1e-4)


def test_a_lesion_is_no_component_of_healthy_scans() -> None:
    setting, known = setting_of(), healthy_heads(6)
    stage = PCA(0.9, "moments").fitted(setting, known)
    scan = known[0].data[0, 0].numpy().copy()
    scan[11:15, 12:16, 10:14] += 1.0
    planted = as_exam([scan], [known[0].inside[0, 0].numpy()])
    maps = Method(stage, l1, AS_IT_IS)(setting, planted).maps[0, 0]
    assert maps[11:15, 12:16, 10:14].mean() > 0.7
    assert maps[planted.inside[0, 0]].median() < 0.1


@pytest.mark.parametrize("restore", [HealthyMean("moments"), PCA(0.5, "moments"), HealthyMean("none")])
def test_a_baseline_gives_a_scan_the_same_map_in_any_batch(restore: HealthyMean | PCA) -> None:
    setting = setting_of()
    method = Method(restore).fitted(setting, healthy_heads(3))
    pair = healthy_heads(2, seed=5)
    data, mask = (torch.cat([getattr(one.batch, name) for one in pair]) for name in ("data", "mask"))
    batch = VolumeBatch(data, mask, torch.arange(2), ["scan"] * 2)
    scans = Exam(batch, torch.cat([one.inside for one in pair]))
    alone = Exam(scans.batch.take(torch.tensor([1])), scans.inside[1:2])
    assert torch.equal(method(setting, scans).maps[1:2], method(setting, alone).maps)


@pytest.mark.parametrize("name", ["zscore", "pca"])
def test_baselines_that_learn_ask_for_healthy_scans(name: str) -> None:
    setting, scans = white(), exam(1)
    with pytest.raises(InputError, match="healthy scans: call fit, or give --healthy"):
        METHODS[name](setting, scans)
    with pytest.raises(InputError, match="at least 2 healthy scans"):
        METHODS[name].fitted(setting, [scans])
    with pytest.raises(InputError, match="share"):
        PCA(0.0)


def test_an_autoencoder_restores_what_its_latents_can_say() -> None:
    """The linear one: v -> W E[u | v] + b."""
    autoencoder = linear_autoencoder().float()
    batch = drawn_scans(3)
    scans = Exam(replace(batch, data=batch.data.float()), batch.mask)
    setting = Setting(VolumeDiffusion([2, 2, 2], IdentityStage(), network=UNet3D(1, 1, [16], 1)).eval())
    network = autoencoder.network
    mean, _ = network.encode(scans.data)
    expected = network.decode(mean)
    torch.testing.assert_close(AutoencoderRestore()(replace(setting, autoencoder=autoencoder), scans).scans, expected)
    latent = VolumeDiffusion([2, 2, 2], KLStage(autoencoder=autoencoder), network=UNet3D(2, 2, [16], 1)).eval()
    torch.testing.assert_close(AutoencoderRestore()(Setting(latent), scans).scans, expected)
    with pytest.raises(InputError, match="needs an autoencoder: take a model of"):
        AutoencoderRestore()(setting, scans)
    coarse = Setting(VolumeDiffusion([2, 2, 2], IdentityStage(), network=UNet3D(1, 1, [16], 1), spacing=2.0).eval())
    with pytest.raises(InputError, match="2 mm"):
        AutoencoderRestore()(replace(coarse, autoencoder=autoencoder), scans)


def test_components_of_few_voxels_are_gone_at_every_threshold() -> None:
    anomaly = np.zeros((20, 20, 20), dtype=np.float32)
    anomaly[2:5, 2:5, 2:5] = 0.5  # 27 voxels
    anomaly[3, 3, 3] = 2.5  # a peak of one voxel on them
    anomaly[10, 10, 10:13] = 2.0  # three voxels
    anomaly[11, 11, 13] = 2.0  # and one that touches them at a corner
    found = without_small(anomaly, 4)
    assert found[10, 10, 10:13].tolist() == [2, 2, 2]
    assert found[11, 11, 13] == 2
    assert np.all(found[2:5, 2:5, 2:5] == 0.5)
    found = without_small(anomaly, 5)
    assert found[9:13, 9:13, 9:14].max() == 0
    assert np.all(found[2:5, 2:5, 2:5] == 0.5)
    assert without_small(anomaly, 28).max() == 0
    assert without_small(np.zeros((3, 3, 3), dtype=np.float32), 8).max() == 0


def test_an_area_opening_lowers_only_and_leaves_no_small_component_where_it_looked() -> None:
    anomaly = (
        gaussian_filter(np.random.default_rng(0).standard_normal((24, 24, 24)), 0.7).clip(min=0).astype(np.float32)
    )
    found = without_small(anomaly, 10)
    assert np.all(found <= anomaly)
    above = np.sort(anomaly[anomaly > 0])
    for share in (0.5, 0.25, 2**-4, 2**-6):
        threshold = above[int(len(above) * (1 - share))]
        parts, count = label(found >= threshold, np.ones((3, 3, 3)))
        before = label(anomaly >= threshold, np.ones((3, 3, 3)))[0]
        large = np.isin(before, np.flatnonzero(np.bincount(before.ravel()) >= 10)[1:])
        assert np.array_equal(found >= threshold, large)
        assert count == 0 or np.bincount(parts.ravel())[1:].min() >= 10


def test_what_is_published_drops_small_components_too() -> None:
    inside = np.ones((25, 25, 25), dtype=bool)
    anomaly = np.zeros(inside.shape, dtype=np.float32)
    anomaly[12, 12, 12] = 1.0
    assert replace(PUBLISHED, median=1).clean(anomaly, inside).max() == 0
    assert Cleaned(median=1).clean(anomaly, inside).max() == 1
    for wrong in ({"median": 2}, {"rim": -0.1}, {"smallest": 0}):
        with pytest.raises(InputError, match="median"):
            Cleaned(**wrong)
