"""What looking inside costs: CPU seconds of the same steps with and without the observers of each layer's health.

    python benchmarks/observers.py [--preset macbook baby] [--rounds 6] [--steps 100] [--name=value …]

Both sides are two trainings in one process that take turns: `--steps` steps of one, then as many of the other. They
have the same weights and the same batches. The ratio is that of the CPU time, which other programs hardly change; the
one of the wall time is printed too. Text: random characters.

On a noisy machine two trainings differ by more than observers cost. So the CPU time inside the observers is measured
too, as a share of that side's: `inside`. With --rounds 0 it is all that is measured, in `--steps` steps with the early,
frequent measurements, and the share at the interval of the settings is computed from the cost of one measurement.
"""

import argparse
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing

import numpy as np
from torch import Tensor

from nanogpt.config import Config, load_preset, resolve, with_settings
from nanogpt.events import Event, Step
from nanogpt.inspection import HealthObserver, LayerHealthObserver, LayerProblemObserver, Observer, SpikeObserver
from nanogpt.models.base import LanguageModel
from nanogpt.training import train


class Timed(Observer):
    """Passes everything on to other observers; `spent` has the CPU seconds inside them, by step."""

    def __init__(self, observers: list[Observer]) -> None:
        self.observers, self.spent, self.step = observers, dict[int, float](), 0

    def is_due(self, step: int) -> bool:
        return any(each.is_due(step) for each in self.observers)

    def before_micro_batch(self, model: LanguageModel, step: int, number: int, ids: Tensor) -> None:
        self.step = step
        self._call(lambda each: each.before_micro_batch(model, step, number, ids), self._due(step))

    def after_micro_batch(self, model: LanguageModel, step: int, number: int, factor: float) -> None:
        self._call(lambda each: each.after_micro_batch(model, step, number, factor), self._due(step))

    def before_update(self, model: LanguageModel, step: int) -> Iterable[Event]:
        return self._call(lambda each: list(each.before_update(model, step)), self._due(step))

    def after_update(self, model: LanguageModel, step: int) -> Iterable[Event]:
        return self._call(lambda each: list(each.after_update(model, step)), self._due(step))

    def on_event(self, event: Event) -> Iterable[Event]:
        self.step = getattr(event, "step", self.step)
        return self._call(lambda each: list(each.on_event(event)), self.observers)

    def _due(self, step: int) -> list[Observer]:
        return [each for each in self.observers if each.is_due(step)]

    def _call(self, call: Callable[[Observer], list[Event] | None], observers: list[Observer]) -> list[Event]:
        began = time.process_time()
        events = [event for each in observers for event in call(each) or ()]
        self.spent[self.step] = self.spent.get(self.step, 0.0) + time.process_time() - began
        return events


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
        layers = LayerHealthObserver(config)
        observers = Timed([layers, LayerProblemObserver(), SpikeObserver(str)])
        if not args.rounds:
            report_inside(preset, config, tokens, observers, layers, args.steps)
            continue
        sides = {
            "without": training(config, tokens, [HealthObserver()]),
            "with": training(config, tokens, [HealthObserver(), observers]),
        }
        spent = {name: [0.0, 0.0] for name in sides}
        with closing(sides["without"]), closing(sides["with"]):
            for events in sides.values():
                advance(events, 25)  # the early measurements, and what is done once
            observers.spent.clear()
            for number in range(args.rounds):
                for name in list(sides)[:: 1 if number % 2 else -1]:
                    cpu, wall = advance(sides[name], args.steps)
                    spent[name][0] += cpu
                    spent[name][1] += wall
        (cpu, wall), (cpu_with, wall_with) = spent["without"], spent["with"]
        print(
            f"{preset}: {args.rounds * args.steps} steps on each side, health_interval="
            f"{config.evaluation.health_interval}: speed with by without {cpu / cpu_with:.3f} (CPU time), "
            f"{wall / wall_with:.3f} (wall time); {1000 * cpu / (args.rounds * args.steps):.1f} ms of CPU a step; "
            f"inside {sum(observers.spent.values()) / cpu_with:.2%}"
        )


def report_inside(
    preset: str,
    config: Config,
    tokens: dict[str, np.ndarray],
    observers: Timed,
    layers: LayerHealthObserver,
    steps: int,
) -> None:
    """Measure the CPU time inside the observers alone, in the first steps of one training."""
    with closing(training(config, tokens, [HealthObserver(), observers])) as events:
        advance(events, 1)  # what is done once
        observers.spent.clear()
        cpu, _ = advance(events, steps)
    measured = [spent for step, spent in observers.spent.items() if layers.is_due(step)]
    others = [spent for step, spent in observers.spent.items() if not layers.is_due(step)]
    inside = sum(measured) / len(measured) + (layers.interval - 1) * sum(others) / max(1, len(others))
    step = (cpu - sum(observers.spent.values())) / steps
    share = inside / (layers.interval * step + inside)
    print(
        f"{preset}: a measurement {1000 * sum(measured) / len(measured):.1f} ms of CPU ({len(measured)} of them), "
        f"a step {1000 * step:.1f} ms; inside {share:.2%} at health_interval={layers.interval}"
    )


if __name__ == "__main__":
    main()
