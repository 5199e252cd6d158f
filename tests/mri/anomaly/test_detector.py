"""Detection: maps in the scan's own space, scores, calibration."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import AnomalyDetector, HaarStage, Translation, UNet3D, Volume, VolumeDiffusion
from medmol_diffusion.mri.anomaly import METHODS, Ensemble, Method, Unserved
from medmol_diffusion.mri.anomaly.calibrate import OTSU, Calibrate
from medmol_diffusion.mri.anomaly.restore.pca import PCA
from medmol_diffusion.mri.picture import detection_sheet, scan_sheet
from medmol_diffusion.mri.transforms import otsu

OF_OTHER_MODELS = {"autoencoder", "counterfactual", "counterfactual_otsu", "translate"}
LEARNERS = {"curvature", "ensemble", "inpaint", "ood", "pca", "relative", "relative_bright", "zscore"}
PNG = b"\x89PNG"


def head(bright: tuple[int, int, int] | None = None, seed: int = 0) -> Volume:
    """A smooth ball in noise, 2 mm voxels, in an orientation that is not the model's; with a bright spot if asked."""
    draw = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*[np.arange(n) for n in (30, 26, 22)], indexing="ij"))
    centre = np.array([14.5, 12.5, 10.5]).reshape(3, 1, 1, 1)
    ball = ((places - centre) ** 2).sum(0) < 9**2
    data = np.where(ball, 40.0, 0.0) + 4 * np.abs(draw.standard_normal(ball.shape))
    if bright is not None:
        x, y, z = bright
        data[x - 1 : x + 3, y - 1 : y + 3, z - 1 : z + 3] = 300.0
    return Volume(data, np.diag([-2.0, 2.0, 2.0, 1.0]))


@pytest.fixture(scope="module")
def model() -> VolumeDiffusion:
    torch.manual_seed(0)
    made = VolumeDiffusion([16, 16, 16], HaarStage(1), network=UNet3D(16, 16, [8], 1), spacing=4.0)
    made.first_stage.spectrum.std.fill_(0.3)
    made.data_mean.fill_(-0.3)
    return made.eval()


@pytest.mark.parametrize("method", sorted(set(METHODS) - OF_OTHER_MODELS))
def test_the_map_lies_on_the_scans_own_grid_and_finds_a_bright_spot(model: VolumeDiffusion, method: str) -> None:
    scan = head(bright=(12, 14, 9))
    detector = AnomalyDetector(model, method)
    if method in LEARNERS:
        detector.fit(
            [head((20, 14, 12), seed=1), head((12, 7, 12), seed=2), head((16, 18, 12), seed=3)]
        )  # as bright, elsewhere
    found = detector.detect(scan)
    assert found.map.same_grid(scan)
    assert found.restored.same_grid(scan)
    peak = np.unravel_index(int(found.map.data.argmax()), found.map.shape)
    near = 6 if method == "perceptual" else 4  # which looks through coarse bands, too
    assert np.linalg.norm(np.array(peak) - (12.5, 14.5, 9.5)) < near


def test_the_restored_scan_has_the_scans_own_intensities(model: VolumeDiffusion) -> None:
    """A blur of sigma = 2 voxels of 4 mm keeps the mean of a head of 36 mm, in whatever unit."""
    scan = head()
    loud = replace(scan, data=1000 + 50 * scan.data)
    for volume in (scan, loud):
        found = AnomalyDetector(model, "smoothing").detect(volume)
        low, high = np.percentile(volume.data, [0.5, 99.5])
        assert found.restored.data.mean() == pytest.approx(volume.data.mean(), abs=0.05 * (high - low))
        assert found.map.data.max() < 2


def test_scores_and_predictions_are_those_of_scikit_learn(model: VolumeDiffusion) -> None:
    scans = [head(seed=seed) for seed in range(4)]
    detector = AnomalyDetector(model, "smoothing")
    with pytest.raises(InputError, match="call fit first"):
        detector.predict(scans)
    assert detector.fit(scans) is detector
    healthy = detector.score_samples(scans)
    assert np.array_equal(healthy, [-detector.detect(scan).score for scan in scans])
    assert detector.predict(scans, quantile=1.0).tolist() == [1] * 4
    least = detector.predict(scans, quantile=0.0)
    assert least.tolist() == np.where(healthy == healthy.max(), 1, -1).tolist()
    detector.healthy_scores = -healthy[0] + np.array([-1.0, -0.5, 1.0, 2.0])
    assert [int(detector.predict(scans[:1], q)[0]) for q in (0.25, 0.75)] == [-1, 1]
    with pytest.raises(InputError, match=r"quantile = 1\.5"):
        detector.predict(scans, quantile=1.5)


