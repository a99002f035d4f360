"""Overfitting: a model that is large for its text learns it by heart; dropout and more text against it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config import SamplingConfig, setting
from nanogpt.events import Token
from nanogpt.learn import experiment
from nanogpt.learn.characters import Characters, read_characters
from nanogpt.learn.experiment import Action
from nanogpt.learn.figures import Curve, Curves, Figure, Figures, Sentence, Table, Update, Working

if TYPE_CHECKING:
    from nanogpt.models.base import LanguageModel

MEASURED_WINDOWS = 32
MEASUREMENTS = 15  # in a run
RISE = 0.02  # nats above the lowest loss from which it counts as risen
PROMPT, RECITED, RECITALS = 24, 60, 3  # characters given, at most recited, places in the text
MORE = 8  # times as much text


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(experiment.Settings):
    """The model, its text and its training."""

    characters: int = setting(1000, "characters of the training text", low=200, high=40_000)
    dropout: float = setting(0.2, "dropout when it is on", above=0, below=1)
    n_layer: int = setting(2, "transformer blocks", low=1, high=24)
    n_head: int = setting(4, "heads in each block", low=1, high=64)
    n_embd: int = setting(64, "width of the model; a multiple of n_head", low=4, high=1024)
    block_size: int = setting(16, "context window in characters", low=4, high=100)
    batch_size: int = setting(16, "windows in a step", low=1, high=1024)
    steps: int = setting(240, "training steps", low=1, high=100_000)
    learning_rate: float = setting(5e-3, "learning rate", above=0, high=10)


@dataclass(slots=True)
class Run:
    """A training with or without dropout on so many characters, and what was measured in it at each of `steps`.

    `own` and `unseen`: the loss on its own text and on unseen text (nats per character), without dropout. `recited`:
    characters that it continues right, on average, at places of its own text and of unseen text.
    """

    characters: int
    dropout: float
    steps: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    unseen: list[float] = field(default_factory=list)
    recited: tuple[float, float] = (0.0, 0.0)

    @property
    def label(self) -> str:
        """What distinguishes the run, in a few words."""
        return f"{self.characters:,} characters" + (f", dropout {self.dropout:g}" if self.dropout else "")

    @property
    def gap(self) -> float:
        """The loss on unseen text minus the loss on its own text, at the end."""
        return self.unseen[-1] - self.own[-1]

    @property
    def best(self) -> tuple[float, float]:
        """The lowest loss on unseen text and its step."""
        return min(zip(self.unseen, self.steps, strict=True))


class Experiment(experiment.Experiment[Settings]):
    """Train on a small text, then the same with dropout or with more text."""

    name = "overfitting"
    settings_class: ClassVar[type[experiment.Settings]] = Settings
    data: Characters

    def __init__(self, settings: Settings, data_dir: Path | None = None) -> None:
        """See `Experiment`."""
        super().__init__(settings, data_dir)
        self.runs: dict[tuple[bool, bool], Run] = {}  # by dropout and more text

    def start(self) -> Iterator[Update]:
        """Train without dropout on the small text."""
        self.runs = {}
        self.has_dropout = self.has_more = False
        yield Working(0, "reading the text")
        self.data = read_characters(self.data_dir)
        yield from self._show(False, False)

    @property
    def actions(self) -> tuple[Action, ...]:
        """Dropout and the amount of text."""
        if not self.runs:
            return ()
        return (
            Action("d", "dropout off" if self.has_dropout else "dropout on", "dropout"),
            Action("m", "less text" if self.has_more else f"{MORE} times more text", "more"),
        )

    def act(self, name: str) -> Iterator[Update]:
        """Train with the other setting, or show the run if it exists."""
        has_dropout, has_more = self.has_dropout, self.has_more
        if name == "dropout":
            yield from self._show(not has_dropout, has_more)
        else:
            yield from self._show(has_dropout, not has_more)
        self.done = self.done or self.has_dropout

    def _show(self, has_dropout: bool, has_more: bool) -> Iterator[Update]:
        if (has_dropout, has_more) not in self.runs:
            its = self.settings
            characters = min(its.characters * (MORE if has_more else 1), len(self.data.train))
            run = Run(characters, its.dropout if has_dropout else 0.0)
            yield from self._train(run)
            self.runs[has_dropout, has_more] = run
        self.has_dropout, self.has_more = has_dropout, has_more
        yield self._figures(self.runs[has_dropout, has_more])

    def _train(self, run: Run) -> Iterator[Update]:
        """Train a new model, the same weights and batches in each run, and measure it."""
        from nanogpt.learn.trainer import Trainer, build_model, fixed_windows, mean_loss, windows

        its = self.settings
        model = build_model(
            "gpt2",
            vocab_size=self.data.tokenizer.vocab_size,
            seed=its.seed,
            n_layer=its.n_layer,
            n_head=its.n_head,
            n_embd=its.n_embd,
            block_size=its.block_size,
            positions="rotary",
            dropout=run.dropout,
        )
        ids = self.data.train[: run.characters]
        own = fixed_windows(ids, its.block_size, MEASURED_WINDOWS)
        unseen = fixed_windows(self.data.validation, its.block_size, MEASURED_WINDOWS)
        trainer = Trainer(
            model,
            windows(ids, its.block_size, its.batch_size),
            learning_rate=its.learning_rate,
            seed=its.seed,
            schedule=lambda step: min(1.0, (step + 1) / 20),
        )
        every = max(1, its.steps // MEASUREMENTS)
        for step in trainer.train(its.steps):
            yield Working(step.number / its.steps, f"{run.label}: training loss {step.loss:.2f}")
            if step.number % every == 0 or step.number == its.steps:
                run.steps.append(float(step.number))
                run.own.append(mean_loss(model, own))
                run.unseen.append(mean_loss(model, unseen))
                yield Figures((self._curves(run),), live=True)
        texts = (self.data.text[: run.characters], self.data.text[len(self.data.train) :])
        recited = []
        for text in texts:
            yield Working(1, "reciting")
            recited.append(recited_characters(model, self.data, text))
        run.recited = recited[0], recited[1]

    def _figures(self, run: Run) -> Figures:
        figures: list[Figure] = [*map(Sentence, self._sentences(run)), self._curves(run)]
        rows = tuple(
            (each.label, f"{each.own[-1]:.2f}", f"{each.unseen[-1]:.2f}", f"{each.gap:.2f}", f"{each.best[0]:.2f}")
            for each in self.runs.values()
        )
        figures.append(Table("Loss at the end", ("run", "own text", "unseen", "gap", "lowest unseen"), rows))
        return Figures(tuple(figures))

    def _curves(self, run: Run) -> Curves:
        """Return the curves of a run, with those of the first one, to which it is compared."""
        curves = [
            Curve("own text", tuple(run.steps), tuple(run.own)),
            Curve("unseen text", tuple(run.steps), tuple(run.unseen)),
        ]
        first = self._first
        if first is not None and first is not run:
            curves += [
                Curve("own text, first run", tuple(first.steps), tuple(first.own)),
                Curve("unseen text, first run", tuple(first.steps), tuple(first.unseen)),
            ]
        return Curves(run.label, "step", "loss", tuple(curves))

    @property
    def _first(self) -> Run | None:
        return self.runs.get((False, False))

    def _sentences(self, run: Run) -> Iterator[str]:
        lowest, step = run.best
        if run.unseen[-1] > lowest + RISE:
            yield (
                f"The loss on unseen text is lowest at step {step:,.0f}, {lowest:.2f}, and rises to "
                f"{run.unseen[-1]:.2f}; the loss on its own text falls to {run.own[-1]:.2f}. It overfits."
            )
        else:
            yield (
                f"In {run.steps[-1]:,.0f} steps the loss on unseen text does not rise again. At the end it is "
                f"{run.unseen[-1]:.2f}, and {run.own[-1]:.2f} on its own text."
            )
        yield (
            f"After {PROMPT} characters of its own text it writes the next {run.recited[0]:.0f} (of {RECITED}) without "
            f"an error, of unseen text {run.recited[1]:.0f}."
        )
        first = self._first
        if first is None or first is run:
            return
        cause = " and ".join(
            text for text, is_so in ((f"dropout {run.dropout:g}", run.dropout), ("more text", self.has_more)) if is_so
        )
        verb = "narrows" if run.gap < first.gap else "does not narrow"
        yield f"{cause.capitalize()} {verb} the gap at the end: {run.gap:.2f} instead of {first.gap:.2f}."
        difference = first.best[0] - lowest
        better = f"better by {difference:.2f}" if difference > 0 else f"not better ({-difference:.2f} higher)"
        yield f"Its lowest loss on unseen text, {lowest:.2f}, is {better} than in the first run."


def recited_characters(model: "LanguageModel", data: Characters, text: str) -> float:
    """Return how many characters the model continues as the text does, on average over some places; `RECITED` at most.

    It always takes the most likely character, and stops at the first error.
    """
    from nanogpt.sampling.generation import generate

    knobs = SamplingConfig(max_new_tokens=RECITED, temperature=0.0, top_k=0)
    total, room = 0, len(text) - PROMPT - RECITED
    for place in range(RECITALS):
        start = max(0, room * place // RECITALS)
        prompt, expected = text[start : start + PROMPT], text[start + PROMPT : start + PROMPT + RECITED]
        written = 0
        for event in generate(model, data.tokenizer, prompt, knobs, alternatives=0, dtype="float32"):
            if not isinstance(event, Token) or event.text != expected[written : written + 1]:
                break
            written += 1
        total += written
    return total / RECITALS
