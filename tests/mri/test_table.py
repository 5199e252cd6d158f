"""Tables, subjects and splits: what is known of a scan, and where it goes."""

import json
from pathlib import Path

import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import Volume, VolumeData
from medmol_diffusion.mri.bids import session_of, subject_of, suffix_of
from medmol_diffusion.mri.split import SubjectSplit
from medmol_diffusion.mri.table import Table
from tests.mri.series import write_series


def scan(path: Path, seed: int = 0) -> Path:
    return Volume(np.random.default_rng(seed).normal(size=(6, 5, 4)), np.eye(4)).write(path)


def table(path: Path, text: str) -> Table:
    path.write_text(text)
    return Table.read(path)


@pytest.mark.parametrize(
    ("name", "subject", "session", "suffix"),
    [
        ("sub-07/ses-1/anat/sub-07_ses-1_acq-x_T1w.nii.gz", "sub-07", "ses-1", "T1w"),
        ("Subj10_FLAIR.nii.gz", "Subj10", "", "FLAIR"),
        ("Subj10_WMH-DLWMLS_space-FLAIR.nii.gz", "Subj10", "", ""),
        ("BraTS_001/BraTS_001_t1ce.nii.gz", "BraTS_001", "", "t1ce"),
        ("IXI012-HH-1211_T1w.nii.gz", "IXI012-HH-1211", "", "T1w"),
        ("hippocampus_001.nii.gz", "hippocampus_001", "", ""),
        ("patient07/T1.nii.gz", "patient07", "", ""),
        ("T1.nii.gz", "T1", "", ""),
        ("patient07/study/t1_mprage", "patient07", "", "mprage"),
    ],
)
def test_a_name_says_whose_scan_it_is_and_which(name: str, subject: str, session: str, suffix: str) -> None:
    assert (subject_of(name), session_of(name), suffix_of(name)) == (subject, session, suffix)


def test_missing_values_are_no_values(tmp_path: Path) -> None:
    text = "participant_id\tage\tsex\nsub-01\t71\tF\nsub-02\tn/a\t\nsub-03\tNaN\tM\n"
    found = table(tmp_path / "participants.tsv", text)
    assert found.row("sub-01/anat/sub-01_T1w.nii.gz") == {"participant_id": "sub-01", "age": "71", "sex": "F"}
    assert found.row("sub-02_T1w.nii.gz") == {"participant_id": "sub-02"}
    assert found.row("sub-09_T1w.nii.gz") == {}
    assert found.columns == ["age", "sex"]
    assert found.unused(["sub-01_T1w.nii.gz", "sub-03_T1w.nii.gz"]) == 1


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_rows_are_found_by_file_then_by_subject_and_session(delimiter: str, tmp_path: Path) -> None:
    def lines(*rows: str) -> str:
        return "\ufeff" + "\n".join(rows).replace(",", delimiter) + "\n"

    by_file = table(tmp_path / "a.csv", lines("id,image,age", "S1,x/S1_T1w.nii.gz,70", "S1,S1_FLAIR,71", "S2,,80"))
    assert by_file.row("x/S1_T1w.nii.gz")["age"] == "70"
    assert by_file.row("S1_FLAIR.nii.gz")["age"] == "71"
    assert by_file.row("S1_T2w.nii.gz") == {"id": "S1"}  # of the subject, whose rows agree on nothing else
    assert by_file.row("S2_T2w.nii.gz")["age"] == "80"
    assert by_file.subject_named("S1_FLAIR.nii.gz") == "S1"
    by_session = table(tmp_path / "b.csv", lines("participant_id,session_id,age", "01,1,70", "sub-01,ses-2,72"))
    ages = [by_session.row(f"sub-01/ses-{k}/anat/sub-01_ses-{k}_T1w.nii.gz").get("age") for k in (1, 2, 3)]
    assert ages == ["70", "72", None]


def test_damaged_tables_are_named(tmp_path: Path) -> None:
    for text, said in (
        ("age,sex\n1,F\n", r"columns age, sex, none of which names a scan"),
        ("", "of no name"),
        ("id,age\nS1,2,3\n", "Line 2 .* more or fewer columns"),
        ("id,age\nS0,1\nS1\n", "Line 3 .* more or fewer columns"),
    ):
        with pytest.raises(InputError, match=said):
            table(tmp_path / "t.csv", text)
    (tmp_path / "t.csv").write_bytes(b"id,age\nJos\xe9,3\n")
    with pytest.raises(InputError, match="UTF-8"):
        Table.read(tmp_path / "t.csv")
    with pytest.raises(InputError, match="cannot be read"):
        Table.read(tmp_path / "nowhere.csv")


