"""From nothing to a model that writes, in about a minute and without a question. Knows nothing of who watches."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from nanogpt.config import Config, resolve, with_settings
from nanogpt.errors import UserError
from nanogpt.events import Acknowledged, Notice, Started, Step
from nanogpt.runs.launch import Events, obtain, splits, start
from nanogpt.training import CommandQueue, Sample, SetEvalInterval, SetMaxIters
from nanogpt.training.step_timing import time_steps

PREFERRED, OFFLINE = "shakespeare_char", "python_stdlib"
FEWEST_ITERATIONS = 20
CHECKPOINTS, SAMPLES = 5, 10  # over the whole run
FOR_STEPS = 0.85  # part of the time for iterations themselves: evaluating, sampling and saving take the rest
FIRST_SAMPLE_S = 3.0


def run_quickstart(
    run: Path,
    *,
    seconds: float = 45,
    changes: Mapping[str, Any] | None = None,
    commands: CommandQueue | None = None,
    data_dir: Path | None = None,
) -> Events:
    """Prepares tiny Shakespeare, and trains the preset `quickstart` on it for about `seconds` in the folder `run`.

    Where it cannot be fetched, a Notice says why and Python's own standard library, which is on every machine, takes
    its place. A few iterations are timed first: max_iters is what fits, so that the learning rate comes down to its
    end, and follows the speed that training then has; evaluations, each with a checkpoint that stays, and samples are
    spread over it. `changes` are settings by name; one that sets max_iters needs no timing. Raises `UserError`.
    """
    changes = dict(changes or {})
    config = resolve(preset="quickstart", flags={"dataset": PREFERRED} | changes).config
    try:
        dataset = yield from obtain(config.data.dataset, data_dir)
    except UserError as error:
        if config.data.dataset != PREFERRED:
            raise
        yield Notice(level="warning", text=f"{error}; training on Python's own sources, {OFFLINE}, instead")
        dataset = yield from obtain(OFFLINE, data_dir)
    config = with_settings(config, {"dataset": dataset.name, "vocab_size": dataset.tokenizer.vocab_size})
    max_iters = config.schedule.max_iters
    if "max_iters" not in changes:
        threads, step_s = _timed(config, splits(dataset))
        config = with_settings(config, {"threads": threads})
        max_iters = max(FEWEST_ITERATIONS, int(FOR_STEPS * seconds / step_s))
    spread = {"eval_interval": _each(max_iters, CHECKPOINTS), "sample_interval": _each(max_iters, SAMPLES)}
    asked = {name: value for name, value in changes.items() if name in ("eval_interval", "sample_interval")}
    config = with_settings(config, {"max_iters": max_iters} | spread | asked)
    commands = commands or CommandQueue()
    events = start(config, run, commands=commands, data_dir=data_dir)
    if "max_iters" in changes:
        yield from events
    else:
        yield from _in_time(events, seconds, config, commands, respaced="eval_interval" not in changes)


def _timed(config: Config, tokens: Mapping[str, Any]) -> tuple[int, float]:
    """The setting `threads`, and the seconds that an iteration takes with it: one thread where that is faster, as it is
    beside other programs, because several wait for each other."""

    def timed(threads: int) -> tuple[Started, float]:
        asked = with_settings(config, {"threads": threads})
        started, durations = time_steps(asked, tokens, burn_in=1, steps=5, limit_s=1)
        return started, median(durations)  # because something disturbs a step now and then

    threads = config.system.threads
    started, step_s = timed(threads)
    if started.device == "cpu" and started.threads > 1 and not threads:
        _, alone_s = timed(1)
        if alone_s < 0.9 * step_s:
            return 1, alone_s
    return threads, step_s


def _each(iterations: int, parts: int) -> int:
    """The interval that makes `parts` of so many iterations."""
    return max(1, -(-iterations // parts))


def _in_time(events: Events, seconds: float, config: Config, commands: CommandQueue, respaced: bool) -> Events:
    """Moves the last step, and with it the evaluations if they are to be `respaced`, where training turns out to be
    slower or faster than when it was timed, until a person chooses it. Has samples written early and at the end."""
    max_iters, every = config.schedule.max_iters, config.evaluation.sample_interval
    fits, early = True, bool(every)
    looked, looked_s = 0, 0.0
    with closing(events):
        for event in events:
            if isinstance(event, Acknowledged) and event.max_iters not in (None, max_iters):
                fits, max_iters = False, event.max_iters or 0
            if isinstance(event, Step):
                if fits and event.step % max(1, max_iters // 10) == 0:
                    step_s = (event.elapsed_s - looked_s) / (event.step - looked)  # lately, all that it does included
                    looked, looked_s = event.step, event.elapsed_s
                    fitting = event.step + max(0, int((seconds - event.elapsed_s) / step_s))
                    grows = event.step < max_iters / 2  # later the learning rate would have to rise again
                    if fitting < 0.85 * max_iters or (grows and fitting > 1.2 * max_iters):
                        max_iters = fitting
                        commands.put(SetMaxIters(max_iters))
                        if respaced:
                            commands.put(SetEvalInterval(_each(max_iters, CHECKPOINTS)))
                early_enough = early and event.elapsed_s >= FIRST_SAMPLE_S
                if early_enough or (every and event.step == max_iters):
                    early = False
                    if event.step % every:  # else it is written anyway
                        commands.put(Sample(config.evaluation.sample_start, config.system.seed))
            yield event
