"""The number of threads that a training chooses, against one thread and all, alone and beside busy processes.

    python benchmarks/threads.py [--preset macbook] [--busy 0 1 2] [--rounds 20] [--seconds 1]

In each round another training of the same kind begins, and its choice is noted. Then one training does its steps in
three turns of equal length, in changing order: with one thread, with all, and with the chosen number. Printed are, for
each number of busy processes, the ratio of the median speeds, the median of the ratios of each round, how often each
number was chosen, and how far the median with the chosen numbers is behind that of the better number. Two turns with
the same number differ as well, so the last figure is not exactly zero if each choice is right.
"""

import argparse
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from statistics import median

import numpy as np
import torch

from nanogpt.config import Config, resolve
from nanogpt.events import Started, Step
from nanogpt.hardware import share_cores, usable_cores
from nanogpt.training import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="macbook")
    parser.add_argument("--busy", nargs="+", type=int, default=[0, 1, 2], help="processes that compute beside")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn with each number of threads")
    options = parser.parse_args()
    share_cores()
    flags = {"vocab_size": 65, "device": "cpu", "eval_interval": 10**6, "eval_iters": 1, "max_iters": 10**5}
    config = resolve(preset=options.preset, flags=flags).config
    for busy in options.busy:
        processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            report(config, busy, options)
        finally:
            for process in processes:
                process.kill()
                process.wait()


def report(config: Config, busy: int, options: argparse.Namespace) -> None:
    tokens = np.random.default_rng(0).integers(65, size=300_000).astype(np.uint16)
    splits = {"train": tokens, "val": tokens[:10_000]}
    counts, speeds, chosen, trial_s = (1, usable_cores()), list[dict[str, float]](), Counter[int](), list[float]()
    with closing(train(config, splits)) as events:
        steps = (event for event in events if isinstance(event, Step))
        for number in range(options.rounds):
            count, seconds = choice(config, splits)
            chosen[count] += 1
            trial_s.append(seconds)
            turns = {"one": counts[0], "all": counts[1], "chosen": count}
            order = list(turns)[number % 3 :] + list(turns)[: number % 3]
            speeds.append({turn: speed(steps, turns[turn], options.seconds) for turn in order})
    one, all_threads, automatic = (median(turn[name] for turn in speeds) for name in ("one", "all", "chosen"))
    better = max(one, all_threads)
    print(
        f"beside {busy} busy: {counts[1]} threads {all_threads / one:.2f} times as fast as one (round by round "
        f"{median(turn['all'] / turn['one'] for turn in speeds):.2f}; {config.tokens_per_iteration * better:,.0f} "
        f"tokens/s); chosen: {', '.join(f'{count} thread(s) {times} times' for count, times in chosen.items())}; "
        f"behind the better one by {1 - automatic / better:.1%}; "
        f"{median(trial_s):.2f} s from the call to the first event",
        flush=True,
    )


def choice(config: Config, splits: dict[str, "np.ndarray[tuple[int], np.dtype[np.uint16]]"]) -> tuple[int, float]:
    """The number of threads that a new training chooses, and the seconds until it starts."""
    began = time.perf_counter()
    with closing(train(config, splits)) as events:
        for event in events:
            if isinstance(event, Started):
                return event.threads, time.perf_counter() - began
    sys.exit("the training did not start")


def speed(steps: Iterator[Step], threads: int, seconds: float) -> float:
    """Steps per second with this number of threads. The first step wakes them."""
    torch.set_num_threads(threads)
    next(steps)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        next(steps)
        count += 1
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
