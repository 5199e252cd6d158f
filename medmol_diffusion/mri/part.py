"""Part: the scans that a run has for training, validation or testing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytorch_lightning as pl

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.data import VolumeData
from medmol_diffusion.training.folder import CONFIG, read_data_config, run_and_part
from medmol_diffusion.training.saved import build
from medmol_diffusion.training.split_file import PARTS


@dataclass(frozen=True)
class Part:
    """Some of the scans of a folder, by their files.

    Attributes:
        path: the folder.
        files: of the scans.
        subjects: whose each of them is.
    """

    path: Path
    files: tuple[Path, ...]
    subjects: tuple[str, ...]

    @classmethod
    def of_run(cls, run: str | Path, name: str) -> Self:
        """Of the data that a run folder names; name is in PARTS.

        Raises:
            InputError: it is no run folder, was not trained on files, these are gone, or the part is empty.
        """
        data = build(read_data_config(run, "name a folder of scans"), pl.LightningDataModule)
        if not isinstance(data, VolumeData):
            raise InputError(f"{run} was not trained on files ({type(data).__name__}): name a folder of scans")
        found = data.parts()[name]
        if not found:
            raise InputError(f"{run} has no scan in its {name} part: name another one of {', '.join(PARTS)}")
        return cls(data.path, tuple(found), tuple(found.values()))


def folder_or_part(text: str, usual: str) -> Path | Part:
    """A folder of scans as it is; of a run folder its ``usual`` part, or the one that RUN:PART names.

    Raises:
        InputError: as for Part.of_run.
    """
    run, name = run_and_part(text)
    return Part.of_run(run, name or usual) if (Path(run) / CONFIG).is_file() else Path(text)


def trained_subjects(model: str | Path) -> tuple[str, ...]:
    """The subjects that a model was trained on: those of a run folder whose scans are where its config says. Empty of
    all others, which do not know: an exported model, phantoms, scans that are gone."""
    try:
        return Part.of_run(model, "train").subjects
    except InputError:
        return ()