def test_covariates_follow_their_scan_into_its_part(tmp_path: Path) -> None:
    for k in range(6):
        scan(tmp_path / f"a{k}.nii.gz", k)
    # Two scans a subject, which only the table knows.
    rows = "".join(f"a{k}.nii.gz,P{k // 2},{60 + k}\n" for k in range(6))
    (tmp_path / "known.csv").write_text(f"file,subject,age\n{rows}")
    data = VolumeData(str(tmp_path), [8, 8, 8], table=str(tmp_path / "known.csv"), validation=0.3, test=0.3)
    data.setup()
    for part in (data.train, data.validation, data.test):
        assert len(part) == 2
        assert len(set(part.subjects)) == 1
        for name, covariates in zip(part.names, part.covariates, strict=True):
            assert covariates["age"] == str(60 + int(name[1]))
    assert data.participants["P0"] == {"subject": "P0"}
    (tmp_path / "other.csv").write_text("file,age\nz.nii.gz,1\n")
    with pytest.raises(InputError, match="names none of the scans"):
        VolumeData(str(tmp_path), [8, 8, 8], table=str(tmp_path / "other.csv")).setup()


def test_a_bids_folder_gives_its_own_scans_of_one_suffix(tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text("{}")
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-01\t50\nsub-02\t60\nsub-03\tn/a\n")
    for k, subject in enumerate(("sub-01", "sub-02", "sub-03")):
        for j, suffix in enumerate(("T1w", "FLAIR")):
            scan(tmp_path / subject / "anat" / f"{subject}_{suffix}.nii.gz", 10 * k + j)
    scan(tmp_path / "derivatives" / "x" / "sub-01" / "anat" / "sub-01_desc-x_T1w.nii.gz", 99)
    data = VolumeData(str(tmp_path), [8, 8, 8], suffix="T1w", validation=0.3, test=0.3)
    data.setup()
    parts = (data.train, data.validation, data.test)
    names = {part.names[i]: part.covariates[i].get("age") for part in parts for i in range(len(part))}
    assert names == {f"sub-0{k}/anat/sub-0{k}_T1w.nii.gz": age for k, age in ((1, "50"), (2, "60"), (3, None))}
    with pytest.raises(InputError, match=r"No scan in .* is a T2w: names end in FLAIR, T1w"):
        VolumeData(str(tmp_path), [8, 8, 8], suffix="T2w").setup()


def test_series_and_frames_are_data_too(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(1, 400, (6, 5, 4))
    for k in range(3):
        write_series(tmp_path / f"p{k}" / "study", data + k, SeriesDescription="t1")
        for file in write_series(tmp_path / f"p{k}" / "more", 2 * data + k, SeriesDescription="flair"):
            file.rename(tmp_path / f"p{k}" / "study" / f"flair-{file.name}")
    module = VolumeData(str(tmp_path), [8, 8, 8], series="flair", validation=0.3, test=0.3)
    module.setup()
    assert {name for part in (module.train, module.validation, module.test) for name in part.subjects} == {
        "p0",
        "p1",
        "p2",
    }


def test_a_split_file_says_who_trains_whatever_the_modality(tmp_path: Path) -> None:
    for k in range(5):
        for j, suffix in enumerate(("T1w", "FLAIR")):
            scan(tmp_path / "scans" / f"S{k}_{suffix}.nii.gz", 10 * k + j)
    first = VolumeData(str(tmp_path / "scans"), [8, 8, 8], suffix="T1w", validation=0.2, test=0.4, split_seed=3)
    first.setup()
    first.draw_split().write(tmp_path / "split.json")
    assert list(json.loads((tmp_path / "split.json").read_text())) == ["train", "validation", "test"]
    for suffix in ("T1w", "FLAIR"):
        data = VolumeData(str(tmp_path / "scans"), [8, 8, 8], suffix=suffix, split_file=str(tmp_path / "split.json"))
        data.setup()
        for part in ("train", "validation", "test"):
            assert getattr(data, part).subjects == getattr(first, part).subjects
    scan(tmp_path / "scans" / "S9_T1w.nii.gz", 99)
    with pytest.raises(InputError, match=r"no subject S9 \(1 of 6 are not in it\)"):
        VolumeData(str(tmp_path / "scans"), [8, 8, 8], suffix="T1w", split_file=str(tmp_path / "split.json")).setup()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no split file"),
        ('{"train": ["a"], "validation": []}', "needs train, validation and test"),
        ('{"train": [1], "validation": [], "test": []}', "no split file"),
        ('{"train": ["a"], "validation": ["a"], "test": []}', "names subject a more than once"),
    ],
)
def test_damaged_splits_are_named(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(InputError, match=said):
        SubjectSplit.read(tmp_path / "split.json")
    with pytest.raises(InputError, match="no split file"):
        SubjectSplit.read(tmp_path / "nowhere.json")
