"""The learning rate: the same small model with three rates side by side, and then with one that the learner types."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config.setting import setting
from nanogpt.learn import experiment
from nanogpt.learn.characters import character_ids
from nanogpt.learn.figures import Curve, Curves, Figure, Figures, Sentence, Table, Update, Working
from nanogpt.learn.text import lesson_text

if TYPE_CHECKING:
    import torch

    from nanogpt.learn.trainer import Trainer

BLOCK_SIZE = 16
BATCH_SIZE = 32
FIGURE_STEPS = 10  # between two pictures
SMOOTHED = 10  # steps in the mean that is drawn and compared
MOST_RUNS = 6  # the oldest run of the learner's own is dropped
CEILING = 1.3  # a loss above this multiple of blind guessing is drawn at it


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(experiment.Settings):
    """The three rates, the length of the runs, and the model."""

    low: float = setting(3e-5, "the lowest learning rate", above=0, high=100)
    middle: float = setting(3e-3, "the middle learning rate", above=0, high=100)
    high: float = setting(0.3, "the highest learning rate", above=0, high=100)
    steps: int = setting(100, "steps of each run", low=20, high=1000)
    n_layer: int = setting(1, "blocks of the model", low=1, high=4)
    n_embd: int = setting(32, "width of the model, a multiple of 4", low=4, high=128)


@dataclass(slots=True)
class Run:
    """A training with one learning rate, and the loss (nats per character) of each step so far."""

    rate: float
    trainer: "Trainer"
    losses: list[float] = field(default_factory=list)

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite; such a run does no more steps."""
        return bool(self.losses) and not math.isfinite(self.losses[-1])

    @property
    def end(self) -> float:
        """The mean loss of the last steps; infinite if the run diverged."""
        last = self.losses[-SMOOTHED:]
        return math.inf if self.diverged else sum(last) / len(last)


