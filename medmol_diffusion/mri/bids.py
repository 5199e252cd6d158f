"""BIDS: what a scan's name says, and derivatives written the way its specification asks (version 1.10)."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medmol_diffusion import __version__
from medmol_diffusion.mri.formats.files import stem
from medmol_diffusion.mri.volume import Volume
from medmol_diffusion.whole_file import whole_file

MODALITIES = "T1wPost|T1w|T2w|FLAIR|PDw|T2starw|SWI|inplaneT1|inplaneT2|T1ce|T1c|T1gd|T1n|T1|T2f|T2|PD"
"""Of names that are not BIDS too, in any case: BraTS has t1ce and flair."""
KINDS = "acq|run|echo|rec|dir|space|res|desc|dseg|seg|label|labels|mask|lesions|WMH"
"""Parts of a name, with a value or without, that say which scan or map of a subject it is, not whose."""


def subject_of(name: str) -> str:
    """Whose scan it is: `sub-XX` where the path has it; else the file's name without .nii, .nii.gz and what follows of
    MODALITIES and KINDS, such as _T1w or _mask; the folder's where nothing is left of it, as of patient07/T1.nii.gz. Of
    a DICOM series, whose path has no ending: the first folder.
    """
    if bids := re.search(r"sub-[A-Za-z0-9]+", name):
        return bids.group()
    path = Path(name)
    if not path.suffix:
        return path.parts[0] if path.parts else name
    left = re.sub(rf"((^|[_-])({MODALITIES})|_({KINDS})(-[A-Za-z0-9]+)?)+$", "", stem(name), flags=re.IGNORECASE)
    return left or path.parent.name or stem(name)


def session_of(name: str) -> str:
    """`ses-YY` where the path has it, else nothing."""
    found = re.search(r"ses-[A-Za-z0-9]+", name)
    return found.group() if found else ""


def suffix_of(name: str) -> str:
    """What a BIDS name ends in, T1w or FLAIR for example; nothing where its last part has a key."""
    end = stem(name).rpartition("_")[2]
    return end if "-" not in end and end[:1].isalpha() and end != stem(name) else ""


def write_sidecar(scan: Path, content: Mapping[str, Any]) -> Path:
    """JSON of the same name beside a scan; it appears whole or not at all."""
    return _write_json(scan.with_name(f"{stem(scan)}.json"), content)


def provenance(volume: Volume, made_by: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a sidecar: who made the scan (model, seed, steps, sampler, ...), the version, what it knows."""
    own = {key.capitalize(): value for key, value in volume.provenance.items() if key != "source"}
    sources = {"Sources": [volume.provenance["source"]]} if "source" in volume.provenance else {}
    return {**own, **made_by, "GeneratedBy": "medmol_diffusion", "Version": __version__, **sources}


@dataclass(frozen=True)
class Derivatives:
    """A BIDS folder of derivatives that scans are written to, each with its sidecar.

    Attributes:
        root: the folder; dataset_description.json is written with the first scan.
        made_by: what every sidecar says beside the scan's own provenance: model, seed, ...
        sources: the data sets that scans were made from, as paths or addresses.
    """

    root: Path
    made_by: Mapping[str, Any]
    sources: Sequence[str] = field(default=())

    def write(
        self, volume: Volume, subject: str, description: str, suffix: str, session: str = "", more: Sequence[str] = ()
    ) -> Path:
        """Write sub-XX[/ses-YY]/anat/sub-XX[_ses-YY][_more]_desc-DESCRIPTION_SUFFIX.nii.gz and its .json; returns the
        first. ``more`` are entities such as run-2.

        BIDS has letters and digits only in a label: others are left out of it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        self._describe()
        parts = [f"{key}-{_label(value, key)}" for key, value in (("sub", subject), ("ses", session)) if value]
        folder = self.root.joinpath(*parts, "anat")
        path = folder / "_".join([*parts, *more, f"desc-{_label(description, 'desc')}", f"{suffix}.nii.gz"])
        volume.write(path)
        write_sidecar(path, provenance(volume, self.made_by))
        return path

    def write_of(self, volume: Volume, source: str, description: str, suffix: str = "") -> Path:
        """`write` what was made of a scan, by the entities of its path and, unless another is given, its suffix; what
        has none gets MR."""
        subject, session = subject_of(source), session_of(source)
        parts = stem(source).split("_") if source.find("sub-") >= 0 else []
        more = [part for part in parts if "-" in part and part.partition("-")[0] not in ("sub", "ses", "desc")]
        return self.write(volume, subject, description, suffix or suffix_of(source) or "MR", session, more)

    def _describe(self) -> None:
        path = self.root / "dataset_description.json"
        if path.is_file():
            return
        content: dict[str, Any] = {
            "Name": "Scans made by medmol_diffusion",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "medmol_diffusion", "Version": __version__}],
        }
        if self.sources:
            content["SourceDatasets"] = [{"URL": source} for source in self.sources]
        _write_json(path, content)


def _label(text: str, key: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", text.removeprefix(f"{key}-")) or "unknown"


def _write_json(path: Path, content: Mapping[str, Any]) -> Path:
    with whole_file(path) as file:
        file.write_text(json.dumps(content, indent=2) + "\n")
    return path
