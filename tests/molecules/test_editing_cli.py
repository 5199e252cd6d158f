"""The verbs that ask for molecules, fix parts of them, vary and map them, once each on tiny models."""

import json
from pathlib import Path

import numpy as np
import pytest

from medmol_diffusion.cli import main
from medmol_diffusion.molecules import Molecule, read_molecules, write_sdf
from medmol_diffusion.molecules.fragment import Fragment
from medmol_diffusion.molecules.perceive import perceived
from medmol_diffusion.training.fit import fit
from tests.conftest import MOLECULES, TRAINER, random_molecules
from tests.molecules.geometries import ETHENE, METHANE, WATER

pytestmark = pytest.mark.filterwarnings("default::UserWarning")  # which the suite turns into errors elsewhere


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("seeds") / "seeds.sdf"
    write_sdf([perceived(ETHENE, (0, 1, 2, 3)), perceived(METHANE, (0, 1, 2, 3))], path)
    return path


@pytest.fixture(scope="module")
def conditional_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of bonds that can be asked for two columns and the composition, trained for two steps."""
    folder = tmp_path_factory.mktemp("conditional")
    molecules = [
        Molecule(m.atomic_numbers, m.positions, properties={"mass": float(i), "gap": 1.0 / (i + 1)})
        for i, m in enumerate(random_molecules())
    ]
    numbers = np.zeros((30, 8), dtype=np.uint8)
    positions = np.zeros((30, 8, 3), dtype=np.float32)
    for row, molecule in enumerate(molecules):
        numbers[row, : molecule.num_atoms] = molecule.atomic_numbers
        positions[row, : molecule.num_atoms] = molecule.positions
    columns = {name: np.array([m.properties[name] for m in molecules]) for name in ("mass", "gap")}
    np.savez(folder / "data.npz", atomic_numbers=numbers, positions=positions, **columns)
    text = TRAINER + MOLECULES.replace("PATH", str(folder / "data.npz"))
    text = text.replace(
        "max_atoms: 12",
        "max_atoms: 12\n      bond_orders: [0, 1, 2, 3]\n      formal_charges: [0]\n"
        "      properties: [mass, gap]\n      composition: true",
    )
    text = text.replace(
        "atoms_in: 4, atoms_out: 4,", "atoms_in: 5, atoms_out: 5, pairs_in: 4, pairs_out: 4, condition_size: 9,"
    )
    text = text.replace("batch_size: 4", "batch_size: 4, bonds: distances, properties: [mass, gap]")
    (folder / "tiny.yaml").write_text(text)
    return fit(["--config", str(folder / "tiny.yaml"), "--trainer.default_root_dir", str(folder / "run")])


def test_samples_are_asked_for_properties_sizes_and_formulas(conditional_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.sdf"
    asked = ["--property", "mass=3", "--property", "gap=0.5", "--guidance", "2", "--interval", "-5", "5"]
    main(["sample", str(conditional_run), "-n", "3", "--steps", "2", "--size", "6", *asked, "-o", str(out)])
    assert [m.num_atoms for m in read_molecules(out)[0]] == [6, 6, 6]
    main(["sample", str(conditional_run), "-n", "2", "--steps", "2", "--formula", "C2H4O", "-o", str(out)])
    assert [sorted(m.atomic_numbers.tolist()) for m in read_molecules(out)[0]] == [[1, 1, 1, 1, 6, 6, 8]] * 2


def test_a_property_far_outside_the_training_set_is_warned_of(
    conditional_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sample", str(conditional_run), "-n", "2", "--steps", "2", "-o", str(tmp_path / "out.sdf")]
    main([*command, "--property", "mass=20"])  # the training molecules have 0 to 29
    assert "warning" not in capsys.readouterr().err
    main([*command, "--property", "mass=2000", "--property", "gap=0.5"])
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("warning") == 1
    assert "mass = 2000 is asked for, more than 5 standard deviations" in said
    assert len(read_molecules(tmp_path / "out.sdf")[0]) == 2


def test_a_composition_fixes_the_size_and_reaches_the_network(conditional_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.sdf"

    def made(*asked: str) -> list[Molecule]:
        main(["sample", str(conditional_run), "-n", "3", "--steps", "2", "--size", "7", *asked, "-o", str(out)])
        return read_molecules(out)[0]

    ethanal, propyne, free = made("--composition", "C2H4O"), made("--composition", "C3H4"), made()
    assert [m.num_atoms for m in ethanal + propyne + free] == [7] * 9
    for one, other, unasked in zip(ethanal, propyne, free, strict=True):
        assert not np.array_equal(one.positions, other.positions)
        assert not np.array_equal(one.positions, unasked.positions)


def test_bonds_that_a_file_lacks_are_perceived_and_said(
    conditional_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    molecules = [Molecule(m.atomic_numbers, m.positions) for m in (ETHENE, METHANE)]
    (tmp_path / "bare.xyz").write_text("".join(molecule.to_xyz() for molecule in molecules))
    write_sdf([perceived(molecule, (0, 1, 2, 3)) for molecule in molecules], tmp_path / "bonded.sdf")

    def validated(name: str) -> tuple[dict, list[str]]:
        file = tmp_path / "bound.json"
        main(["validate", str(conditional_run), "--data", str(tmp_path / name), "--steps", "5", "--json", str(file)])
        said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
        return json.loads(file.read_text())["terms"], said

    bare, said = validated("bare.xyz")
    assert len(said) == 1
    assert "bare.xyz: not every molecule has bonds of its own, so all bonds are read off the distances" in said[0]
    bonded, silent = validated("bonded.sdf")
    assert silent == []
    assert {name: mean for name, (mean, _) in bare.items()} == pytest.approx(
        {name: mean for name, (mean, _) in bonded.items()}, rel=1e-3
    )


def test_what_cannot_be_asked_ends_with_one_sentence(
    molecule_run: Path, conditional_run: Path, volume_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--steps", "2", "-o", str(tmp_path / "out.sdf")]
    for arguments, fault in [
        (["sample", str(molecule_run), *out, "--property", "qed=1"], "takes no condition"),
        (["sample", str(conditional_run), *out, "--property", "qed=1"], "it knows mass, gap, composition"),
        (["sample", str(conditional_run), *out, "--property", "mass"], "write NAME=VALUE"),
        (["sample", str(conditional_run), *out, "--size", "40"], "model of up to 12"),
        (["sample", str(volume_run), "-o", str(tmp_path / "scans"), "--size", "4"], "are for molecules"),
        (["validate", str(molecule_run), "--conditional"], "takes no condition"),
        (["validate", str(molecule_run), "--draws", "0"], "at least 1"),
    ]:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2
        assert fault in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("run", ["molecule_run", "conditional_run"])
def test_a_scaffold_in_a_file_is_decorated(
    run: str, seeds: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    out = tmp_path / "out.sdf"
    where = [str(request.getfixturevalue(run)), str(seeds)]
    common = ["--steps", "2", "--resamples", "1", "-o", str(out)]
    main(["inpaint", *where, "--fixed", "1,3-4", "--size", "7", "-n", "2", *common])
    found, _ = read_molecules(out)
    assert [(m.name, m.num_atoms) for m in found] == [("ethene", 7)] * 2 + [("methane", 7)] * 2
    for new, old in zip(found, [ETHENE, ETHENE, METHANE, METHANE], strict=True):
        np.testing.assert_allclose(new.positions[:3], old.positions[[0, 2, 3]], rtol=0, atol=1e-4)
        bonds = Fragment.of(perceived(old, (0, 1, 2, 3)), [0, 2, 3]).atoms.bonds
        assert bonds is not None
        assert new.bonds is not None
        assert sorted(b for b in new.bonds.tolist() if b[1] < 3) == sorted(bonds.tolist())
    main(["inpaint", *where, "--fixed-smarts", "[#6]", "--size", "own", *common])
    assert [m.num_atoms for m in read_molecules(out)[0]] == [6, 5]
    main(["inpaint", *where, "--free", "2-3", *common])
    assert all(m.num_atoms > old - 2 for m, old in zip(read_molecules(out)[0], (6, 5), strict=True))
    write_sdf([WATER, perceived(METHANE, (0, 1))], tmp_path / "two.sdf")
    main(["inpaint", where[0], str(tmp_path / "two.sdf"), "--link", "--size", "10", *common])
    (linked,) = read_molecules(out)[0]
    np.testing.assert_allclose(linked.positions[:3], WATER.positions, rtol=0, atol=1e-4)
    np.testing.assert_allclose(linked.positions[3:8], METHANE.positions, rtol=0, atol=1e-4)


@pytest.mark.parametrize("run", ["molecule_run", "conditional_run"])
def test_molecules_are_varied_and_made_better(
    run: str, seeds: Path, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.sdf"
    where = [str(request.getfixturevalue(run)), str(seeds), "--steps", "2", "-o", str(out)]
    main(["vary", *where, "-n", "2", "--strength", "0.05"])
    assert [m.name for m in read_molecules(out)[0]] == ["ethene"] * 2 + ["methane"] * 2
    assert {m.properties["made_by"] for m in read_molecules(out)[0]} == {
        "model=run seed=0 steps=2 sampler=ancestral grid=time"
    }
    main(["vary", *where, "-n", "2", "--strength", "0.05", "--objective", "num_C", "--minimise", "--rounds", "2"])
    for molecule in read_molecules(out)[0]:
        assert molecule.properties["num_C"] <= molecule.properties["seed_score"]
    assert "similarity to the seed" in " ".join(capsys.readouterr().out.split())


def test_the_table_has_the_exact_sum_every_block_and_a_map(
    conditional_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "bound.json", tmp_path / "map.sdf"
    arguments = ["--steps", "5", "--draws", "exact", "--limit", "2", "--json", str(file), "--map", str(out)]
    main(["validate", str(conditional_run), *arguments, "--conditional"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "the sum over all of them" in shown
    assert "N x 1 of formal charges and N (N - 1) / 2 x 4 of bonds" in shown
    assert "its own mass, gap, composition" in shown
    found = json.loads(file.read_text())
    assert found["settings"]["exact"] == found["settings"]["conditional"] == 1
    assert {"diffusion/bonds", "reconstruction/formal_charges"} <= set(found["blocks"])
    parts = [mean for name, (mean, _) in found["blocks"].items() if name.startswith("diffusion")]
    assert sum(parts) == pytest.approx(found["terms"]["diffusion"][0], rel=1e-6)
    molecules, bad = read_molecules(out)
    assert not bad
    for molecule in molecules:
        assert len(str(molecule.properties["atom_nats"]).split()) == molecule.num_atoms
    with pytest.raises(SystemExit):
        main(["validate", str(conditional_run), "--steps", "0", "--draws", "exact"])
    assert "give steps" in " ".join(capsys.readouterr().err.split())
