"""How fast a configuration trains here, from a few real steps. Writes nothing."""

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from statistics import median
from typing import Any

from nanogpt.config import Config, with_settings
from nanogpt.events import Event, Measured, Started, Step
from nanogpt.training.setup import train
from nanogpt.training.throughput import Parts


def seconds_per_step(
    config: Config, tokens: Mapping[str, Any], *, burn_in: int = 10, steps: int = 20, limit_s: float = 60.0
) -> tuple[Started, list[float]]:
    """The choices that were made, and the seconds of each of `steps` iterations after `burn_in` others.

    Fewer steps where they take longer than `limit_s` together, but at least one. `tokens` as `train` takes them.
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


def step_parts(
    config: Config, tokens: Mapping[str, Any], *, burn_in: int, steps: int, limit_s: float
) -> Generator[Started | Step, None, tuple[Started, float, list[Parts]]]:
    """Yields Started and each Step. Returns Started, the seconds of the first iteration, and of `steps` iterations
    after `burn_in` others the seconds by part: data, forward, backward, optimizer, and step for the whole.

    Fewer of both where they take longer than `limit_s`, but at least one each; none where the loss is not finite.
    """
    started: Started | None = None
    record: list[Parts] = []
    warm: int | None = None
    with closing(_timed(config, tokens, burn_in + steps + 1, record)) as events:
        for event, _ in events:
            if not isinstance(event, Started | Step):
                continue
            started = event if isinstance(event, Started) else started
            yield event
            if warm is None and record and (len(record) >= burn_in or sum(p["step"] for p in record) > limit_s):
                warm = len(record)
            measured = record[warm:] if warm is not None else []
            if len(measured) >= steps or sum(parts["step"] for parts in measured) > limit_s:
                break
    if started is None:
        raise RuntimeError("training ended before it started")
    return started, record[0]["step"], [] if warm is None else record[warm:]


def sounded(config: Config, tokens: Mapping[str, Any], budget_s: float = 2.0) -> Iterator[Event]:
    """A quick estimate, and better ones while `budget_s` allows: `Measured`, first with one sequence in a batch, then
    with as many as there is time for. Closing it at any event (its steps are among them) cancels.

    Without torch.compile, which would take longer than this may.
    """
    asked, rows = config.data, 1
    for fuller in (True, False):
        short = with_settings(config, {"batch_size": rows, "gradient_accumulation_steps": 1, "compile": "false"})
        started: Started | None = None
        durations: list[float] = []
        with closing(_timed(short, tokens, 100)) as events:
            for event, duration in events:
                yield event
                if isinstance(event, Started):
                    started = event
                if isinstance(event, Step):
                    durations.append(duration)
                    # The first step warms up: it counts only where another would take too long.
                    if durations[0] > 2 * budget_s or sum(durations[1:]) > budget_s / 3 or len(durations) == 12:
                        break
        if started is None:
            raise RuntimeError("training ended before it started")
        step_s = median(durations[1:] or durations)
        yield Measured(
            seconds_per_step=step_s * asked.batch_size / rows * asked.gradient_accumulation_steps,
            batch_size=rows,
            device=started.device,
            dtype=started.dtype,
            threads=started.threads,
        )
        affordable = min(asked.batch_size, int(budget_s / 4 / step_s * rows))
        if not fuller or affordable <= rows:
            return
        rows = affordable


def _timed(
    config: Config, tokens: Mapping[str, Any], steps: int, record: list[Parts] | None = None
) -> Generator[tuple[Event, float], None, None]:
    """The events of a training that saves nothing and reports each step, with the seconds since the one before."""
    short = with_settings(
        config,
        {
            "init_from": "scratch",
            "eval_iters": 1,
            "log_interval": 1,
            "sample_interval": 0,
            # the run's own length decides about compiling, so it is kept; who asks ends long before it
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
