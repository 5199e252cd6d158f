"""metrics.csv, the curve of a run, which a resumed run continues."""

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment

from medmol_diffusion.whole_file import whole_file


class Once(Logger):
    """A logger that takes a row once, though it is given twice: before a checkpoint is written, and after."""

    _last: tuple[int | None, frozenset[str]] | None = None

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = step, frozenset(metrics)
        if row != self._last:
            self._last = row
            super().log_metrics(metrics, step)  # type: ignore[safe-super]


class Events(Once, TensorBoardLogger):  # type: ignore[misc]
    """TensorBoard's events, on the disk whenever a checkpoint is written."""

    def save(self) -> None:
        super().save()
        self.experiment.flush()


class Curve(Once, CSVLogger):  # type: ignore[misc]
    """metrics.csv in the run folder. Lightning's own logger deletes the file whenever a run begins.

    Args:
        folder: the run folder.
        start: the first step of this run; rows of earlier steps are kept, all others dropped.
    """

    def __init__(self, folder: str, start: int) -> None:
        super().__init__(folder, name="", version="")
        self.start = start

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        if self._experiment is None:
            self._experiment = CurveWriter(self.log_dir, self.start)
        return self._experiment  # type: ignore[return-value]


class CurveWriter(ExperimentWriter):
    """ExperimentWriter that goes on from the rows before a step; where it writes the file anew, the new one takes the
    old one's place as a whole."""

    def __init__(self, folder: str, start: int) -> None:
        super().__init__(folder)
        self._file = Path(self.metrics_file_path)
        kept = [row for row in read_rows(self._file) if int(row["step"]) < start]
        self.metrics_keys = sorted({name for row in kept for name in row})
        if kept:
            self._write(kept)
        else:
            self._file.unlink(missing_ok=True)

    def _check_log_dir_exists(self) -> None:
        """Lightning's own deletes the file here."""

    def _rewrite_with_new_header(self, fieldnames: Sequence[str]) -> None:
        self._write(read_rows(self._file))

    def _write(self, rows: Sequence[Mapping[str, str]]) -> None:
        with whole_file(self._file) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.metrics_keys)
            writer.writeheader()
            writer.writerows(rows)


def read_rows(file: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv without their empty cells; none where there is no file. A last line without its end,
    which a killed run leaves, is none."""
    if not file.is_file():
        return []
    with file.open(newline="") as lines:
        text = lines.read()
    whole = StringIO(text[: text.rfind("\n") + 1], newline="")
    return [{name: value for name, value in row.items() if value} for row in csv.DictReader(whole)]
