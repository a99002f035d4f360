"""From nothing to a model that writes, in about a minute and without a question. Knows nothing of who watches."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from nanogpt.config import resolve, with_settings
from nanogpt.errors import UserError
from nanogpt.events import Notice, Step
from nanogpt.runs.launch import Events, obtain, splits, start
from nanogpt.training import Mailbox, SetMaxIters
from nanogpt.training.probe import seconds_per_step

PREFERRED, OFFLINE = "shakespeare_char", "python_stdlib"
FEWEST_ITERATIONS = 20


def quickstart(
    run: Path,
    *,
    seconds: float = 45,
    changes: Mapping[str, Any] | None = None,
    mailbox: Mailbox | None = None,
    data_dir: Path | None = None,
) -> Events:
    """Prepares tiny Shakespeare, and trains the preset `quickstart` on it for about `seconds` in the folder `run`.

    Where it cannot be fetched, a Notice says why and Python's own standard library, which is on every machine, takes
    its place. A few iterations are timed first: max_iters is what fits, so that the learning rate comes down to its
    end. `changes` are settings by name; one that sets max_iters needs no timing. Raises `UserError`.
    """
    config = resolve(preset="quickstart", flags={"dataset": PREFERRED} | dict(changes or {})).config
    try:
        dataset = yield from obtain(config.data.dataset, data_dir)
    except UserError as error:
        if config.data.dataset != PREFERRED:
            raise
        yield Notice(level="warning", text=f"{error}; so this trains on Python's own sources, {OFFLINE}, instead")
        dataset = yield from obtain(OFFLINE, data_dir)
    config = with_settings(config, {"dataset": dataset.name, "vocab_size": dataset.tokenizer.vocab_size})
    fitted = "max_iters" not in (changes or {})
    if fitted:
        _, durations = seconds_per_step(config, splits(dataset), burn_in=5, steps=20, limit_s=3)
        # The median, because other programs disturb a step now and then.
        fitting = max(FEWEST_ITERATIONS, int(seconds / median(durations)))
        quarter = max(FEWEST_ITERATIONS, -(-fitting // 4))
        config = with_settings(config, {"max_iters": fitting, "eval_interval": quarter} | dict(changes or {}))
    mailbox = mailbox or Mailbox()
    events = start(config, run, mailbox=mailbox, data_dir=data_dir)
    yield from _in_time(events, seconds, config.schedule.max_iters, mailbox) if fitted else events


def _in_time(events: Events, seconds: float, max_iters: int, mailbox: Mailbox) -> Events:
    """Lowers the last step where training turns out to be slower than it was when it was timed."""
    with closing(events):
        for event in events:
            if isinstance(event, Step) and event.step % max(1, max_iters // 10) == 0:
                fitting = int(event.step * seconds / event.elapsed_s)
                if fitting < 0.8 * max_iters:
                    max_iters = max(event.step, fitting)
                    mailbox.drop(SetMaxIters(max_iters))
            yield event
