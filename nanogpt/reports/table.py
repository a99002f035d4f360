"""The metrics of a run as a table: a row for each reported or evaluated step, as CSV or Parquet."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nanogpt import extras
from nanogpt.events import Evaluated
from nanogpt.reports.record import MEASURED, RunRecord

EVALUATED = ("eval_train_loss", "val_loss", "ema_val_loss")
COLUMNS = ("step", *MEASURED, *EVALUATED)
WHOLE = ("step", "tokens", "memory_bytes")
ROWS = 50_000  # written at once


@dataclass(frozen=True, slots=True)
class Column:
    """Numbers, (rows,), and which of them were measured: one that was not is 0, one that is not a number NaN."""

    values: NDArray[np.float64] | NDArray[np.int64]
    measured: NDArray[np.bool_]

    def cells(self, start: int, end: int) -> list[float | int | None]:
        """Return the numbers of some rows; None for those that were not measured."""
        values, measured = self.values[start:end].tolist(), self.measured[start:end].tolist()
        return [value if known else None for value, known in zip(values, measured, strict=True)]


def metrics(record: RunRecord) -> dict[str, Column]:
    """Return the COLUMNS of the table by name, in the order of the steps."""
    evaluations = record.all(Evaluated)
    reported = np.asarray(record.steps["step"], np.float64)
    evaluated = np.array([event.step for event in evaluations], np.float64)
    steps = np.union1d(reported, evaluated)
    at_step, at_evaluation = np.searchsorted(steps, reported), np.searchsorted(steps, evaluated)

    def column(name: str, rows: NDArray[np.intp], values: NDArray[np.float64], known: NDArray[np.bool_]) -> Column:
        filled, measured = np.zeros(len(steps)), np.zeros(len(steps), np.bool_)
        filled[rows], measured[rows] = np.where(known, values, 0), known
        return Column(filled.astype(np.int64) if name in WHOLE else filled, measured)

    table = {"step": Column(steps.astype(np.int64), np.ones(len(steps), np.bool_))}
    for name in MEASURED:
        values = np.asarray(record.steps[name], np.float64)
        known = ~np.isnan(values) if name == "mfu" else np.ones(len(values), np.bool_)  # NaN there is None
        table[name] = column(name, at_step, values, known)
    for name, field in zip(EVALUATED, ("train_loss", "val_loss", "ema_val_loss"), strict=True):
        losses = [getattr(event, field) for event in evaluations]
        known = np.array([loss is not None for loss in losses], np.bool_)
        table[name] = column(name, at_evaluation, np.array(losses, np.float64), known)
    return table


def write_csv(record: RunRecord, path: Path) -> None:
    """Write the table as CSV with a header; a cell that was not measured is empty. Raise OSError."""
    columns = list(metrics(record).values())
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for start in range(0, len(columns[0].values), ROWS):
            writer.writerows(zip(*(column.cells(start, start + ROWS) for column in columns), strict=True))


def write_parquet(record: RunRecord, path: Path) -> None:
    """Write the table as Parquet; a cell that was not measured is null. The settings are in its metadata, as JSON.

    Raise OSError, and `UserError` if pyarrow is not installed.
    """
    pyarrow = extras.load("pyarrow", "parquet", "the export to Parquet")
    parquet = extras.load("pyarrow.parquet", "parquet", "the export to Parquet")
    columns = {name: pyarrow.array(column.values, mask=~column.measured) for name, column in metrics(record).items()}
    settings = json.dumps({} if record.config is None else record.config.values())
    about = {"run": record.state.name, "settings": settings}
    parquet.write_table(pyarrow.table(columns, metadata=about), path)
