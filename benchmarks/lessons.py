"""How long the lessons 6 to 10 take, and how often their claims hold, over some seeds.

    python benchmarks/lessons.py [--lessons attention scale] [--seeds 10] [--show] [--set name=value …]

Each lesson runs as a learner would do it: its start, then its keys. For each seed: the seconds of the whole, those of
the CPU, the longest time without an update, and the figures that its claims are about. ✗ marks a claim that does not
hold, which the lesson's own sentences say, too. --show prints the titles and sentences of the last figures.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

from nanogpt.hardware import share_cores
from nanogpt.learn.experiment import Experiment, create
from nanogpt.learn.figures import Figures, Sentence, Update

Claims = dict[str, tuple[str, bool]]  # a figure as text, and whether the claim holds


class Watch:
    """The longest time between two updates, and the last figures."""

    def __init__(self) -> None:
        self.longest, self.figures = 0.0, Figures(())

    def run(self, updates: Iterator[Update]) -> None:
        """Iterate over updates."""
        before = time.monotonic()
        for update in updates:
            now = time.monotonic()
            self.longest, before = max(self.longest, now - before), now
            self.figures = update if isinstance(update, Figures) else self.figures


def attention(experiment: Any) -> Claims:
    """A head learns to copy, and without it the model does not."""
    from nanogpt.learn.experiments.attention import copied_share, switched_off

    start, end = (max(each.scores["induction"] for each in experiment.scores[at]) for at in (0, -1))
    with switched_off(experiment.model, experiment._head(), experiment.settings.n_head):
        off = copied_share(experiment.model, experiment.tested)
    copied = experiment.copied[-1]
    previous = max(each.scores["previous token"] for each in experiment.scores[-1])
    return {
        "steps": (f"{experiment.steps[-1]:.0f}", True),
        "score": (f"{start:.2f} → {end:.2f}", start < 0.2 and end > 0.5),
        "copied": (f"{copied:.0%}", copied > 0.9),
        "head off": (f"{off:.0%}", off < copied / 2),
        "previous": (f"{previous:.2f}", previous > 0.4),
    }


def depth(experiment: Any) -> Claims:
    """The top is better than the bottom, and needs its residual stream."""
    losses = [each.loss for each in experiment.results]
    having, lacking = (each[0] / each[-1] for each in experiment.gradients)
    return {
        "rungs": (" ".join(f"{loss:.2f}" for loss in losses), losses[-1] < losses[0]),
        "no residual": (f"{experiment.without.loss:.2f}", experiment.without.loss > losses[-1] + 0.1),
        "gradient": (f"{having:.2g}, without {lacking:.2g}", lacking < having),
    }


def overfitting(experiment: Any) -> Claims:
    """The curves part, dropout narrows the gap, more text more so."""
    plain, dropout, more = (experiment.runs[key] for key in ((False, False), (True, False), (True, True)))
    return {
        "own": (f"{plain.own[-1]:.2f}", True),
        "unseen": (f"{plain.best[0]:.2f} → {plain.unseen[-1]:.2f}", plain.unseen[-1] > plain.best[0] + 0.1),
        "recited": ("{:.0f}, {:.0f}".format(*plain.recited), plain.recited[0] > plain.recited[1]),
        "gap": (f"{plain.gap:.2f}, dropout {dropout.gap:.2f}, more {more.gap:.2f}", more.gap < dropout.gap < plain.gap),
    }


def sampling(experiment: Any) -> Claims:
    """Colder text has more real words."""
    cold, hot = experiment.samples
    return {
        "loss": (f"{experiment.loss:.2f}", experiment.loss < 2.3),
        "words": (
            f"{cold.known}/{cold.words}, hot {hot.known}/{hot.words}",
            cold.known * hot.words > hot.known * cold.words,
        ),
    }


def scale(experiment: Any) -> Claims:
    """The slope is significant, and the next size is where the law said."""
    law, last, said = experiment.law, experiment.trained[-1], experiment.prediction
    return {
        "losses": (" ".join(f"{each.loss:.3f}" for each in experiment.trained), True),
        "b": (f"{law.b:.3f} ± {law.b_error:.3f}, floor {law.floor:.2f}", law.b > 3 * law.b_error),
        "prediction": (f"{said.low:.3f} to {said.high:.3f}", said.low <= last.loss <= said.high),
        "width of it": (f"{said.high / said.low - 1:.1%}", said.high / said.low < 1.2),
    }


PLANS: dict[str, tuple[list[str], Callable[[Any], Claims]]] = {
    "attention": (["switch", "head", "letters"], attention),
    "depth": (["next", "all", "residual"], depth),
    "overfitting": (["dropout", "more"], overfitting),
    "sampling": (["colder", "colder", "write", *["hotter"] * 5, "write", "top_k", "top_p", "draw"], sampling),
    "scale": (["more"], scale),
}


def learn(name: str, values: dict[str, Any]) -> tuple[Experiment[Any], Watch, list[float]]:
    """Do a whole lesson; return the experiment, what was shown, and the seconds of its start and of each action."""
    experiment, watch, seconds = create(name, values), Watch(), []
    for action in ("", *PLANS[name][0]):
        began = time.monotonic()
        watch.run(experiment.act(action) if action else experiment.start())
        seconds.append(time.monotonic() - began)
    return experiment, watch, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lessons", nargs="+", default=list(PLANS), choices=list(PLANS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()
    share_cores()
    values = dict(item.split("=", 1) for item in args.set)
    for name in args.lessons:
        holds: dict[str, int] = {}
        longest = 0.0
        for seed in range(1, args.seeds + 1):
            cpu = time.process_time()
            experiment, watch, seconds = learn(name, values | {"seed": seed})
            longest = max(longest, sum(seconds))
            claims = PLANS[name][1](experiment)
            for claim, (_, is_so) in claims.items():
                holds[claim] = holds.get(claim, 0) + is_so
            shown = "; ".join(f"{claim} {text}{'' if is_so else ' ✗'}" for claim, (text, is_so) in claims.items())
            parts = " + ".join(f"{each:.1f}" for each in seconds if each >= 0.1)
            taken = f"{sum(seconds):.1f} s ({parts}; CPU {time.process_time() - cpu:.1f})"
            print(f"{name} seed {seed}: {taken}, gap {watch.longest:.2f} s; {shown}", flush=True)
            if args.show:
                for figure in watch.figures.figures:
                    print(f"    {figure.text if isinstance(figure, Sentence) else figure.title}")
        counts = ", ".join(f"{claim} {count}/{args.seeds}" for claim, count in holds.items())
        print(f"{name}: at most {longest:.1f} s; claims hold: {counts}\n", flush=True)


if __name__ == "__main__":
    main()
