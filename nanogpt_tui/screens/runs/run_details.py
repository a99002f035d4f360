"""The details of one run, or the settings in which several differ, as text. Reads files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.cells import set_cell_size
from textual.content import Content

from nanogpt.errors import UserError
from nanogpt.loss_units import UNITS
from nanogpt.runs import RunState, manage, summary
from nanogpt.runs.checkpoints import trained_config
from nanogpt_tui.text import count, duration, one_line, printable, safe_content, short

LABEL = 28  # cells
MIN_LABEL, MIN_COLUMN, MAX_COLUMN = 14, 9, 20  # cells, in a comparison


def description(run: Path) -> Content:
    """Return the state, note and results of a run, and its settings that differ from the defaults. Reads files."""
    try:
        known, config = summary(run), trained_config(run)
    except UserError as error:
        return safe_content(str(error), "$error")
    note = manage.read_note(run)
    lines = [Content.assemble(safe_content(known.name, "bold $foreground"), (f"  {known.phase}", "$quiet"))]
    if known.message:
        lines.append(safe_content(known.message, "$warning"))
    if note:
        lines.append(safe_content(note, "$foreground"))
    lines += [
        line("step", f"{known.step:,} of {known.max_iters:,}"),
        *(line(name, text) for name, text in best_losses(known).items()),
        *([] if known.ema_val_loss is None else [line("EMA val loss", f"{known.ema_val_loss:.4f}")]),
        line("training time", duration(known.elapsed_s)),
        line("parameters", "–" if known.n_parameters is None else count(known.n_parameters)),
        line("device", f"{known.device} {known.dtype}"),
        Content(),
        Content.styled("differs from the defaults", "$quiet"),
    ]
    changed = {name: value(each) for name, each in manage.changed(config).items()}
    if "max_iters" in changed:
        changed["max_iters"] = value(known.max_iters)  # it may have been changed during training
    return Content("\n").join([*lines, *(line(name, text) for name, text in changed.items())])


def best_losses(run: RunState) -> dict[str, str]:
    """Return the best validation loss in the units that are known."""
    losses = {unit: run.best_val_loss_in(unit) for unit in UNITS}
    names = {unit: "best val loss" if unit == "loss" else unit for unit in UNITS}
    return {names[unit]: "–" if loss is None else f"{loss:,.4f}" for unit, loss in losses.items()}


def comparison(runs: Sequence[Path], width: int) -> Content:
    """Return the best losses of runs and the settings in which they differ, one column for each run.

    The lines have `width` cells. Reads files.
    """
    try:
        configs = [trained_config(run) for run in runs]
        losses = [best_losses(summary(run)) for run in runs]
    except UserError as error:
        return safe_content(str(error), "$error")
    different = manage.differences(configs)
    longest = max(MIN_LABEL, *(len(name) + 2 for name in different), 0)
    label = max(MIN_LABEL, min(longest, LABEL, width - 1 - MIN_COLUMN * len(runs)))
    column = min(MAX_COLUMN, max(MIN_COLUMN, (width - label) // len(runs)))
    fit = min(len(runs), max(1, (width - label) // column))
    names = without_common_prefix([run.name for run in runs], column - 1)[:fit]
    heads = "".join(set_cell_size(short(name, column - 1), column) for name in names)
    rows = [Content.assemble(" " * label, (heads, "bold $foreground"))]

    def add_row(name: str, texts: Sequence[str]) -> None:
        cells = "".join(set_cell_size(short(text, column - 1), column) for text in texts[:fit])
        rows.append(Content.assemble((f"{short(name, label - 1):<{label}}", "$quiet"), (cells, "$foreground")))

    for name in ("best val loss", "bits per byte"):
        add_row(name, [each[name] for each in losses])
    rows += [Content(), Content.styled("differ in", "$quiet")]
    for name, values in different.items():
        add_row(name, list(map(value, values)))
    if fit < len(runs):
        rows.append(Content.styled(f"and {len(runs) - fit} more that do not fit", "$quiet"))
    if not different:
        rows.append(Content.styled("no differences: all started with the same settings", "$quiet"))
    return Content("\n").join(rows)


def without_common_prefix(names: Sequence[str], width: int) -> list[str]:
    """Return the names, printable; without the words that all begin with if one is longer than `width` cells."""
    known = [printable(name) for name in names]
    if all(len(name) <= width for name in known):
        return known
    low, high = min(known), max(known)
    same = next((at for at, letter in enumerate(low) if letter != high[at]), len(low))
    while (
        same and low[same - 1].isalnum() and any(name[same : same + 1].isalnum() for name in known)
    ):  # only whole words
        same -= 1
    return [f"…{name[same:]}" if same > 1 and name[same:] else name for name in known]


def line(label: str, text: str) -> Content:
    """Return a label and a text."""
    return Content.assemble((f"{short(label, LABEL - 1):<{LABEL}}", "$quiet"), (text, "$foreground"))


def value(of: Any) -> str:
    """Return the value of a setting in a few printable characters."""
    return "–" if of is None else f"{of:g}" if isinstance(of, float) else one_line(str(of))
