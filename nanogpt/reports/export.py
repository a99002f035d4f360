"""Export of a run's record to a new file or folder."""

import errno
import os
from bisect import bisect_right
from pathlib import Path

from nanogpt.errors import UserError
from nanogpt.files import new_file, new_folder, why
from nanogpt.interop.dashboards import find_dashboard
from nanogpt.interop.dashboards.base import Dashboard, DashboardRun, log_event, log_steps
from nanogpt.reports.record import RunRecord, read_record

FILES = ("csv", "parquet", "html")
FORMATS = (*FILES, "tensorboard")


def export_metrics(run: Path, file: Path) -> int:
    """Write the record as CSV, or in the format of FILES that the file's name ends in, like `export_record`."""
    return export_record(run, file, file.suffix.removeprefix(".") if file.suffix[1:] in FILES else "csv")


def export_record(run: Path, place: Path, file_format: str) -> int:
    """Write what the run has recorded so far, in one of `FORMATS`; return the number of its reported steps.

    The file, or for TensorBoard the folder, appears whole or not at all. Raise `UserError`, also if it exists.
    """
    from nanogpt.reports import page, table

    writers = {"csv": table.write_csv, "parquet": table.write_parquet, "html": page.write_page}
    kind = find_dashboard(file_format) if file_format not in FILES else None
    record = read_record(run)
    try:
        if kind is not None:
            _write_folder(kind, record, place)
        else:
            with new_file(place) as partial:
                writers[file_format](record, partial)
    except OSError as error:
        raise UserError(f"cannot write {place}: {why(error)}; choose another place") from None
    return len(record.steps["step"])


def _write_folder(kind: type[Dashboard], record: RunRecord, place: Path) -> None:
    """Write the files that a dashboard would have of the run into a new folder. Raise OSError."""
    if os.path.lexists(place):
        raise FileExistsError(errno.EEXIST, "it already exists", str(place))
    place.parent.mkdir(parents=True, exist_ok=True)
    partial, replaced = (place.with_name(f".{place.name}.{os.getpid()}.{role}") for role in ("partial", "replaced"))
    with new_folder(place, partial, replaced):
        dashboard = kind(DashboardRun(name=record.state.name, folder=partial))
        try:
            _replay(dashboard, record)
        finally:
            dashboard.close()


def _replay(dashboard: Dashboard, record: RunRecord) -> None:
    """Show what was recorded, in the order of the steps: one that goes back would undo what was shown after it."""
    done, steps = 0, record.steps["step"]
    for event in [*record.events, None]:
        end = len(steps) if event is None else bisect_right(steps, getattr(event, "step", 0))
        if end > done:
            log_steps(dashboard, {name: column[done:end] for name, column in record.steps.items()})
            done = end
        if event is not None:
            log_event(dashboard, event)
