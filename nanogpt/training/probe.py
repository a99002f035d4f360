"""How fast a configuration trains here, from a few real steps. Writes nothing."""

import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from nanogpt.config import Config, with_settings
from nanogpt.events import Started, Step
from nanogpt.training.loop import train


def seconds_per_step(
    config: Config, tokens: Mapping[str, Any], *, burn_in: int = 10, steps: int = 20, limit_s: float = 60.0
) -> tuple[Started, list[float]]:
    """The choices that were made, and the seconds of each of `steps` iterations after `burn_in` others.

    Fewer steps where they take longer than `limit_s` together, but at least one. `tokens` as `train` takes them.
    """
    short = with_settings(
        config,
        {
            "init_from": "scratch",
            "eval_iters": 1,
            "log_interval": 1,
            "sample_interval": 0,
            # the run's own length decides about compiling, so it is kept; the loop below ends long before it
            "max_iters": max(config.schedule.max_iters, burn_in + steps + 1),
            "eval_interval": max(config.schedule.max_iters, burn_in + steps + 1),
        },
    )
    started: Started | None = None
    durations: list[float] = []
    with closing(train(short, tokens)) as events:
        before = time.perf_counter()
        for event in events:
            now = time.perf_counter()
            if isinstance(event, Started):
                started = event
            if isinstance(event, Step):
                if event.step > burn_in:
                    durations.append(now - before)
                if len(durations) == steps or (durations and sum(durations) > limit_s):
                    break
            before = now
    if started is None:
        raise RuntimeError("training ended before it started")
    return started, durations