def test_calibration_fixes_the_threshold_and_the_percentile(model: VolumeDiffusion) -> None:
    detector = AnomalyDetector(model, "smoothing")
    with pytest.raises(InputError, match="at least one healthy scan"):
        detector.fit([])
    detector.fit([head()], quantile=0.9)
    healthy = detector.detect(head())
    assert detector.threshold == pytest.approx(np.quantile(healthy.map.data[healthy.inside], 0.9))
    assert healthy.percentile == 0
    assert detector.healthy_scores is not None
    detector.healthy_scores = np.array([healthy.score - 1, healthy.score - 0.5, healthy.score + 1, healthy.score + 2])
    assert detector.detect(head()).percentile == 50


def test_a_brain_mask_says_where_to_look(model: VolumeDiffusion) -> None:
    scan = head(bright=(12, 14, 9))
    half = np.zeros(scan.shape)
    half[:, :10] = 1  # without the bright spot
    found = AnomalyDetector(model, "smoothing").detect(scan, replace(scan, data=half))
    assert not found.inside[:, 13:].any()
    assert found.map.data[10:16, 13:18, 7:13].max() == 0
    with pytest.raises(InputError, match="marks no voxel"):
        AnomalyDetector(model, "smoothing").detect(scan, replace(scan, data=np.zeros(scan.shape)))


def test_the_threshold_is_what_the_methods_calibrate_makes_of_healthy_voxels_or_of_the_maps_own(
    model: VolumeDiffusion,
) -> None:
    def spread(voxels: np.ndarray, share: float) -> float:
        return float(np.median(voxels) + 10 * share * voxels.std())

    method, healthy, scan = METHODS["smoothing"], head(), head(bright=(12, 14, 9))
    assert isinstance(method, Method)
    ours = AnomalyDetector(model, replace(method, calibrate=Calibrate(spread))).fit([healthy], quantile=0.5)
    maps = ours.detect(healthy)
    assert ours.threshold == pytest.approx(spread(maps.map.data[maps.inside], 0.5))
    own = AnomalyDetector(model, replace(method, calibrate=OTSU))
    found = [own.detect(one) for one in (healthy, scan)]
    assert [one.threshold for one in found] == [otsu(one.map.data[one.inside]).threshold for one in found]
    assert found[0].threshold != found[1].threshold
    assert own.fit([healthy]).threshold is None
    assert own.detect(scan).threshold == found[1].threshold
    assert found[1].flagged[12:14, 14:16, 9:11].all()


def test_otsu_parts_two_heaps_and_finds_nothing_in_one_value() -> None:
    draw = np.random.default_rng(0)
    heaps = np.concatenate([draw.normal(1.0, 0.1, 900), draw.normal(3.0, 0.1, 100)])
    found = otsu(heaps)
    assert (heaps > found.threshold).sum() == 100
    assert (found.below, found.above) == (pytest.approx(1.0, abs=0.02), pytest.approx(3.0, abs=0.03))
    assert not (np.zeros(5) > otsu(np.zeros(5)).threshold).any()


def test_the_mask_is_what_lies_above_the_threshold_of_the_healthy(model: VolumeDiffusion) -> None:
    detector = AnomalyDetector(model, "smoothing")
    scan = head(bright=(12, 14, 9))
    with pytest.raises(InputError, match="call fit first"):
        detector.detect(scan).to_mask()
    with pytest.raises(InputError, match=r"quantile = 1\.0 must lie between 0 and 1"):
        detector.fit([head()], quantile=1.0)
    detector.fit([head()], quantile=0.95)
    found = detector.detect(scan)
    assert found.threshold == detector.threshold
    mask = found.to_mask()
    assert mask.same_grid(scan)
    assert np.array_equal(mask.data > 0, (found.map.data > found.threshold) & found.inside)
    assert 0 < found.flagged.sum() < found.inside.sum() / 2


