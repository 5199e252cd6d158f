"""The protocol: what is learnt from the healthy, what is measured on the others, and what it costs."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import torch

from medmol_diffusion.anomaly_page import Album, write_anomaly_page
from medmol_diffusion.errors import InputError
from medmol_diffusion.judging.bootstrap import Bootstrap
from medmol_diffusion.mri import HaarStage, UNet3D, Volume, VolumeDiffusion
from medmol_diffusion.mri.anomaly import METHODS, Detection, Exam, Method, Restored, Setting
from medmol_diffusion.mri.anomaly.calibrate import OTSU
from medmol_diffusion.mri.anomaly.evaluation import (
    Case,
    Evaluator,
    Figures,
    Measured,
    set_aside,
    tables_of,
    write_subjects,
)
from medmol_diffusion.mri.anomaly.postprocess import Cleaned
from medmol_diffusion.mri.anomaly.restore.one_shot import OneShot
from medmol_diffusion.mri.anomaly.restore.partial import Partial
from medmol_diffusion.mri.anomaly.restore.smoothing import Smoothing
from medmol_diffusion.mri.metrics import auroc, dice

SHAPE = (16, 16, 16)
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])


@pytest.fixture(scope="module")
def setting() -> Setting:
    torch.manual_seed(0)
    model = VolumeDiffusion(list(SHAPE), HaarStage(1), network=UNet3D(16, 16, [8], 1), spacing=4.0)
    model.first_stage.spectrum.std.fill_(0.3)
    model.data_mean.fill_(-0.3)
    return Setting(model.eval())


def case(seed: int, lesion: bool = False, subject: str | None = None) -> Case:
    """A ball in noise, with a bright spot if asked."""
    draw = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*[np.arange(16)] * 3, indexing="ij"))
    data = np.where(((places - 7.5) ** 2).sum(0) < 36, 40.0, 0.0) + 4 * np.abs(draw.standard_normal(SHAPE))
    truth = np.zeros(SHAPE)
    if lesion:
        x, y, z = draw.integers(6, 9, 3)
        truth[x : x + 3, y : y + 3, z : z + 3] = 1
        data = np.where(truth > 0, 60.0, data)
    name = subject or f"sub-{seed}"
    scan = Volume(data, AFFINE, {"source": f"{name}_FLAIR.nii.gz"})
    return Case(scan, name, Volume(truth, AFFINE) if lesion else None)


def measured(scores: np.ndarray, truth: np.ndarray, subject: str = "a", score: float = 0.0) -> Measured:
    """Of a map [X, Y, Z] with the threshold 0.5, all of it inside."""
    scan = Volume(scores, AFFINE)
    found = Detection(scan, scan, scan, np.ones(scores.shape, dtype=bool), score, None, 0.5)
    return Measured.of(Case(scan, subject, Volume(truth, AFFINE)), found, 0.1)


def test_a_perfect_and_an_inverted_map() -> None:
    lesion = np.zeros(SHAPE)
    lesion[5:9, 5:9, 5:9] = 1
    perfect = Figures.of([measured(lesion, lesion), measured(lesion, lesion, "b")], draws=5).estimates
    for name in ("auroc", "auprc", "dice", "best_dice", "dice_per_subject", "sensitivity"):
        assert perfect[name].value == 1, name
    assert perfect["false_lesions"].value == 0
    inverted = Figures.of([measured(1 - lesion, lesion)], draws=5).estimates
    assert inverted["auroc"].value == 0
    assert inverted["dice"].value == inverted["sensitivity"].value == 0


def test_pooled_and_per_subject_figures_against_a_hand_count() -> None:
    """Voxels of 4 mm: 0.064 ml each."""
    one, two, none = np.zeros((3, *SHAPE))
    one[2:4, 2:4, 2:4] = 1
    two[10:14, 10:14, 10:14] = 1
    two[3, 3, 3] = 1
    maps = [one.copy(), np.zeros(SHAPE), np.zeros(SHAPE)]
    maps[0][2:4, 2:4, 4] = 1  # 8 true, 4 false beside them
    maps[1][10:14, 10:14, 10:12] = 1  # 32 of 65
    maps[2][0, 0, :5] = 1  # false alarms
    found = Figures.of(
        [
            measured(m, t, s, score)
            for m, t, s, score in zip(maps, (one, two, none), "abc", (3.0, 1.0, 2.0), strict=True)
        ],
        draws=5,
    )
    value = {name: estimate.value for name, estimate in found.estimates.items()}
    assert value["dice"] == pytest.approx(2 * 40 / (12 + 32 + 5 + 8 + 65))
    assert value["dice_per_subject"] == pytest.approx((2 * 8 / 20 + 2 * 32 / 97) / 2)
    assert value["sensitivity"] == pytest.approx(2 / 3)
    assert value["false_lesions"] == pytest.approx(1 / 3)
    assert value["false_alarm_ml"] == pytest.approx(5 * 0.064)
    assert value["subject_auroc"] == 0.5
    assert [(share.value, count) for share, count in found.by_size[:2]] == [(0.0, 1), (1.0, 1)]
    assert found.by_size[2][1] == 1
    assert found.lesion_share == pytest.approx(73 / (3 * 16**3))
    assert found.subjects[1].lesion_ml == pytest.approx(65 * 0.064)
    pair = Figures.of([measured(maps[0], one, "a"), measured(maps[1], two, "a")], draws=5)
    assert len(pair.subjects) == 1
    assert np.isnan(found.estimates["auroc"].low)  # two subjects with lesions have no interval
    assert not np.isnan(found.estimates["false_lesions"].low)
    assert np.isnan(found.estimates["false_alarm_ml"].low)
    assert pair.estimates["dice_per_subject"].value == pytest.approx(2 * 40 / (12 + 32 + 8 + 65))


def test_a_gain_is_measured_subject_by_subject() -> None:
    """A map that is better by little on every subject, where subjects differ by much: its gain is above 0 as a whole,
    and the intervals of the two overlap."""
    draw = np.random.default_rng(2)
    truth = [draw.random((8, 8, 8)) < 0.2 for _ in range(8)]
    noise = [draw.normal(size=t.shape) for t in truth]
    worse, better = (
        Figures.of(
            [measured(n + (i / 2 + more) * t, t, str(i)) for i, (n, t) in enumerate(zip(noise, truth, strict=True))], 50
        )
        for more in (0.0, 0.2)
    )
    gain = better.gain(worse, "auroc_per_subject")
    ours, theirs = (one.estimates["auroc_per_subject"] for one in (better, worse))
    assert gain.value == ours.value - theirs.value
    assert 0 < gain.low < gain.value < gain.high
    assert theirs.high > ours.low
    back = worse.gain(better, "auroc_per_subject")
    assert (back.value, back.low, back.high) == pytest.approx((-gain.value, -gain.high, -gain.low))
    assert np.isnan(better.gain(worse, "false_alarm_ml").low)  # nobody is healthy


def test_intervals_are_those_of_a_bootstrap_over_subjects_with_all_their_voxels() -> None:
    draw = np.random.default_rng(1)
    truth = [draw.random((6, 6, 6)) < 0.2 for _ in range(6)]
    maps = [draw.normal(size=t.shape) + t for t in truth]
    found = Figures.of([measured(m, t, str(i)) for i, (m, t) in enumerate(zip(maps, truth, strict=True))], 20, seed=3)

    def drawn(units: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
        return np.concatenate([np.tile(one.ravel(), int(w)) for one, w in zip(units, weights, strict=True)])

    def of(weights: np.ndarray) -> list[float]:
        m, t = drawn(maps, weights), drawn(truth, weights)
        return [auroc(m.astype(np.float32), t), dice(m > 0.5, t)]

    low, high = Bootstrap(6, 20, 3).interval(of)
    for place, name in enumerate(("auroc", "dice")):
        assert found.estimates[name].low == pytest.approx(low[place], abs=1e-6)
        assert found.estimates[name].high == pytest.approx(high[place], abs=1e-6)


def test_masks_on_another_grid_and_tests_without_any_lesion_are_refused() -> None:
    scan = case(0).scan
    with pytest.raises(InputError, match="another grid"):
        Case(scan, "a", Volume(np.zeros((20, 20, 20)), AFFINE))
    with pytest.raises(InputError, match="none of the masks"):
        Figures.of([measured(np.ones(SHAPE), np.zeros(SHAPE))])


def test_the_two_sets_are_kept_apart(setting: Setting) -> None:
    healthy, sick = [case(0), case(1)], [case(2, lesion=True), case(3, lesion=True)]
    Evaluator(setting, healthy, sick)
    with pytest.raises(InputError, match="sub-1 is among the healthy scans and among those to be tested"):
        Evaluator(setting, healthy, [*sick, case(1, lesion=True)])
    with pytest.raises(InputError, match="1 is among the healthy"):
        Evaluator(setting, healthy, [case(7, lesion=True, subject="1")])  # a table's name of sub-1
    with pytest.raises(InputError, match="given as healthy and its mask marks a lesion"):
        Evaluator(setting, [*healthy, case(9, lesion=True)], sick)
    for sets in (([], sick), (healthy, [])):
        with pytest.raises(InputError, match="an evaluation needs"):
            Evaluator(setting, *sets)


def test_what_is_set_aside_is_neither_learnt_from_nor_split_within_a_subject() -> None:
    scans = [case(seed, subject=f"sub-{seed // 2}") for seed in range(10)]
    learnt, aside = set_aside(scans, 0.4)
    assert (len(learnt), len(aside)) == (6, 4)
    assert not {one.subject for one in learnt} & {one.subject for one in aside}
    assert set_aside(scans, 0.0) == (scans, [])
    with pytest.raises(InputError, match="leaves none"):
        set_aside(scans[:2], 0.5)
    with pytest.raises(InputError, match=r"in \[0, 1\)"):
        set_aside(scans, 1.0)


def test_nothing_of_the_test_reaches_what_is_learnt(setting: Setting) -> None:
    """Other test scans, or other masks: the same threshold, z-scores and answers. Stages that learn see the healthy."""
    seen: list[list[str]] = []

    class Curious:
        def fitted(self, setting: Setting, healthy: Sequence[Exam]) -> Self:
            seen.append([name for exam in healthy for name in exam.batch.names])
            return self

        def __call__(self, setting: Setting, exam: Exam) -> Restored:
            return Smoothing()(setting, exam)

    healthy = [case(0), case(1), case(2)]
    method = Method(Curious(), postprocess=Cleaned(1, 0.0))
    test = [case(3, lesion=True), case(4, lesion=True)]
    other = [replace(one, lesions=replace(one.scan, data=1 - one.truth)) for one in test]
    found = [Evaluator(setting, healthy, one, draws=5).evaluate(method) for one in (test, other, test[:1])]
    threshold, figures = [one.threshold for one in found], [one.figures for one in found]
    assert len(set(threshold)) == 1
    assert figures[0].subjects[0].score == figures[1].subjects[0].score == figures[2].subjects[0].score
    assert figures[0].estimates["auroc"].value == pytest.approx(1 - figures[1].estimates["auroc"].value)
    names = [f"sub-{i}_FLAIR.nii.gz" for i in range(3)]
    assert seen == [*([name for name in names if name != left] for left in names), names] * 3  # in turns, then all
    flagged = Evaluator(setting, healthy, test, quantile=0.9, draws=5).evaluate(method)
    assert flagged.threshold < threshold[0]


def test_network_calls_are_counted_and_time_is_taken(setting: Setting) -> None:
    evaluator = Evaluator(setting, [case(0)], [case(1, lesion=True), case(2, lesion=True)], draws=5)
    for method, calls in (
        (Method(Smoothing()), 0),
        (Method(OneShot()), 1),
        (Method(OneShot((0.0, 1.0))), 2),
        (Method(Partial(steps=2, repeats=3)), 9),  # two steps and x_hat, on three repeats
    ):
        cost = evaluator.evaluate(method).cost
        assert cost.calls == calls, method
        assert cost.seconds > 0
        assert cost.fit_seconds > 0
        assert cost.memory > 50 * 2**20  # torch alone is more


def test_models_that_read_no_other_contrast_are_not_shown_those_of_the_cases(setting: Setting) -> None:
    def beside(one: Case) -> Case:
        return replace(one, images={"T1w": one.scan})

    healthy, test = [case(0), case(1)], [case(2, lesion=True), case(3, lesion=True)]
    plain, shown = (
        Evaluator(setting, [how(one) for one in healthy], [how(one) for one in test], draws=5).evaluate("smoothing")
        for how in (lambda one: one, beside)
    )
    assert shown.figures.estimates["auroc"].value == plain.figures.estimates["auroc"].value
    assert shown.threshold == plain.threshold


def test_a_threshold_of_each_maps_own_is_said_to_be_none_of_the_healthy(setting: Setting) -> None:
    test = [case(3, lesion=True), case(4, lesion=True)]
    evaluator = Evaluator(setting, [case(0), case(1)], test, draws=5)
    own = evaluator.evaluate(Method(Smoothing(), calibrate=OTSU), "mine")
    fixed = evaluator.evaluate("smoothing")
    assert own.threshold is None
    assert own.figures.estimates["auroc"].value == fixed.figures.estimates["auroc"].value
    assert own.figures.estimates["dice"].value != fixed.figures.estimates["dice"].value
    assert "mine: at a threshold of each map's own" in tables_of([own, fixed], {}, evaluator)[0].meaning
    assert "map's own" not in tables_of([fixed], {}, evaluator)[0].meaning


def test_baselines_are_always_there_and_what_cannot_be_served_says_why(setting: Setting, tmp_path: Path) -> None:
    def magic(setting: Setting, exam: Exam) -> Restored:
        raise InputError("magic needs a wand")

    test = [case(3, lesion=True, subject="<b>"), case(4, lesion=True), case(5)]
    evaluator = Evaluator(setting, [case(0), case(1), case(2)], test, draws=10)
    album = Album()
    found, left_out = evaluator.run({"mine": Method(OneShot()), "magic": Method(magic)}, album.add)
    assert [one.name for one in found][:1] == ["mine"]
    assert {"smoothing"} <= {one.name for one in found if one.baseline} <= set(METHODS)
    assert left_out["magic"] == "magic: magic needs a wand"
    tables = tables_of(found, left_out, evaluator)
    for table in tables[:4]:
        assert table.header[-3:] == ("calls", "s", "GiB")
        assert {len(row) for row in table.rows} == {len(table.header)}
        assert [row[0] for row in table.rows][:1] == ["mine"]
    (gains,) = (table for table in tables if table.key == "gains")
    best = max((one.figures.estimates["auroc"].value, one.name) for one in found if one.baseline)
    assert gains.header[1] == f"AUROC, {best[1]}"
    assert gains.data["mine"]["auroc"]["value"] == found[0].figures.estimates["auroc"].value - best[0]
    page = write_anomaly_page(tmp_path / "report.html", "<i>model</i>", evaluator, found, tables, album)
    text = page.read_text()
    assert "<i>model" not in text
    assert "<b>" not in text
    assert "&lt;b&gt;" in text
    assert text.count("data:image/png") == 3 * (1 + len(found))
    with write_subjects(tmp_path / "subjects.csv", found).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * len(found)
    assert [row["subject"] for row in rows[:3]] == ["<b>", "sub-4", "sub-5"]
    assert (rows[2]["sick"], rows[2]["auroc"]) == ("False", "nan")
    assert float(rows[0]["auroc"]) == found[0].figures.subjects[0].auroc
