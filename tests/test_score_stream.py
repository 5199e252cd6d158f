"""`medmol score`: what is read is not held, and with --cache a score that was stopped goes on."""

import gc
import json
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from medmol_diffusion.cli import main
from medmol_diffusion.errors import InputError
from medmol_diffusion.judging.kept import Kept
from medmol_diffusion.molecules import Molecule, read_molecules, write_sdf, write_xyz
from medmol_diffusion.molecules.judge import judged
from medmol_diffusion.molecules.judge.judged import Judged
from medmol_diffusion.molecules.judge.pool import Results, each
from medmol_diffusion.molecules.judge.score_report import drawn, judged_table, rules_table
from medmol_diffusion.molecules.judge.strain import Relaxation, strain_scores
from medmol_diffusion.mri.judge.extractor import HaarFeatures
from medmol_diffusion.mri.judge.score_report import judge_scans
from tests.conftest import random_molecules, write_scans
from tests.molecules import geometries as known

MOLECULES = [known.WATER, known.METHANE, known.ETHENE, *random_molecules(20)]


@contextmanager
def silent(title: str, total: int) -> Any:
    yield lambda done: None


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judged, "CHUNK", 5)
    monkeypatch.setattr(judged, "ALONE", 16)  # all of them here, unless a test says otherwise


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Molecules with bonds, and records between them that are none."""
    write_sdf(MOLECULES[:7], tmp_path / "some.sdf")
    text = (tmp_path / "some.sdf").read_text() + "broken\n\n\n  9 9 nonsense\n$$$$\n" * 6
    write_sdf(MOLECULES[7:], tmp_path / "rest.sdf")
    (tmp_path / "some.sdf").write_text(text + (tmp_path / "rest.sdf").read_text())
    (tmp_path / "rest.sdf").unlink()
    return tmp_path / "some.sdf"


def stopped_at(target: str, calls: int) -> Any:
    """A patch that is as Ctrl-C after so many calls."""
    module, _, name = target.rpartition(".")
    whole, left = getattr(__import__(module, fromlist=[name]), name), iter(range(calls))

    def call(*arguments: Any, **named: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return whole(*arguments, **named)

    return mock.patch(target, call)


def test_a_stream_scores_as_a_list_does(file: Path, tmp_path: Path) -> None:
    molecules, bad = read_molecules(file)
    write_sdf(MOLECULES[2:9], tmp_path / "real.sdf")
    reference = read_molecules(tmp_path / "real.sdf")[0]
    ours, theirs = (Judged.of(path, ("distances", "bonds")) for path in (file, tmp_path / "real.sdf"))
    assert (len(ours), ours.bad, ours.unbonded) == (len(molecules), len(bad), None)
    assert list(ours.faults) == [str(one) for one in bad]
    for protocol in ("distances", "bonds"):
        for real, table in ((None, None), (reference, theirs)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert judged_table(ours, table, protocol, 0).data == rules_table(molecules, real, protocol, 0).data


def test_other_processes_judge_the_rest_of_a_long_file_in_its_order(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Judged.of(file, ("distances",))
    monkeypatch.setattr(judged, "ALONE", 1)
    with mock.patch.object(judged, "processes", ThreadPoolExecutor) as started:
        assert started is not None
        shared = Judged.of(file, ("distances",), workers=2)
    assert np.array_equal(shared.tables["distances"], alone.tables["distances"])
    assert np.array_equal(shared.good, alone.good)
    assert shared.faults == alone.faults


def test_no_more_molecules_than_a_chunk_are_held(tmp_path: Path) -> None:
    write_xyz(random_molecules(60), tmp_path / "many.xyz")
    gc.collect()
    before = sum(type(one) is Molecule for one in gc.get_objects())
    held: list[int] = []

    def look(done: int) -> None:
        held.append(sum(type(one) is Molecule for one in gc.get_objects()) - before)

    found = Judged.of(tmp_path / "many.xyz", ("distances",), progress=look)
    assert len(found) == 60
    assert len(held) == 12
    assert max(held) <= 2 * judged.CHUNK


def test_those_that_are_drawn_are_those_that_were_drawn_of_a_list(file: Path) -> None:
    every = read_molecules(file)[0]
    found = Judged.of(file, ("distances",))
    for limit in (3, 100):
        wanted = [molecule.name for molecule in drawn(every, limit, 7)]
        assert [molecule.name for molecule in found.draw(limit, 7)] == wanted
    assert [molecule.name for molecule in found.read([8, 0])] == [every[0].name, every[8].name]


def test_the_first_molecule_without_bonds_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_xyz(MOLECULES, tmp_path / "some.xyz")
    with pytest.raises(SystemExit):
        main(["score", str(tmp_path / "some.xyz"), "--protocol", "bonds"])
    assert "molecule 1 has no bonds" in " ".join(capsys.readouterr().err.split())
    assert set(Judged.of(tmp_path / "some.xyz", ("distances", "bonds")).tables) == {"distances"}


def test_a_score_that_was_stopped_goes_on(file: Path, tmp_path: Path) -> None:
    arguments = ["score", str(file), "--json"]
    main([*arguments, str(tmp_path / "whole.json")])
    arguments = ["score", str(file), "--cache", str(tmp_path / "cache"), "--json", str(tmp_path / "again.json")]
    with stopped_at("medmol_diffusion.molecules.judge.judged.judge_records", 3), pytest.raises(SystemExit):
        main(arguments)
    assert not (tmp_path / "again.json").exists()
    with mock.patch.object(judged, "judge_records", side_effect=judged.judge_records) as judging:
        main(arguments)
    assert [call.args[1] for call in judging.call_args_list] == [15, 20, 25]
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads((tmp_path / "whole.json").read_text())


def test_a_file_that_has_changed_is_judged_anew(file: Path, tmp_path: Path) -> None:
    before = Judged.of(file, ("distances",), cache=tmp_path / "cache")
    assert Judged.of(file, ("distances",), cache=tmp_path / "cache").kept == before.kept
    write_sdf(MOLECULES[:4], file)
    assert len(Judged.of(file, ("distances",), cache=tmp_path / "cache")) == 4
    seen = file.stat()
    os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns + 1))
    assert Kept.of(tmp_path, [file]) != Kept.of(tmp_path, [file], protocol="bonds")
    assert Kept.of(None, [file]).folder is None


def test_slow_measures_go_on_where_they_were_stopped(tmp_path: Path) -> None:
    molecules, kept = random_molecules(50), Kept(tmp_path / "kept")

    def size(molecule: Molecule) -> int:
        return molecule.num_atoms

    def once(left: int) -> Callable[[Molecule], int]:
        turns = iter(range(left))

        def function(molecule: Molecule) -> int:
            if next(turns, None) is None:
                raise KeyboardInterrupt
            return size(molecule)

        return function

    with pytest.raises(KeyboardInterrupt):
        each(once(40), molecules, kept=Results(kept, "size"))
    done: list[int] = []
    found = each(once(50 - 32), molecules, progress=done.append, kept=Results(kept, "size"))
    assert found == [molecule.num_atoms for molecule in molecules]
    assert done[0] == 33  # two chunks of 16 were kept
    assert done[-1] == 50
    assert each(once(0), molecules, kept=Results(kept, "size")) == found


def test_strain_that_was_kept_is_the_same(tmp_path: Path) -> None:
    some = [known.ETHENE, known.METHANE, replace(known.WATER, atomic_numbers=np.array([2, 2, 2]))]
    first, again = (strain_scores(some, kept=Kept(tmp_path), name="strain") for _ in range(2))
    assert (first.relaxed, first.unsound) == (2, 1)
    assert json.dumps(again.to_dict()) == json.dumps(first.to_dict())
    kept = json.loads(next(tmp_path.glob("strain-*.json")).read_text())
    assert [one if isinstance(one, str) else type(Relaxation(**one)) for one in kept] == [Relaxation] * 2 + ["unsound"]


def test_scans_that_were_measured_are_not_read_again(tmp_path: Path) -> None:
    generated, real = write_scans(tmp_path / "made", 5), write_scans(tmp_path / "real", 6)
    (generated / "broken.nii.gz").write_bytes(b"no scan")
    extractor = HaarFeatures()

    def judge(cache: Path | None, seen: list[int]) -> Any:
        def features(volumes: torch.Tensor) -> torch.Tensor:
            if cache is not None and len(seen) == 3 and not (cache / "stopped").exists():
                (cache / "stopped").touch()
                raise KeyboardInterrupt
            seen.append(1)
            return HaarFeatures.forward(extractor, volumes)

        with mock.patch.object(extractor, "forward", features), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = judge_scans(generated, real, extractor, silent, real, full=True, cache=cache)
        assert any("broken.nii.gz" in str(one.message) for one in said)
        return json.dumps({table.key: table.data for table in found.tables})  # NaN is not itself

    whole = judge(None, [])
    with pytest.raises(KeyboardInterrupt):
        judge(tmp_path / "cache", [])
    seen: list[int] = []
    assert judge(tmp_path / "cache", seen) == whole
    assert len(seen) == 5 + 6 - 3
    seen.clear()
    assert judge(tmp_path / "cache", seen) == whole
    assert not seen


def test_an_empty_or_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.sdf").write_text("broken\n\n\n  9 9 nonsense\n$$$$\n" * 2)
    with pytest.raises(InputError, match="none of its 2 records can be read; the first: "):
        Judged.of(tmp_path / "bad.sdf", ("distances",))
