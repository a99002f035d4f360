"""The quick start: prepare a small text and train a model on it, in about a minute, without any choices."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from nanogpt.config import Config, resolve, with_settings
from nanogpt.errors import UserError
from nanogpt.events import Acknowledged, Notice, Started, Step
from nanogpt.runs.launch import Events, start
from nanogpt.runs.run_dataset import open_or_prepare, splits, with_dataset
from nanogpt.training import CommandQueue, Sample, SetEvalInterval, SetMaxIters
from nanogpt.training.step_timing import time_steps

PREFERRED, OFFLINE = "shakespeare_char", "python_stdlib"
FEWEST_ITERATIONS = 20
CHECKPOINTS, SAMPLES = 5, 10  # over the whole run
STEP_SHARE = 0.85  # part of the time for iterations; evaluating, sampling and saving take the rest
FIRST_SAMPLE_S = 3.0


def run_quickstart(
    run: Path,
    *,
    seconds: float = 45,
    changes: Mapping[str, Any] | None = None,
    commands: CommandQueue | None = None,
    data_dir: Path | None = None,
) -> Events:
    """Prepare tiny Shakespeare and train the preset `quickstart` on it for about `seconds` in the folder `run`.

    If the text cannot be downloaded, a `Notice` says why and the sources of Python's standard library replace it.
    max_iters is chosen from a few timed iterations, so that the learning rate reaches its end, and is adjusted to the
    speed during training. Evaluations, each with a checkpoint, and samples are spread over the run. `changes` are
    settings by name; with max_iters among them nothing is timed. Raise `UserError`.
    """
    changes = dict(changes or {})
    config = resolve(preset="quickstart", flags={"dataset": PREFERRED} | changes).config
    try:
        dataset = yield from open_or_prepare(config.data.dataset, data_dir)
    except UserError as error:
        if config.data.dataset != PREFERRED:
            raise
        yield Notice(level="warning", text=f"{error}; training on Python's own sources, {OFFLINE}, instead")
        dataset = yield from open_or_prepare(OFFLINE, data_dir)
    config = with_dataset(with_settings(config, {"dataset": dataset.name, "vocab_size": 0}), dataset)
    max_iters = config.schedule.max_iters
    if "max_iters" not in changes:
        started, durations = time_steps(config, splits(dataset), burn_in=1, steps=5, limit_s=1)
        step_s = median(durations)  # robust to steps that other programs disturb
        config = with_settings(config, {"threads": started.threads, "dtype": started.dtype})
        max_iters = max(FEWEST_ITERATIONS, int(STEP_SHARE * seconds / step_s))
    spread = {"eval_interval": _interval(max_iters, CHECKPOINTS), "sample_interval": _interval(max_iters, SAMPLES)}
    asked = {name: value for name, value in changes.items() if name in ("eval_interval", "sample_interval")}
    config = with_settings(config, {"max_iters": max_iters} | spread | asked)
    commands = commands or CommandQueue()
    events = start(config, run, commands=commands, data_dir=data_dir)
    if "max_iters" in changes:
        yield from events
    else:
        yield from _adjust_max_iters(events, seconds, config, commands, respaced="eval_interval" not in changes)


def _interval(iterations: int, parts: int) -> int:
    """Return the interval that divides the iterations into `parts`."""
    return max(1, -(-iterations // parts))


def _adjust_max_iters(events: Events, seconds: float, config: Config, commands: CommandQueue, respaced: bool) -> Events:
    """Pass the events on; set max_iters again when training is slower or faster than measured, unless a person sets it.

    With `respaced` the evaluation interval follows, also unless a person sets it. Ask for a sample early and at the
    end.
    """
    max_iters, every = config.schedule.max_iters, config.evaluation.sample_interval
    eval_interval = config.evaluation.eval_interval
    fits, early = True, bool(every)
    checked_step, checked_s, elapsed_s = 0, 0.0, 0.0
    with closing(events):
        for event in events:
            if isinstance(event, Acknowledged) and event.max_iters not in (None, max_iters):
                fits, max_iters = False, event.max_iters or 0
            if isinstance(event, Acknowledged) and event.eval_interval not in (None, eval_interval):
                respaced = False
            if isinstance(event, Started):  # there is another one after a rollback
                checked_step, checked_s = event.step, elapsed_s
            if isinstance(event, Step):
                elapsed_s = event.elapsed_s
                if fits and event.step % max(1, max_iters // 10) == 0:
                    step_s = (event.elapsed_s - checked_s) / (event.step - checked_step)  # with evaluations and saving
                    checked_step, checked_s = event.step, event.elapsed_s
                    fitting = event.step + max(0, int((seconds - event.elapsed_s) / step_s))
                    grows = event.step < max_iters / 2  # later the learning rate would rise again
                    if fitting < 0.85 * max_iters or (grows and fitting > 1.2 * max_iters):
                        max_iters = fitting
                        commands.put(SetMaxIters(max_iters))
                        if respaced:
                            eval_interval = _interval(max_iters, CHECKPOINTS)
                            commands.put(SetEvalInterval(eval_interval))
                early_enough = early and event.elapsed_s >= FIRST_SAMPLE_S
                if early_enough or (every and event.step == max_iters):
                    early = False
                    if event.step % every:  # otherwise a sample is due anyway
                        commands.put(Sample(config.evaluation.sample_start, config.system.seed))
            yield event
