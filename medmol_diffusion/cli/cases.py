"""The scans of `medmol detect` and what lies beside them: masks, brains, other contrasts, whose they are."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from medmol_diffusion.cli.scans import also, check_names
from medmol_diffusion.errors import InputError

if TYPE_CHECKING:
    from medmol_diffusion.mri import Volume
    from medmol_diffusion.mri.anomaly.evaluation import Case
    from medmol_diffusion.mri.table import Table

DEEP = 4
"""Names at the end of a scan's path that may say whose it is: sub-01/ses-1/anat/T1w.nii.gz."""


@dataclass(frozen=True)
class Cases:
    """What the options name.

    Attributes:
        files: the scans.
        healthy: those that methods learn from; empty without.
        also: the scans of each further contrast, in the order of `files`, by its name.
        healthy_also: the globs of the further contrasts in the folder of the healthy.
        options: frame, series, masks, brains and the folder of the healthy.
        table: says whose scans are.
    """

    files: list[Path]
    healthy: list[Path]
    also: dict[str, list[Path]]
    healthy_also: dict[str, str]
    options: argparse.Namespace
    table: "Table | None"

    @classmethod
    def of(cls, options: argparse.Namespace) -> Self:
        """Raises InputError for scans of one name, for contrasts that do not go with the scans, and for no healthy
        scan where a folder of them is named."""
        from medmol_diffusion.mri.formats.files import find_scans
        from medmol_diffusion.mri.table import Table

        files = [Path(scan) for scan in options.scans]
        check_names(files)
        globs = dict(options.healthy_also or ())
        healthy = find_scans(options.healthy, options.pattern) if options.healthy else []
        healthy = [file for file in healthy if not any(file.match(glob) for glob in globs.values())]
        if options.healthy and not healthy:
            raise InputError(f"{options.healthy} holds no scan but those of --healthy-also: check the globs")
        return cls(
            files, healthy, also(options, files), globs, options, Table.read(options.table) if options.table else None
        )

    def to_test(self) -> Iterator[tuple[Path, "Case"]]:
        """The scans that can be used, each with its file."""
        places = {file: place for place, file in enumerate(self.files)}
        masks = self.options.masks
        for file, volume in self._read(self.files):
            images = {name: self._volume(scans[places[file]]) for name, scans in self.also.items()}
            lesions = None if masks is None else _mask(named_like(file, Path(masks)))
            whose = file.name if file.is_dir() else "/".join(file.absolute().parts[-DEEP:])
            yield file, self._case(volume, whose, file, lesions, images)

    def to_learn(self) -> list["Case"]:
        """The healthy scans."""
        from medmol_diffusion.mri.partners import Partners

        folder = Path(self.options.healthy)

        def name_of(file: Path) -> str:
            return file.relative_to(folder).as_posix()

        partners = Partners.of(folder, self.healthy_also, name_of, self.table)
        files = partners.complete(self.healthy)
        return [
            self._case(
                volume,
                name_of(file),
                file,
                None,
                {name: self._volume(other) for name, other in partners.of_scan(file).items()},
            )
            for file, volume in self._read(files)
        ]

    def _case(
        self, volume: "Volume", name: str, file: Path, lesions: "Volume | None", images: dict[str, "Volume"]
    ) -> "Case":
        from medmol_diffusion.mri.anomaly.evaluation import Case
        from medmol_diffusion.mri.bids import subject_of

        subject = self.table.subject_named(name) if self.table else subject_of(name)
        brains = self.options.brains
        brain = None if brains is None else _mask(named_like(file, Path(brains)))
        return Case(volume, subject, lesions, brain, images)

    def _read(self, files: Sequence[Path]) -> Iterator[tuple[Path, "Volume"]]:
        from medmol_diffusion.mri.formats.files import read_scans

        return read_scans(files, self.options.frame, self.options.series)

    def _volume(self, file: Path) -> "Volume":
        from medmol_diffusion.mri import Volume

        return Volume.read(file, self.options.frame, series=self.options.series)


def named_like(scan: Path, folder: Path) -> Path:
    """The file of a scan's name in another folder; NIfTI of the name of a DICOM folder."""
    return folder / (f"{scan.name}.nii.gz" if scan.is_dir() else scan.name)


def _mask(file: Path) -> "Volume":
    from medmol_diffusion.mri import Volume

    return Volume.read(file, constant=True)
