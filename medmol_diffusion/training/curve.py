"""metrics.csv, the curve of a run, which a resumed run continues."""

import csv
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment


class Curve(CSVLogger):
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
            file = Path(self.log_dir) / ExperimentWriter.NAME_METRICS_FILE
            kept = [row for row in read_rows(file) if int(row["step"]) < self.start]
            writer = ExperimentWriter(self.log_dir)  # deletes the file
            writer.metrics = kept  # type: ignore[assignment]
            writer.save()
            self._experiment = writer
        return self._experiment  # type: ignore[return-value]


def read_rows(file: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv without their empty cells; none where there is no file."""
    if not file.is_file():
        return []
    with file.open(newline="") as lines:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(lines)]
