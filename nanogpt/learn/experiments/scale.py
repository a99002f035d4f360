"""Scale: five models of different sizes see the same text, and a power law is fitted to their losses.

The models are perceptrons over a window of characters. In trainings of a second their losses lie close to a line; those
of transformers do not yet, because a part of them has not begun to use attention.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config import setting
from nanogpt.learn import experiment
from nanogpt.learn.characters import Characters, read_characters, warm_up_and_decay
from nanogpt.learn.experiment import Action
from nanogpt.learn.figures import Curve, Curves, Figure, Figures, Sentence, Table, Update, Working
from nanogpt.learn.labels import percent
from nanogpt.learn.power_law import PowerLaw, fit_power_law, t_95

if TYPE_CHECKING:
    from nanogpt.models.base import LanguageModel

SIZES = 5
WIDTH_STEP = 4  # widths are multiples of it
MOST_SIZES = 7
EMBEDDING_SHARE = 8  # the embedding of a character is that part of the width, and at least `WIDTH_STEP`
LINE_POINTS = 24
CURVE_POINTS = 25  # of the loss of each training
MEASURED_WINDOWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(experiment.Settings):
    """The sizes and the training, which is the same for all of them."""

    smallest: int = setting(8, "hidden units of the smallest model; a multiple of 4", low=4, high=4096)
    largest: int = setting(128, "hidden units of the largest of the five models; a multiple of 4", low=8, high=4096)
    steps: int = setting(300, "training steps of each model", low=2, high=100_000)
    block_size: int = setting(8, "characters that the next one is predicted from", low=1, high=100)
    batch_size: int = setting(64, "windows in a step", low=1, high=1024)
    learning_rate: float = setting(1e-2, "highest learning rate", above=0, high=10)


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model: its width (hidden units), its parameters and its loss on unseen text (nats per character)."""

    width: int
    parameters: int
    loss: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the law said of a size before it was trained: the loss, and the bounds of its 95 % interval."""

    loss: float
    low: float
    high: float


class Experiment(experiment.Experiment[Settings]):
    """Train five sizes, fit a law, and test its prediction for one more."""

    name = "scale"
    settings_class: ClassVar[type[experiment.Settings]] = Settings
    law: PowerLaw | None = None  # of what was trained
    data: Characters

    def start(self) -> Iterator[Update]:
        """Train the five sizes with the first seed."""
        self.trained: list[Trained] = []
        self.courses: dict[str, Curve] = {}  # the losses of the trainings, the last one of each size
        self.seeds = 0
        self.law = None
        self.prediction: Prediction | None = None  # of the size that was trained last, if it was predicted
        self.widths = widths(self.settings.smallest, self.settings.largest, SIZES)
        yield Working(0, "reading the text")
        self.data = read_characters(self.data_dir)
        yield from self._train_all()

    @property
    def actions(self) -> tuple[Action, ...]:
        """One more size, and the same sizes with another seed."""
        if self.law is None:
            return ()
        more = (Action("m", "one more size", "more"),) if len(self.widths) < MOST_SIZES else ()
        return (*more, Action("s", "another seed", "seed"))

    def act(self, name: str) -> Iterator[Update]:
        """Predict the loss of a larger model and train it, or train all sizes with another seed."""
        assert self.law is not None
        if name == "seed":
            yield from self._train_all()
            return
        width = next_width(self.widths[-1])
        parameters = self._model(width, 0).n_parameters()
        low, high = self.law.prediction(parameters)
        prediction = Prediction(self.law.at(parameters), low, high)
        models = []
        for seed in range(self.seeds):
            models.append((yield from self._train(width, seed, seed, self.seeds)))
        self.widths.append(width)
        self.trained += models
        self.prediction = prediction
        self.done = True
        self._fit()
        yield self._figures()

    def _train_all(self) -> Iterator[Update]:
        """Train all sizes with the next seed, and fit the law to what was trained so far."""
        models = []
        for number, width in enumerate(self.widths):
            models.append((yield from self._train(width, self.seeds, number, len(self.widths))))
        self.trained += models
        self.seeds += 1
        self.prediction = None
        self._fit()
        yield self._figures()

    def _fit(self) -> None:
        self.law = fit_power_law([each.parameters for each in self.trained], [each.loss for each in self.trained])

    def _model(self, width: int, seed: int) -> "LanguageModel":
        from nanogpt.learn.trainer import build_model

        its = self.settings
        return build_model(
            "mlp",
            vocab_size=self.data.tokenizer.vocab_size,
            seed=its.seed + seed,
            n_embd=max(WIDTH_STEP, width // EMBEDDING_SHARE),
            n_hidden=width,
            block_size=its.block_size,
        )

    def _train(self, width: int, seed: int, number: int, count: int) -> Generator[Update, None, Trained]:
        """Train a model, which is `number` of `count` that are trained now, and return what became of it."""
        from nanogpt.learn.trainer import Trainer, fixed_windows, mean_loss, windows

        its, model = self.settings, self._model(width, seed)
        trainer = Trainer(
            model,
            windows(self.data.train, its.block_size, its.batch_size),
            learning_rate=its.learning_rate,
            seed=its.seed + seed,
            schedule=warm_up_and_decay(its.steps),
        )
        every = max(1, its.steps // CURVE_POINTS)
        label = f"{model.n_parameters():,} parameters"
        tokens, losses, recent = list[float](), list[float](), list[float]()
        for step in trainer.train(its.steps):
            share = (number + step.number / its.steps) / count
            yield Working(share, f"{label}, width {width}: loss {step.loss:.2f}")
            recent.append(step.loss)
            if step.number % every == 0 or step.number == its.steps:
                tokens.append(float(step.number * its.batch_size * its.block_size))
                losses.append(sum(recent) / len(recent))
                recent.clear()
                self.courses[label] = Curve(label, tuple(tokens), tuple(losses))
                yield self._live_figures()
        loss = mean_loss(model, fixed_windows(self.data.validation, its.block_size, MEASURED_WINDOWS))
        return Trained(width, model.n_parameters(), loss)

    def _live_figures(self) -> Figures:
        curves = tuple(self.courses.values())
        chart = Curves("The same text for each size", "characters seen", "loss", curves, log_y=True)
        return Figures((chart,), live=True)

    def _figures(self) -> Figures:
        assert self.law is not None
        figures: list[Figure] = [*map(Sentence, self._sentences(self.law)), self._chart(self.law)]
        rows = tuple(
            (str(each.width), f"{each.parameters:,}", f"{each.loss:.3f}", f"{self.law.at(each.parameters):.3f}")
            for each in sorted(self.trained, key=lambda each: each.width)
        )
        figures.append(Table("The models", ("width", "parameters", "loss", "law"), rows))
        return Figures(tuple(figures))

    def _chart(self, law: PowerLaw) -> Curves:
        """Return the losses, the law, and one standard error of the law above and below it."""
        import numpy as np

        sizes = [each.parameters for each in self.trained]
        end = self._next_parameters() if len(self.widths) < MOST_SIZES else max(sizes)
        xs = tuple(np.geomspace(min(sizes), end, LINE_POINTS).tolist())
        middle = [law.at(x) for x in xs]
        factors = [np.exp(law.standard_error(x)) for x in xs]
        curves = (
            Curve("models", tuple(map(float, sizes)), tuple(each.loss for each in self.trained), points=True),
            Curve("power law", xs, tuple(middle)),
            Curve("+ 1 standard error", xs, tuple(float(y * f) for y, f in zip(middle, factors, strict=True))),
            Curve("− 1 standard error", xs, tuple(float(y / f) for y, f in zip(middle, factors, strict=True))),
        )
        return Curves("Loss by size", "parameters", "loss on unseen text", curves, log_x=True, log_y=True)

    def _next_parameters(self) -> int:
        return self._model(next_width(self.widths[-1]), 0).n_parameters()

    def _sentences(self, law: PowerLaw) -> Iterator[str]:
        floor = f"{law.floor:.2f} + " if law.floor else ""
        yield f"Fitted: loss = {floor}{law.a:.3g} · N^(−b), b = {law.b:.3f} ± {law.b_error:.3f} (standard error)."
        if law.b <= t_95(law.points - len(law.covariance)) * law.b_error:
            yield f"In this run the slope is not significant: {law.points} points do not show that size helps."
        elif not law.floor:
            yield f"Ten times as many parameters lower the loss by {percent(1 - 10**-law.b)}, as far as the line holds."
        if law.floor:
            yield f"The points bend: with a floor of {law.floor:.2f} the law fits better than a straight line."
        else:
            yield (
                f"The points deviate by {percent(law.spread)} from a straight line (standard deviation). They do not "
                "show the floor, which is the entropy of the text."
            )
        if self.prediction is not None:
            came = self.trained[-1]
            says = self.prediction
            is_inside = says.low <= came.loss <= says.high
            verdict = "inside" if is_inside else "outside: the law does not reach so far"
            yield (
                f"For {came.parameters:,} parameters the law predicted {says.loss:.3f} (95 % interval "
                f"{says.low:.3f} to {says.high:.3f}). It is {came.loss:.3f}, {verdict}."
            )
        if len(self.widths) < MOST_SIZES:
            parameters = self._next_parameters()
            low, high = law.prediction(parameters)
            yield (
                f"Its prediction for {parameters:,} parameters: {law.at(parameters):.3f}, 95 % interval {low:.3f} "
                f"to {high:.3f}. Press m to test it."
            )


def widths(smallest: int, largest: int, count: int) -> list[int]:
    """Return widths at equal ratios, rounded to multiples of `WIDTH_STEP`, each one larger than the one before."""
    low, high = sorted((smallest, largest))
    found: list[int] = []
    for number in range(count):
        width = low * (high / low) ** (number / (count - 1))
        found.append(max(round(width / WIDTH_STEP), found[-1] // WIDTH_STEP + 1 if found else 1) * WIDTH_STEP)
    return found


def next_width(width: int) -> int:
    """Return the width of the model after the largest one."""
    return 2 * width
