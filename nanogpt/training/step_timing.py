"""The step time of a configuration, from a short training that is only for this measurement. Writes no files.

A running training is timed in `throughput.py`; `nanogpt/runs/benchmark.py` adds sampling and preparing data.
"""

import time
from collections.abc import Generator, Mapping
from contextlib import closing
from statistics import median

from nanogpt.config import Config, with_settings
from nanogpt.data.token_files import Tokens
from nanogpt.events import Event, Measured, Started, Step
from nanogpt.training.throughput import Parts
from nanogpt.training.train_run import train


def time_steps(
    config: Config, tokens: Mapping[str, Tokens], *, burn_in: int = 10, steps: int = 20, limit_s: float = 60.0
) -> tuple[Started, list[float]]:
    """Train, and return the Started event and the seconds of each of `steps` iterations after `burn_in` others.

    At least one step is timed, and no further ones after `limit_s` seconds. tokens: as for `train`.
    """
    started: Started | None = None
    durations: list[float] = []
    with closing(_timed(config, tokens, burn_in + steps + 1)) as events:
        for event, duration in events:
            if isinstance(event, Started):
                started = event
            if isinstance(event, Step):
                if event.step > burn_in:
                    durations.append(duration)
                if len(durations) == steps or (durations and sum(durations) > limit_s):
                    break
    if started is None:
        raise RuntimeError("training ended before it started")
    return started, durations


def time_step_parts(
    config: Config, tokens: Mapping[str, Tokens], *, burn_in: int, steps: int, limit_s: float
) -> Generator[Started | Step, None, tuple[Started, float, list[Parts]]]:
    """Train, and yield Started and each Step. Return Started, the seconds of the first iteration, and the timed parts.

    These are the seconds of data, forward, backward, optimizer and step (the whole) in each of `steps` iterations after
    `burn_in` others. Both numbers are cut to what fits into `limit_s`, but at least one. No parts are returned if the
    loss is not finite.
    """
    started: Started | None = None
    record: list[Parts] = []
    warm: int | None = None
    with closing(_timed(config, tokens, burn_in + steps + 1, record)) as events:
        for event, _ in events:
            if not isinstance(event, Started | Step):
                continue
            if isinstance(event, Started):
                started = event
                burn_in = min(burn_in, event.max_iters // 2)  # a counted model has as many steps as its text
            yield event
            if warm is None and record and (len(record) >= burn_in or sum(p["step"] for p in record) > limit_s):
                warm = len(record)
            measured = record[warm:] if warm is not None else []
            if len(measured) >= steps or sum(parts["step"] for parts in measured) > limit_s:
                break
    if started is None:
        raise RuntimeError("training ended before it started")
    return started, record[0]["step"], [] if warm is None else record[warm:]


def estimate_step_time(
    config: Config, tokens: Mapping[str, Tokens], budget_s: float = 2.0
) -> Generator[Event, None, None]:
    """Train for about `budget_s` seconds, and yield a quick `Measured`, then a better one if time allows.

    The first has one sequence in a batch, the second as many as the time allows. The events of training are yielded
    too: closing the iterator at any of them cancels. In this process alone, and without torch.compile, which takes
    longer than the budget.
    """
    target, rows = config.data, 1
    for is_first in (True, False):
        changes = {"batch_size": rows, "gradient_accumulation_steps": 1, "noise_interval": 0, "compile": "false"}
        short = with_settings(config, changes)
        started: Started | None = None
        durations: list[float] = []
        with closing(_timed(short, tokens, 100)) as events:
            for event, duration in events:
                yield event
                if isinstance(event, Started):
                    started = event
                if isinstance(event, Step):
                    durations.append(duration)
                    # The first step warms up: it counts only if a second one would take too long.
                    if durations[0] > 2 * budget_s or sum(durations[1:]) > budget_s / 3 or len(durations) == 12:
                        break
        if started is None:
            raise RuntimeError("training ended before it started")
        step_s = median(durations[1:] or durations)
        yield Measured(
            seconds_per_step=step_s * target.batch_size / rows * target.gradient_accumulation_steps,
            batch_size=rows,
            device=started.device,
            dtype=started.dtype,
            threads=started.threads,
        )
        config = with_settings(config, {"threads": started.threads, "dtype": started.dtype})  # without another trial
        affordable = min(target.batch_size, int(budget_s / 4 / step_s * rows))
        if not is_first or affordable <= rows:
            return
        rows = affordable


def _timed(
    config: Config, tokens: Mapping[str, Tokens], steps: int, record: list[Parts] | None = None
) -> Generator[tuple[Event, float], None, None]:
    """Yield the events of a training that saves nothing and reports each step, and the seconds of each."""
    short = with_settings(
        config,
        {
            "processes": 1,
            "eval_iters": 1,
            "eval_only": False,
            "log_interval": 1,
            "sample_interval": 0,
            # the length of the run decides about compiling, so it stays; the caller ends the training long before
            "max_iters": max(config.schedule.max_iters, steps),
            "eval_interval": max(config.schedule.max_iters, steps),
        },
    )
    with closing(train(short, tokens, record=record)) as events:
        before = time.perf_counter()
        for event in events:
            now = time.perf_counter()
            yield event, now - before
            before = time.perf_counter()