class Experiment(experiment.Experiment[Settings]):
    """Trains three runs in turn, step by step, so that their curves grow together."""

    name: ClassVar[str] = "learning_rates"
    settings_class: ClassVar[type[experiment.Settings]] = Settings

    ids: "torch.Tensor"
    vocab_size: int
    runs: list[Run]

    @property
    def blind(self) -> float:
        """The loss of blind guessing."""
        return math.log(self.vocab_size)

    @property
    def question(self) -> str:
        """Ask for another rate."""
        return "Type a learning rate"

    def start(self) -> Iterator[Update]:
        """Train with the three rates."""
        yield Working(0.0, "building three models")

        tokenizer, self.ids = character_ids(lesson_text(self.data_dir).text)
        self.vocab_size = tokenizer.vocab_size
        settings = self.settings
        self.runs = [self.new_run(rate) for rate in sorted({settings.low, settings.middle, settings.high})]
        yield from self.train(self.runs)

    def answer(self, text: str) -> Iterator[Update]:
        """Train with the learning rate that was typed."""
        try:
            rate = float(text.strip().replace(",", "."))
            if not 0 < rate <= 100:
                raise ValueError
        except ValueError:
            hint = Sentence("A learning rate is a number above 0 and at most 100, such as 0.01 or 1e-4.")
            yield Figures((hint, *self.figures()))
            return
        run = self.new_run(rate)
        others = [each for each in self.runs[3:] if each.rate != rate and self.has_ended(each)]  # one may be cancelled
        self.runs = [*self.runs[:3], *others[3 - MOST_RUNS + 1 :], run]
        yield from self.train([run])
        self.done = True

    def new_run(self, rate: float) -> Run:
        """Return a run that has done no step: with the same first weights and batches as all others."""
        from nanogpt.learn.trainer import Trainer, build_model, windows

        settings, vocab_size = self.settings, self.vocab_size
        shape = {"n_layer": settings.n_layer, "n_head": 4, "n_embd": settings.n_embd, "block_size": BLOCK_SIZE}
        # a head of its own learns faster in the first steps than one that is tied to the embedding
        model = build_model("gpt2", vocab_size=vocab_size, seed=settings.seed, tied_head=False, **shape)
        batches = windows(self.ids, BLOCK_SIZE, BATCH_SIZE)
        # without clipping, which would hide what a high rate does
        return Run(rate, Trainer(model, batches, learning_rate=rate, seed=settings.seed, grad_clip=0.0))

    def has_ended(self, run: Run) -> bool:
        """Return whether a run does no more steps."""
        return run.diverged or len(run.losses) == self.settings.steps

    def train(self, runs: list[Run]) -> Iterator[Update]:
        """Do all steps of runs, one step of each in turn, and yield how their curves grow."""
        steps = self.settings.steps
        for number in range(1, steps + 1):
            for run in runs:
                if not run.diverged:
                    run.losses.append(run.trainer.step().loss)
                losses = ", ".join(shown(each.losses[-1]) for each in runs if each.losses)
                yield Working(number / steps, f"step {number} of {steps}, loss {losses}")
            if number % FIGURE_STEPS == 0 or number == steps:
                yield Figures(tuple(self.figures()))

    def figures(self) -> Iterator[Figure]:
        """Yield the curves so far, and what they show once all runs have ended."""
        curves = tuple(filter(None, (self.curve(run) for run in self.runs)))
        top = CEILING * self.blind
        cut = f", drawn up to {top:.1f}" if any(loss > top for run in self.runs for loss in run.losses) else ""
        yield Curves(f"Training loss, mean of {SMOOTHED} steps{cut}", "steps", "nats per character", curves)
        if not all(map(self.has_ended, self.runs)):
            return
        ranked = sorted(self.runs, key=lambda run: run.rate)
        best = min(ranked, key=lambda run: run.end)
        rows = [
            (
                f"{run.rate:g}",
                shown(run.losses[0]),
                shown(run.end) if not run.diverged else "none",
                shown(largest_jump(run)),
                "best" if run is best else "",
            )
            for run in ranked
        ]
        header = ("learning rate", "first loss", f"last {SMOOTHED} steps", "largest jump", "")
        yield Table("The runs", header, tuple(rows))
        yield from (Sentence(text) for text in self.findings(ranked, best))

    def curve(self, run: Run) -> Curve | None:
        """Return the smoothed loss of a run, at most CEILING times that of blind guessing; None before a step."""
        top = CEILING * self.blind
        finite = [min(loss, top) for loss in run.losses if math.isfinite(loss)]
        if not finite:
            return None
        means = [
            sum(part) / len(part)
            for part in (finite[max(0, end - SMOOTHED) : end] for end in range(1, len(finite) + 1))
        ]
        return Curve(f"{run.rate:g}", tuple(float(step + 1) for step in range(len(means))), tuple(means))

    def findings(self, ranked: list[Run], best: Run) -> Iterator[str]:
        """Yield what the runs show."""
        if not math.isfinite(best.end):
            yield "No rate worked: the loss of every run became infinite."
            return
        yield (
            f"The best of these rates is {best.rate:g}: its loss ended at {best.end:.2f}. "
            f"Blind guessing would have {self.blind:.2f}."
        )
        if (lowest := ranked[0]) is best:
            yield f"No rate here is too low: {lowest.rate:g}, the lowest, did best."
        else:
            fell, best_fell = lowest.losses[0] - lowest.end, best.losses[0] - best.end
            yield (
                f"{lowest.rate:g} is too low for {self.settings.steps} steps: from {lowest.losses[0]:.2f} its loss "
                f"fell by {fell:.2f}; with the best rate it fell by {best_fell:.2f}."
            )
        if (highest := ranked[-1]) is best:
            yield f"No rate here is too high: {highest.rate:g}, the highest, did best."
        elif highest.diverged:
            yield f"{highest.rate:g} is too high: after {len(highest.losses)} steps the loss was no longer a number."
        else:
            above, jump = shown(highest.end - best.end), shown(largest_jump(highest))
            yield (
                f"{highest.rate:g} is too high: its loss ended at {shown(highest.end)}, {above} above the best, and "
                f"once jumped by {jump} in a step."
            )
        own = self.runs[-1] if len(self.runs) > 3 else None
        if own is not None and own is best:
            yield f"Your rate, {own.rate:g}, beats all others."
        elif own is not None:
            yield f"Your rate, {own.rate:g}, does not beat {best.rate:g}."


def largest_jump(run: Run) -> float:
    """Return by how much the loss rose most from one step to the next, infinite losses left out."""
    finite = [loss for loss in run.losses if math.isfinite(loss)]
    return max([0.0, *(after - before for before, after in pairwise(finite))])


def shown(loss: float) -> str:
    """Return a loss with two decimals, or as a power of ten if it is large."""
    return f"{loss:.2f}" if loss < 1000 else f"{loss:.1e}"
