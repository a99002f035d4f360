"""The table of runs: sorted by any column, filtered by words, some of them ticked.

Only the cells that changed are repainted.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DataTable
from textual.widgets.data_table import ColumnKey

from nanogpt.runs.state import RunState
from nanogpt_tui.text import count, loss_text, printable, short
from nanogpt_tui.widgets.header import MARKS

STYLES = {"training": "bold", "evaluating": "bold", "failed": "red"}
STYLES |= dict.fromkeys(("interrupted", "paused", "waiting", "silent"), "yellow")


@dataclass(frozen=True, slots=True)
class Field:
    """A column: its title, the text of a cell, and the key to sort by."""

    title: str
    text: Callable[[RunState], str]
    key: Callable[[RunState], Any]
    is_number: bool = True  # aligned at the right
    descending: bool = False  # the largest comes first


def _number(value: float | None) -> str:
    return "–" if value is None else count(value)


def age(seconds: float) -> str:
    """Return a time in one unit: 40 s, 12 min, 5 h, 9 d."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


FIELDS = {
    "name": Field("run", lambda run: short(printable(run.name), 28), lambda run: run.name.casefold(), is_number=False),
    "state": Field("state", lambda run: f"{MARKS[run.phase][0]} {run.phase}", lambda run: run.phase, is_number=False),
    "step": Field("step", lambda run: f"{run.step:,}", lambda run: run.step, descending=True),
    "train": Field("train", lambda run: loss_text(run.train_loss), lambda run: run.train_loss),
    "val": Field("val", lambda run: loss_text(run.val_loss), lambda run: run.val_loss),
    "best": Field("best val", lambda run: loss_text(run.best_val_loss), lambda run: run.best_val_loss),
    "bits": Field(
        "bits/byte",
        lambda run: loss_text(run.best_val_loss_in("bits per byte")),
        lambda run: run.best_val_loss_in("bits per byte"),
    ),
    "age": Field(
        "changed", lambda run: age(time.time() - run.updated) if run.updated else "–", lambda run: -run.updated
    ),
    "speed": Field(
        "tok/s", lambda run: _number(run.tokens_per_second), lambda run: run.tokens_per_second, descending=True
    ),
    "parameters": Field("params", lambda run: _number(run.n_parameters), lambda run: run.n_parameters, descending=True),
    "dataset": Field(
        "data set", lambda run: short(printable(run.dataset), 20), lambda run: run.dataset, is_number=False
    ),
}

LEFT_OUT = ("parameters", "train", "speed", "dataset", "val", "bits")  # in this order, if there is no room for all


def sorted_runs(runs: list[RunState], by: str, reverse: bool, words: str) -> list[RunState]:
    """Return the runs with every word of `words` in name, state, data set or device, sorted by a column.

    Unknown values come last.
    """
    field = FIELDS[by]
    wanted = words.casefold().split()
    matching = [run for run in runs if all(word in searched_text(run) for word in wanted)]
    known = [run for run in matching if is_known(field.key(run))]
    known.sort(key=field.key, reverse=reverse != field.descending)
    return known + [run for run in matching if not is_known(field.key(run))]


