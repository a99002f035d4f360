"""What looking inside costs: CPU seconds of the same steps with and without the observers of each layer's health.

    python benchmarks/observers.py [--preset macbook baby] [--rounds 6] [--steps 100] [--name=value …]

Both sides are two trainings in one process that take turns: `--steps` steps of one, then as many of the other. They
have the same weights and the same batches. The ratio is that of the CPU time, which other programs hardly change; the
one of the wall time is printed too. Text: random characters.
"""

import argparse
import time
from collections.abc import Generator
from contextlib import closing

import numpy as np

from nanogpt.config import Config, load_preset, resolve, with_settings
from nanogpt.events import Event, Step
from nanogpt.inspection import HealthObserver, LayerHealthObserver, LayerProblemObserver, Observer, SpikeObserver
from nanogpt.training import train


def training(config: Config, tokens: dict[str, np.ndarray], observers: list[Observer]) -> Generator[Event, None, None]:
    return train(config, tokens, observers=observers)


def advance(events: Generator[Event, None, None], steps: int) -> tuple[float, float]:
    """Do so many steps; return the CPU and the wall seconds."""
    cpu, wall = time.process_time(), time.monotonic()
    while steps:
        steps -= isinstance(next(events), Step)
    return time.process_time() - cpu, time.monotonic() - wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", nargs="+", default=["macbook", "baby"])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=100)
    args, flags = parser.parse_known_args()
    changes = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
    for preset in args.preset:
        load_preset(preset)
        given = {"max_iters": 10**6, "eval_interval": 10**9, "log_interval": 1, "vocab_size": 65, **changes}
        config = with_settings(resolve(preset=preset).config, given)
        random = np.random.default_rng(1)
        tokens = {split: random.integers(0, 65, 500_000).astype(np.uint16) for split in ("train", "val")}
        observers = [LayerHealthObserver(config), LayerProblemObserver(), SpikeObserver(str)]
        sides = {
            "without": training(config, tokens, [HealthObserver()]),
            "with": training(config, tokens, [HealthObserver(), *observers]),
        }
        spent = {name: [0.0, 0.0] for name in sides}
        with closing(sides["without"]), closing(sides["with"]):
            for events in sides.values():
                advance(events, 25)  # the early measurements, and what is done once
            for number in range(args.rounds):
                for name in list(sides)[:: 1 if number % 2 else -1]:
                    cpu, wall = advance(sides[name], args.steps)
                    spent[name][0] += cpu
                    spent[name][1] += wall
        (cpu, wall), (cpu_with, wall_with) = spent["without"], spent["with"]
        print(
            f"{preset}: {args.rounds * args.steps} steps on each side, health_interval="
            f"{config.evaluation.health_interval}: speed with by without {cpu / cpu_with:.3f} (CPU time), "
            f"{wall / wall_with:.3f} (wall time); {1000 * cpu / (args.rounds * args.steps):.1f} ms of CPU a step"
        )


if __name__ == "__main__":
    main()
