"""What is known of one run, or how the configurations of several differ: texts. Knows no screen; reads files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textual.content import Content

from nanogpt.config import Config
from nanogpt.errors import UserError
from nanogpt.runs import manage, summary
from nanogpt.runs.folder import run_config
from nanogpt_tui.text import count, duration, harmless, printable, short


def described(run: Path) -> Content:
    """One run: state, note, what it came to, and where it differs from the defaults. Reads files."""
    try:
        known, config = summary(run), run_config(run)
    except UserError as error:
        return harmless(str(error), "$error")
    note = manage.read_note(run)
    lines = [Content.assemble(harmless(known.name, "bold $foreground"), (f"  {known.state}", "$quiet"))]
    if known.message:
        lines.append(harmless(known.message, "$warning"))
    if note:
        lines.append(harmless(note, "$foreground"))
    lines += [
        line("step", f"{known.step:,} of {known.max_iters:,}"),
        line("best val loss", "–" if known.best_val_loss is None else f"{known.best_val_loss:.4f}"),
        line("trained for", duration(known.elapsed_s)),
        line("parameters", "–" if known.n_parameters is None else count(known.n_parameters)),
        line("device", f"{known.device} {known.dtype}"),
        Content.styled("differs from the defaults in", "$quiet"),
    ]
    changed = manage.differences([config, Config()])
    return Content("\n").join([*lines, *(line(name, value(pair[0])) for name, pair in changed.items())])


def compared(runs: Sequence[Path]) -> Content:
    """The settings in which the runs differ, a column a run. Reads files."""
    try:
        configs = [run_config(run) for run in runs]
    except UserError as error:
        return harmless(str(error), "$error")
    width = max(8, min(16, 60 // len(runs)))
    different = manage.differences(configs)
    heads = "".join(f"{short(printable(run.name), width - 1):<{width}}" for run in runs)
    rows = [Content.assemble(("differ in".ljust(20), "$quiet"), (heads, "bold $foreground"))]
    for name, values in different.items():
        cells = "".join(f"{short(value(each), width - 1):<{width}}" for each in values)
        rows.append(Content.assemble((f"{short(name, 19):<20}", "$quiet"), (cells, "$foreground")))
    if not different:
        rows.append(Content.styled("nothing: they were started with the same settings", "$quiet"))
    return Content("\n").join(rows)


def line(label: str, text: str) -> Content:
    return Content.assemble((f"{short(label, 19):<20}", "$quiet"), (text, "$foreground"))


def value(of: Any) -> str:
    """A setting's value in a few characters, harmless."""
    return "–" if of is None else f"{of:g}" if isinstance(of, float) else printable(str(of)).replace("\n", "↵")