def is_known(value: object) -> bool:
    """Return whether a value is neither None nor NaN, as the loss of a run that diverged is."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def searched_text(run: RunState) -> str:
    """Return the text of a run that the filter searches."""
    return " ".join((run.name, run.phase, run.dataset, run.device)).casefold()


def title_with_arrow(name: str, arrow: str) -> str:
    """Return the title of a column with an arrow, placed so that the title stays above the values."""
    field = FIELDS[name]
    return f"{arrow}{field.title}" if field.is_number else f"{field.title}{arrow}"


def fitting_columns(widths: dict[str, int], room: int) -> tuple[str, ...]:
    """Return the columns that fit into `room` cells."""
    names = list(widths)
    for name in LEFT_OUT:
        if sum(widths[each] + 2 for each in names) > room:
            names.remove(name)
    return tuple(names)


class RunTable(DataTable[Text]):
    """The cursor stays on its run when the table changes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "cursor_down", "down", show=False, id="runs.down"),
        Binding("up,k", "cursor_up", "up", show=False, id="runs.up"),
        Binding("home,g", "scroll_top", "first", show=False, id="runs.first"),
        Binding("end,G", "scroll_bottom", "last", show=False, id="runs.last"),
    ]
    glossary = "checkpoint"
    HELP = (
        "All runs. {runs.tick} ticks a run for the chart and the comparison; {runs.sort} sorts, {runs.filter} filters, "
        "{runs.look} opens it in Train."
    )

    def __init__(self) -> None:
        super().__init__(id="runs", cursor_type="row", zebra_stripes=False, cell_padding=1)
        self._shown: dict[str, tuple[str, ...]] = {}
        self._heads: tuple[str, ...] = ()
        self._names: tuple[str, ...] = ()
        self._mark_styles: dict[str, Style] = {}  # by name of the run

    @property
    def current(self) -> str | None:
        """The name of the run under the cursor."""
        if not self.row_count:
            return None
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value

    def highlight(self, name: str) -> None:
        """Move the cursor to a run."""
        if name in self._shown:
            self.move_cursor(row=list(self._shown).index(name), animate=False)

    def show(self, runs: list[RunState], ticked: list[str], by: str, reverse: bool) -> None:
        """Show `runs`, which are sorted by the column `by`; `ticked` are names."""
        arrow = "▾" if reverse != FIELDS[by].descending else "▴"
        columns = {
            name: [title_with_arrow(name, arrow if name == by else " "), *map(FIELDS[name].text, runs)]
            for name in FIELDS
        }
        widths = {name: max(map(cell_len, texts)) for name, texts in columns.items()}
        self._names = fitting_columns(widths, self.app.size.width - 3)
        heads = ("", *(columns[name][0] for name in self._names))
        rows = {run.name: self._row(run, ticked) for run in runs}
        if heads == self._heads and list(rows) == list(self._shown):
            for key in self._names:
                self.columns[ColumnKey(key)].width = widths[key]
            for name, row in rows.items():
                for key, new, old in zip(("", *self._names), row, self._shown[name], strict=True):
                    if new != old:
                        cell = self._cell(key, new) if key else self._mark(name, new)
                        self.update_cell(name, key, cell, update_width=True)
        else:
            self._fill(heads, rows, widths)
        self._heads, self._shown = heads, rows

    def set_mark_styles(self, styles: dict[str, Style]) -> None:
        """Set the style of the mark of each run that is drawn, by name."""
        old = self._mark_styles
        changed = {name for name in {*styles, *old} if styles.get(name) != old.get(name)}
        self._mark_styles = styles
        for name in changed & {*self._shown}:
            self.update_cell(name, "", self._mark(name, self._shown[name][0]))

    def _mark(self, name: str, text: str) -> Text:
        return Text(text, style=self._mark_styles.get(name, ""), no_wrap=True)

    def _fill(self, heads: tuple[str, ...], rows: dict[str, tuple[str, ...]], widths: dict[str, int]) -> None:
        """Fill the table anew. The widths are given because DataTable would measure its cells when it is idle: until
        then its columns are as narrow as their titles."""
        current, row_index = self.current, self.cursor_row
        self.clear(columns=True)
        for key, head in zip(("", *self._names), heads, strict=True):
            title = Text(head, justify="right" if key and FIELDS[key].is_number else "left")
            self.add_column(title, width=widths.get(key, 1), key=key)
        for name, row in rows.items():
            cells = (self._cell(key, text) for key, text in zip(self._names, row[1:], strict=True))
            self.add_row(self._mark(name, row[0]), *cells, key=name)
        if rows:
            row_index = list(rows).index(current) if current in rows else min(row_index, len(rows) - 1)
            self.move_cursor(row=row_index, animate=False)

    def _row(self, run: RunState, ticked: list[str]) -> tuple[str, ...]:
        return ("◆" if run.name in ticked else " ", *(FIELDS[name].text(run) for name in self._names))

    def _cell(self, key: str, text: str) -> Text:
        style = STYLES.get(text[2:], "") if key == "state" else ""
        return Text(text, style=style, justify="right" if key and FIELDS[key].is_number else "left", no_wrap=True)