def test_images_are_for_models_of_translation_and_are_asked_for_by_name() -> None:
    torch.manual_seed(0)
    network = UNet3D(24, 16, [8], 1)
    made = VolumeDiffusion([16, 16, 16], HaarStage(1), network=network, spacing=4.0, task=Translation("T1w")).eval()
    made.first_stage.spectrum.std.fill_(0.1)
    detector, scan = AnomalyDetector(made), head(bright=(12, 14, 9))
    with pytest.raises(Unserved, match="the model reads T1w of the same head: give it"):
        detector.detect(scan)
    with pytest.raises(InputError, match="an image of the name T2w is given, and the model reads T1w"):
        detector.detect(scan, images={"T2w": scan})
    one, other = (detector.detect(scan, images={"T1w": image}) for image in (scan, head()))
    assert one.map.same_grid(scan)
    assert np.abs(one.restored.data - other.restored.data).max() > 0
    free = VolumeDiffusion([16, 16, 16], HaarStage(1), network=UNet3D(16, 16, [8], 1), spacing=4.0)
    with pytest.raises(InputError, match="reads no other contrast"):
        AnomalyDetector(free).detect(scan, images={"T1w": scan})


def test_an_unknown_method_is_named(model: VolumeDiffusion) -> None:
    with pytest.raises(InputError, match="one_shot"):
        AnomalyDetector(model, "magic")


def test_a_method_that_learns_is_calibrated_on_scans_it_has_not_learnt_from(model: VolumeDiffusion) -> None:
    """PCA of all components returns what it has learnt from: on such scans its threshold would be near 0."""
    method = Method(PCA(share=1.0, registration="none"))
    detector, scans = AnomalyDetector(model, method), [head(seed=seed) for seed in range(4)]
    detector.fit(scans, quantile=0.95)
    assert detector.threshold is not None
    assert detector.healthy_scores is not None
    known = [detector.detect(scan) for scan in scans]  # by the method that has learnt from all
    assert detector.threshold > 5 * max(np.quantile(one.map.data[one.inside], 0.95) for one in known)
    assert detector.healthy_scores.min() > max(one.score for one in known)
    fresh = detector.detect(head(seed=9))
    assert detector.threshold == pytest.approx(np.quantile(fresh.map.data[fresh.inside], 0.95), rel=0.4)
    with pytest.raises(Unserved, match="two subjects at least"):
        detector.fit(scans, subjects=["one"] * 4)


@pytest.mark.parametrize("method", sorted(LEARNERS))
def test_a_method_that_learns_asks_for_healthy_scans(model: VolumeDiffusion, method: str) -> None:
    with pytest.raises(InputError, match="healthy scans: call fit, or give --healthy"):
        AnomalyDetector(model, method).detect(head())


@pytest.mark.parametrize("method", sorted(OF_OTHER_MODELS))
def test_a_method_says_what_model_it_needs(model: VolumeDiffusion, method: str) -> None:
    with pytest.raises(InputError, match="a model of"):
        AnomalyDetector(model, method).detect(head())


def test_an_ensemble_of_ones_own_is_a_method(model: VolumeDiffusion) -> None:
    scan = head(bright=(12, 14, 9))
    detector = AnomalyDetector(model, Ensemble((METHODS["smoothing"], METHODS["intensity"]), "harmonic"))
    found = detector.detect(scan)
    assert found.map.provenance["method"] == "Ensemble"
    peak = np.unravel_index(int(found.map.data.argmax()), found.map.shape)
    assert np.linalg.norm(np.array(peak) - (12.5, 14.5, 9.5)) < 4


def test_pictures_are_png(model: VolumeDiffusion) -> None:
    scan = head(bright=(12, 14, 9))
    found = AnomalyDetector(model, "smoothing").detect(scan)
    truth = replace(scan, data=(scan.data > 150).astype(np.float32))
    assert detection_sheet(found, truth).startswith(PNG)
    assert scan_sheet({"one": [scan], "two": [scan, scan]}).startswith(PNG)
