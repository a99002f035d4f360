"""The metrics of a run as CSV and Parquet."""

import csv
import math

import pyarrow.parquet
import pytest

from nanogpt.errors import UserError
from nanogpt.events import Evaluated
from nanogpt.reports.export import export_metrics, export_record
from nanogpt.reports.table import COLUMNS
from tests.made_events import started, stepped


def evaluated(step, val_loss, ema_val_loss=None):
    return Evaluated(
        step=step,
        train_loss=val_loss - 0.25,
        val_loss=val_loss,
        best_val_loss=val_loss,
        is_best=True,
        tokens=8,
        elapsed_s=1.0,
        ema_val_loss=ema_val_loss,
    )


@pytest.fixture
def run(recorded):
    """A run whose steps 3 and 4 were undone by a resume at step 2, and whose step 4 is not a number."""
    undone = [stepped(3, loss=7.0), evaluated(4, 7.0), stepped(4, loss=7.0)]
    steps = [stepped(1, loss=0.1), stepped(2, loss=1 / 3)]
    again = [started(2), stepped(3, loss=1.5), stepped(4, loss=math.nan), evaluated(4, 1.25, ema_val_loss=1.0)]
    return recorded(started(), evaluated(0, 2.5), *steps, *undone, *again)


def test_csv_has_a_row_for_each_step_with_exact_values_and_empty_cells_for_what_was_not_measured(run, tmp_path):
    assert export_record(run, tmp_path / "new" / "out.csv", "csv") == 4
    with (tmp_path / "new" / "out.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert tuple(rows[0]) == COLUMNS
    assert [row["step"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert [row["loss"] for row in rows] == ["", "0.1", repr(1 / 3), "1.5", "nan"]
    assert [row["val_loss"] for row in rows] == ["2.5", "", "", "", "1.25"]
    assert [row["ema_val_loss"] for row in rows] == ["", "", "", "", "1.0"]
    assert [row["tokens"] for row in rows] == ["", "8", "16", "24", "32"]
    assert {row["mfu"] for row in rows} == {""}


def test_parquet_has_the_same_values_and_nulls_for_empty_cells(run, tmp_path):
    for name in ("out.csv", "out.parquet"):
        export_metrics(run, tmp_path / name)
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table.schema.metadata[b"run"] == b"first"
    cells = [["" if value is None else repr(value) for value in row.values()] for row in table.to_pylist()]
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as lines:
        assert cells == list(csv.reader(lines))[1:]


@pytest.mark.parametrize("events", [(), (started(),)], ids=["no events", "no steps"])
@pytest.mark.parametrize("file_format", ["csv", "parquet", "html"])
def test_a_run_without_steps_is_exported_too(recorded, tmp_path, events, file_format):
    assert export_record(recorded(*events), tmp_path / "out", file_format) == 0
    assert (tmp_path / "out").stat().st_size > 0


def test_a_target_that_exists_or_cannot_be_written_is_one_line_and_stays_as_it_is(run, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    refused = {"file": "it already exists", "link": "it already exists", "file/out.csv": "cannot write"}
    for name, problem in refused.items():
        place = tmp_path / name
        with pytest.raises(UserError, match=problem) as error:
            export_metrics(run, place)
        assert "\n" not in str(error.value)
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
