"""What `y` copies: a text, a path, or the command that does the same again; a small menu asks which."""

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nanogpt.config import SamplingConfig
from nanogpt.errors import UserError
from nanogpt.runs.folder import run_config
from nanogpt.runs.manage import changed
from nanogpt_tui.session.completions import LIVE, Completion
from nanogpt_tui.text import printable, short
from nanogpt_tui.widgets.dialog import Ask

if TYPE_CHECKING:
    from nanogpt_tui.app import LabApp
    from nanogpt_tui.terminal.terminal_app import TerminalApp

KEYS = {"text": "t", "path": "p", "command": "c"}
SHOWN = 48  # cells of what a line of the menu shows


def offer(app: "TerminalApp", offered: Mapping[str, str]) -> None:
    """Asks which of `offered` ("text", "path", "command") to copy, and copies it."""

    def copy(answer: str | None) -> None:
        if answer is not None and answer in offered:
            app.copy_to_clipboard(offered[answer])
            app.notify(f"{answer} copied to the clipboard", markup=False)

    rows = {
        name: (KEYS[name], f"{name:<8} {short(printable(text).replace(chr(10), '↵'), SHOWN)}")
        for name, text in offered.items()
        if text
    }
    app.push_screen(Ask("Copy", rows | {"nothing": ("escape", "cancel")}), copy)


def offer_run(app: "LabApp", folder: Path) -> None:
    """As `offer`, for a run, whose settings are read in a thread."""

    def show(offered: dict[str, str] | None, error: str) -> None:
        if offered:
            offer(app, offered)

    app.session.fetch(lambda: of_run(folder), show, "copy")


def of_run(folder: Path) -> dict[str, str]:
    """A run's path, and the command that trains it again. Reads its settings; a run without any has a path alone."""
    offered = {"path": str(folder)}
    try:
        config = run_config(folder)
    except UserError:
        return offered
    words = [f"--{name}={_flag(value)}" for name, value in changed(config).items() if value is not None]
    return offered | {"command": shlex.join(["nanogpt", "train", *words])}


def of_completion(completion: Completion) -> dict[str, str]:
    """A text with its prompt, and the command that writes it again, where its weights are in a checkpoint."""
    offered = {"text": completion.prompt + completion.text}
    if (
        completion.source.which == LIVE
        or not completion.run
        or completion.knob_changes
        or completion.branched_at is not None
    ):
        return offered
    knobs, usual = dataclasses.asdict(completion.knobs), dataclasses.asdict(SamplingConfig())
    words = [f"--{name}={_flag(value)}" for name, value in knobs.items() if name != "stop" and value != usual[name]]
    words += [f"--seed={completion.knobs.seed}"] if completion.knobs.seed == usual["seed"] else []
    words += [f"--stop={text}" for text in completion.knobs.stop]
    which = [] if completion.step is None else [f"--checkpoint={completion.step}"]
    command = ["nanogpt", "sample", completion.run, *which, f"--start={completion.prompt}", *words]
    return offered | {"command": shlex.join(command)}


def of_dataset(name: str, folder: str, recipe: bool) -> dict[str, str]:
    """Where a data set is, once it is prepared, and the command that prepares it, where there is a recipe for it."""
    offered = {"path": folder} if folder else {}
    return offered | ({"command": shlex.join(["nanogpt", "prepare", name])} if recipe else {})


def _flag(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)
