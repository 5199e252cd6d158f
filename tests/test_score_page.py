"""`medmol score` on files of other programs, and its page."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from medmol_diffusion.cli import main
from medmol_diffusion.judging.table import ScoreTable
from medmol_diffusion.molecules import Molecule, write_sdf, write_xyz
from medmol_diffusion.molecules.gallery import gallery
from medmol_diffusion.molecules.judge.score_report import as_judged, rules_table
from medmol_diffusion.molecules.perceive import perceived
from medmol_diffusion.molecules.viewer import viewer
from medmol_diffusion.report import Report
from medmol_diffusion.score_page import write_score_page
from tests.molecules import geometries as known
from tests.molecules.drawn import embedded

EVIL = "</script><script>alert(1)</script>'\"<b>"


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[str | None] = []
        self.links: list[str] = []
        self.names: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.names.append(tag)
        self.scripts += [given.get("type")] if tag == "script" else []
        self.links += [value or "" for key, value in attrs if key in ("src", "href", "xlink:href")]


def test_the_viewer_holds_every_atom_and_bond_and_escapes_names() -> None:
    ethene = Molecule(known.ETHENE.atomic_numbers, known.ETHENE.positions, name=EVIL)
    page = viewer([ethene, known.BENZENE])
    tags = Tags(page)
    assert tags.scripts == ["application/json", "application/json", None]
    assert "alert(1)</script>" not in page
    assert "<b>" not in page
    scene = json.loads(page.split("<script type='application/json'>")[1].split("</script>")[0])
    assert EVIL in scene["label"]
    assert len(scene["atoms"]) == 6
    assert sorted(order for *_, order in scene["bonds"]) == [1, 1, 1, 1, 2]
    assert tags.names.count("svg") == 2  # what is seen without scripts


def test_every_molecule_of_a_gallery_is_drawn_and_can_be_turned() -> None:
    names = [EVIL, "", "benzene"]
    ethene, water, benzene = (
        replace(one, name=name) for one, name in zip((known.ETHENE, known.WATER, known.BENZENE), names, strict=True)
    )
    page = gallery([ethene, water, benzene])
    tags = Tags(page)
    assert tags.names.count("button") == 3
    assert tags.names.count("svg") == 1 + 3  # the first is on the stage
    assert tags.scripts == ["application/json", None, *["application/json"] * 3, None]
    assert not [link for link in tags.links if link]
    assert "alert(1)</script>" not in page
    assert [caption in page for caption in ("1: C=C", "2: O", "3: ")] == [True] * 3
    scenes = [json.loads(part.split("</script>")[0]) for part in page.split("<script type='application/json'>")[1:]]
    assert [len(scene["atoms"]) for scene in scenes] == [6, 6, 3, 12]


def test_the_viewer_shows_the_molecule_and_not_its_mirror_image() -> None:
    one = embedded("C[C@H](N)C(=O)O")
    scene = json.loads(viewer([one]).split("<script type='application/json'>")[1].split("</script>")[0])
    seen = np.array([atom[2:] for atom in scene["atoms"]])

    def volume(x: np.ndarray) -> float:
        return float(np.linalg.det(x[[1, 2, 3]] - x[0]))

    assert volume(seen) == pytest.approx(volume(one.positions), abs=0.02)


def test_a_histogram_has_equal_areas_and_leaves_out_what_is_not_known(tmp_path: Path) -> None:
    report = Report("x", "y")
    report.histogram(np.array([1.0, 2, 2, np.nan]), np.array([1.0, 2, 3, 3, 3, 3]), "a <label>")
    report.histogram(np.array([np.nan]), None, "nothing")
    page = report.write(tmp_path / "x.html").read_text(encoding="utf-8")
    assert page.count("<polygon") == page.count("<polyline") == 1
    assert "a &lt;label&gt;" in page
    assert "nothing" not in page


def test_the_page_is_self_contained(tmp_path: Path) -> None:
    molecules = [embedded("CCO"), embedded("CC(N)=O")]
    table = ScoreTable("k", "A <title>", "meaning", ("a",), [("<i>",)], {})
    page = write_score_page(tmp_path / "x.html", EVIL, molecules, molecules[:1], [table], "bonds").read_text()
    tags = Tags(page)
    assert all(link.startswith("data:") for link in tags.links)
    assert tags.scripts == ["application/json", "application/json", None]
    assert "A &lt;title&gt;" in page
    assert "i" not in tags.names


def test_protocols_go_by_their_own_bonds() -> None:
    far = Molecule([1, 1], [[0, 0, 0], [0, 0, 5.0]], bonds=[[0, 1, 1]])
    assert as_judged([far], "distances")[0].bonds is None
    assert as_judged([far], "bonds") == [far]
    stable = {
        one: rules_table([far], None, one, 0).data["molecule_stability"]["value"] for one in ("distances", "bonds")
    }
    assert stable == {"distances": 0, "bonds": 1}
    with pytest.raises(ValueError, match="no bonds in its file"):
        as_judged([known.WATER], "bonds")


def test_score_full_writes_tables_of_one_protocol_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sdf([embedded("CO"), embedded("CC")], tmp_path / "a.sdf")
    files = {"--json": tmp_path / "x.json", "--html": tmp_path / "x.html"}
    options = [str(word) for pair in files.items() for word in pair]
    main(["score", str(tmp_path / "a.sdf"), "--reference", str(tmp_path / "a.sdf"), "--full", "--limit", "1", *options])
    found = json.loads(files["--json"].read_text())
    assert list(found) == ["distances", "bonds"]
    assert list(found["distances"]) == ["rules"]
    assert list(found["bonds"]) == ["rules", "distances", "properties", "diversity", "strain", "posebusters"]
    assert found["bonds"]["strain"]["relaxed"] == 1
    assert files["--html"].is_file()
    capsys.readouterr()
    main(["score", str(tmp_path / "a.sdf")])
    assert "--full" in capsys.readouterr().out


def test_a_hint_and_the_meaning_of_valid_say_what_the_figures_leave_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    radical = perceived(known.METHYL_RADICAL, (0, 1))
    table = rules_table([radical], None, "bonds", 0)
    assert (table.data["validity"]["value"], table.data["molecule_stability"]["value"]) == (1, 0)
    assert "lets radicals pass; molecule stability leaves them out" in table.meaning
    write_sdf([embedded("CO")], tmp_path / "bonded.sdf")
    write_xyz([embedded("CO")], tmp_path / "bare.xyz")
    hint = "--protocol bonds judges by them"
    for arguments, said in (
        (["bonded.sdf"], True),
        (["bare.xyz"], False),
        (["bonded.sdf", "--protocol", "bonds"], False),
    ):
        main(["score", str(tmp_path / arguments[0]), *arguments[1:]])
        assert (hint in " ".join(capsys.readouterr().out.split())) == said


def test_score_names_the_file_that_has_no_bonds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sdf([embedded("CO")], tmp_path / "ours.sdf")
    write_xyz([embedded("CO"), embedded("CC")], tmp_path / "theirs.xyz")
    asked = ["score", str(tmp_path / "ours.sdf"), "--reference", str(tmp_path / "theirs.xyz"), "--protocol", "bonds"]
    with pytest.raises(SystemExit) as stop:
        main(asked)
    assert stop.value.code == 2
    assert "theirs.xyz: molecule 1 has no bonds" in " ".join(capsys.readouterr().err.split())


def test_score_reads_what_other_programs_write(tmp_path: Path) -> None:
    from rdkit import Chem

    orca = (
        "3\nCoordinates from ORCA-job water E -76.3\n  O   0.0 0.0 0.0\n  H   0.757 0.587 0.0\n  H  -0.757 0.587 0.0\n"
    )
    ase = (
        '3\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:forces:R:3 pbc="F F F"\n'
        "O 0 0 0 0.1 0 0\nH 0.757 0.587 0 0 0 0\nH -0.757 0.587 0 0 0 0\n"
    )
    (tmp_path / "a.xyz").write_text(orca + ase)
    mol = embedded("CCO").to_rdkit()
    (tmp_path / "v3000.sdf").write_text(Chem.MolToV3KMolBlock(mol) + "$$$$\n")
    babel = Chem.MolToMolBlock(mol).replace("     RDKit          3D", " OpenBabel11232604153D")
    (tmp_path / "babel.sdf").write_text(babel + ">  <energy>\n-1.5\n\n$$$$\n")
    for name, count in (("a.xyz", 2), ("v3000.sdf", 1), ("babel.sdf", 1)):
        main(["score", str(tmp_path / name), "--json", str(tmp_path / "x.json")])
        stable = json.loads((tmp_path / "x.json").read_text())["distances"]["rules"]["molecule_stability"]
        assert (stable["value"], stable["n"]) == (1, count)
