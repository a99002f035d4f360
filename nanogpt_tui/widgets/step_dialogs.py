"""Dialogs that ask for a number of training steps."""

from nanogpt_tui.text import printable
from nanogpt_tui.widgets.dialog import AskValue

MAX_STEPS = 10**12


def parse_steps(text: str) -> int:
    """Return the whole number that a person typed: 2000, 2,000 or 2_000. Raise `ValueError` for anything else."""
    return int(text.replace(",", "").replace("_", ""))


def steps_problem(text: str) -> str:
    """Return why `text` is not a number of steps, or "" if it is one."""
    try:
        return "" if 1 <= parse_steps(text) <= MAX_STEPS else f"{text}: has to be at least 1 and at most {MAX_STEPS:,}"
    except ValueError:
        return f"{text!r}: has to be a whole number"


def ask_steps(question: str, steps: int | None) -> AskValue:
    """Return a dialog that asks for a number of steps; `steps` is the suggested answer."""
    return AskValue(question, "" if steps is None else str(steps), steps_problem)


def ask_longer_run(run: str, step: int, max_iters: int) -> AskValue:
    """Return a dialog that asks how long to continue a run that completed its `max_iters` steps and is at `step`."""

    def problem(text: str) -> str:
        return steps_problem(text) or (
            "" if parse_steps(text) > step else f"the run is at step {step:,}: choose a later one"
        )

    question = f"{printable(run)} is complete. Continue training up to step:"
    return AskValue(question, str(max_iters + max(1, max_iters // 2)), problem)
