"""`medmol sample`: an item depends on (seed, place) alone, a command that was stopped goes on, processes share it."""

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from medmol_diffusion.cli import main
from medmol_diffusion.cli.partial import Partial
from medmol_diffusion.cli.ranks import Ranks
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import Molecule, MoleculeDiffusion
from medmol_diffusion.mri import VolumeDiffusion
from medmol_diffusion.training.sampling import Part, in_order

COUNT = 12


def command(run: Path, out: Path, *more: str) -> list[str]:
    return ["sample", str(run), "-n", str(COUNT), "--steps", "2", "-o", str(out), *more]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def whole(molecule_run: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a command that was never stopped."""
    out = tmp_path_factory.mktemp("whole") / "out.sdf"
    main(command(molecule_run, out))
    assert not out.with_name("out.sdf.partial").exists()
    return out.read_bytes()


@pytest.fixture
def stopped() -> Callable[[int, BaseException], Any]:
    """Ends the command by an error when it has written so many parts."""

    def at(parts: int, error: BaseException) -> Any:
        save, left = Partial.save, iter(range(parts))

        def saved(self: Partial, number: int, count: int, content: Any) -> None:
            if next(left, None) is None:
                raise error
            save(self, number, count, content)

        return mock.patch.object(Partial, "save", saved)

    return at


def test_a_molecule_depends_on_seed_and_place_not_on_blocks_batches_or_count(molecule_run: Path) -> None:
    """Other batches sum in another order: positions agree to float32, elements exactly."""
    model = MoleculeDiffusion.from_pretrained(molecule_run)
    together = model.sample(COUNT, steps=3, seed=5)
    for other in (
        model.sample(COUNT, steps=3, seed=5, block=5),
        model.sample(COUNT, steps=3, seed=5, block=1),
        model.sample(COUNT, steps=3, seed=5, pair_budget=1),
        model.sample(COUNT - 5, steps=3, seed=5),
    ):
        for one, same in zip(together, other, strict=False):
            assert np.array_equal(one.atomic_numbers, same.atomic_numbers)
            np.testing.assert_allclose(one.positions, same.positions, atol=1e-4)


def test_what_is_asked_of_each_molecule_goes_with_its_place(molecule_run: Path) -> None:
    model = MoleculeDiffusion.from_pretrained(molecule_run)
    sizes = [3, 9, 4, 8, 5, 7, 6]
    assert [one.num_atoms for one in model.stream(7, sizes, steps=1, block=3)] == sizes
    assert {one.num_atoms for one in model.stream(7, 6, steps=1, block=3)} == {6}
    formulas = ["CH4", "H2O", "C2H6", "NH3"]
    made = [len(one.atomic_numbers) for one in model.stream(4, formula=formulas, steps=1, block=3)]
    assert made == [5, 3, 8, 4]


def test_a_stream_makes_no_more_than_is_taken_and_tells_faults_at_once(molecule_run: Path, volume_run: Path) -> None:
    for run, size, most in ((molecule_run, {"block": 4}, 4), (volume_run, {"batch_size": 4}, 4)):
        model: Any = (MoleculeDiffusion if run == molecule_run else VolumeDiffusion).from_pretrained(run)
        done: list[int] = []
        stream = model.stream(10**6, steps=1, progress=done.append, **size)
        next(stream)
        assert not done or done[-1] <= most
        with pytest.raises(InputError, match="magic"):
            model.stream(10**6, sampler="magic")


def test_parts_that_are_shared_out_are_those_of_one_process_to_the_last_bit(
    molecule_run: Path, volume_run: Path
) -> None:
    for kind, run, size in ((MoleculeDiffusion, molecule_run, {"block": 8}), (VolumeDiffusion, volume_run, {})):
        model: Any = kind.from_pretrained(run)
        alone = model.sample(20, steps=2, seed=3, **size)
        for count in (2, 4):
            shares = [model.parts(20, steps=2, seed=3, wanted=Ranks(rank, count).has, **size) for rank in range(count)]
            parts = sorted((part for share in shares for part in share), key=lambda part: part.number)
            joined = list(in_order(parts))
            assert len(joined) == len(alone)
            for one, other in zip(joined, alone, strict=True):
                field = "positions" if isinstance(one, Molecule) else "data"
                assert np.array_equal(getattr(one, field), getattr(other, field))


def test_items_come_in_order_and_end_before_the_first_that_is_missing() -> None:
    parts = [Part(0, [2, 0], ["c", "a"]), Part(1, [1, 4], ["b", "e"])]
    assert "".join(in_order(parts)) == "abc"
    assert "".join(in_order([*parts, Part(2, [3], ["d"])])) == "abcde"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device", "somewhere")])
def test_a_stopped_command_goes_on_and_ends_with_the_same_bytes(
    error: BaseException,
    molecule_run: Path,
    whole: bytes,
    stopped: Callable[[int, BaseException], Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out.sdf"
    with stopped(2, error), pytest.raises(SystemExit) as ended:
        main(command(molecule_run, out))
    assert ended.value.code == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert not out.exists()
    if isinstance(error, KeyboardInterrupt):
        assert "the same command goes on" in " ".join(capsys.readouterr().err.split())
    with mock.patch.object(MoleculeDiffusion, "parts", autospec=True, side_effect=MoleculeDiffusion.parts) as parts:
        main(command(molecule_run, out))
    assert [number for number in range(2) if parts.call_args.kwargs["wanted"](number)] == []
    assert f"of {COUNT} molecules are in" in " ".join(capsys.readouterr().out.split())
    assert out.read_bytes() == whole
    assert [file.name for file in tmp_path.iterdir()] == ["out.sdf"]


def test_scans_that_are_whole_are_kept(
    volume_run: Path, stopped: Callable[[int, BaseException], Any], tmp_path: Path
) -> None:
    main(command(volume_run, tmp_path / "whole"))
    out = tmp_path / "scans"
    with stopped(1, KeyboardInterrupt()), pytest.raises(SystemExit):
        main(command(volume_run, out))
    first = out / "sample-0000.nii.gz"
    first.unlink()
    with stopped(1, KeyboardInterrupt()), pytest.raises(SystemExit):
        main(command(volume_run, out))  # what somebody has removed is made again
    before = first.stat().st_mtime_ns
    main(command(volume_run, out))
    assert first.stat().st_mtime_ns == before
    assert contents(out) == contents(tmp_path / "whole")
    assert not (tmp_path / "scans.partial").exists()


@pytest.mark.parametrize(
    ("other", "said"),
    [(["--seed", "1"], "seed 0, not 1"), (["--size", "5"], "size left out, not 5"), (["-n", "13"], "n 12, not 13")],
)
def test_what_was_begun_with_something_else_is_refused_by_name(
    other: list[str],
    said: str,
    molecule_run: Path,
    stopped: Callable[[int, BaseException], Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out.sdf"
    with stopped(1, KeyboardInterrupt()), pytest.raises(SystemExit):
        main(command(molecule_run, out))
    before = contents(tmp_path)
    with pytest.raises(SystemExit) as refused:
        main(command(molecule_run, out, *other))
    assert refused.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert contents(tmp_path) == before


def test_another_model_of_the_same_name_is_refused(molecule_run: Path, tmp_path: Path) -> None:
    model = MoleculeDiffusion.from_pretrained(molecule_run)
    before = model.fingerprint()
    assert MoleculeDiffusion.from_pretrained(molecule_run).fingerprint() == before
    Partial(tmp_path / "out.sdf", {"model": before})
    model.size.fit(np.array([0, 0, 1]))
    assert model.fingerprint() != before
    with pytest.raises(InputError, match="was begun with model"):
        Partial(tmp_path / "out.sdf", {"model": model.fingerprint()})


def test_what_cannot_be_asked_leaves_nothing_behind(molecule_run: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(command(molecule_run, tmp_path / "out.sdf", "--size", "99"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["score", "vary"])
def test_of_several_processes_the_first_does_what_is_not_shared(
    verb: str,
    molecule_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seeds, out = tmp_path / "seeds.xyz", tmp_path / "out"
    seeds.write_text("2\n\nH 0 0 0\nH 0 0 0.74\n")
    vary = ["vary", str(molecule_run), str(seeds), "-n", "1", "--steps", "1", "-o", f"{out}.sdf"]
    words = {"score": ["score", str(seeds), "--json", f"{out}.json"], "vary": vary}[verb]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    main(words)
    said = capsys.readouterr()
    assert not said.out + said.err
    assert not list(tmp_path.glob("out.*"))
    monkeypatch.setenv("RANK", "0")
    main(words)
    assert f"{verb} is the work of one process, the first of 2" in capsys.readouterr().err
    assert list(tmp_path.glob("out.*"))


def test_a_process_knows_itself_by_torchrun_or_srun() -> None:
    assert Ranks.here({}) == Ranks()
    torchrun = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    assert Ranks.here(torchrun) == Ranks(5, 8, 1)
    job = {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"}
    assert Ranks.here(job) == Ranks()  # the script of a job, without srun
    assert Ranks.here(job | {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8"}) == Ranks(3, 8, 0)
    assert Ranks.here(job | torchrun) == Ranks(5, 8, 1)
    shares = [[number for number in range(9) if Ranks(rank, 4).has(number)] for rank in range(4)]
    assert sorted(number for share in shares for number in share) == list(range(9))


def child(arguments: list[str], environment: dict[str, str], die: bool = False) -> int:
    """A process with the command; with ``die`` it kills itself once it has saved a part."""
    if process := os.fork():
        return process
    os.environ |= environment
    save = Partial.save

    def saved(self: Partial, number: int, count: int, content: Any) -> None:
        save(self, number, count, content)
        if die:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        with mock.patch.object(Partial, "save", saved):
            main(arguments)
    except BaseException:
        os._exit(1)
    os._exit(0)


def test_two_processes_write_the_file_of_one(
    molecule_run: Path, whole: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One has been killed before, in the middle: the two go on from there."""
    out = tmp_path / "out.sdf"
    assert os.WTERMSIG(os.waitpid(child(command(molecule_run, out), {}, die=True), 0)[1]) == signal.SIGKILL
    assert not out.exists()
    assert len(list(out.with_name("out.sdf.partial").glob("0*.json"))) == 1
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [child(command(molecule_run, out), told | {"RANK": str(rank)}) for rank in range(2)]
    assert [os.waitpid(process, 0)[1] for process in started] == [0, 0]
    assert out.read_bytes() == whole
    assert capfd.readouterr().out.count(f"{COUNT} molecules in") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["out.sdf"]


def test_a_process_whose_partner_dies_says_so(molecule_run: Path, tmp_path: Path) -> None:
    """It neither waits for ever nor writes a file that lacks the other's share."""
    out = tmp_path / "out.sdf"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [child(command(molecule_run, out), told | {"RANK": str(rank)}, die=rank == 1) for rank in range(2)]
    first, second = (os.waitpid(process, 0)[1] for process in started)
    assert os.WTERMSIG(second) == signal.SIGKILL
    assert os.WEXITSTATUS(first) == 1
    assert not out.exists()
    assert out.with_name("out.sdf.partial").exists()


def test_every_part_of_a_share_says_what_it_holds(molecule_run: Path, tmp_path: Path) -> None:
    """A process that ends early leaves the others' parts: their sum is what the first one looks at."""
    partial = Partial(tmp_path / "out.sdf", {})
    partial.save(3, 2, {"places": [0, 1]})
    with pytest.raises(InputError, match="holds 2 of 5"):
        list(partial.contents(5))
    Partial(tmp_path / "out.sdf", {}).save(1, 3, {"places": [2, 3, 4]})
    assert [number for number, _ in partial.contents(5)] == [1, 3]
    assert json.loads((partial.folder / "asked.json").read_text()) == {}
