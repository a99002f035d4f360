"""The ladder from a bigram to a GPT: each rung adds one idea; at the top, what the residual stream does for depth."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nanogpt.config import Config, SamplingConfig, setting
from nanogpt.events import Token
from nanogpt.formatting import token_text
from nanogpt.learn import experiment
from nanogpt.learn.characters import Characters, read_characters, warm_up_and_decay
from nanogpt.learn.experiment import Action
from nanogpt.learn.figures import Bar, Bars, Figure, Figures, Sentence, Table, Update, Working

if TYPE_CHECKING:
    from nanogpt.learn.trainer import Trainer
    from nanogpt.models.base import LanguageModel
    from nanogpt.runs.ladder import Rung

WINDOW_AFTER = 4  # rungs with longer windows have the lesson's block_size
EVALUATED = 4096  # characters of unseen text
WRITTEN = 40  # characters of a sample
HELPS = 0.005  # nats by which a rung is better or worse than the one before, and not equal


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(experiment.Settings):
    """The rungs by their names in `nanogpt ladder`, their size, and their training."""

    rungs: str = setting(
        "bigram,one-head,heads,feed-forward,residual,norm,deeper,rotary", "rungs of the ladder, separated by commas"
    )
    n_embd: int = setting(64, "width of the models; a multiple of 8", low=8, high=1024)
    block_size: int = setting(32, "context window in characters", low=5, high=1024)
    tokens: int = setting(512, "characters in a step", low=64, high=65_536)
    steps: int = setting(150, "training steps of each rung", low=1, high=100_000)


@dataclass(frozen=True, slots=True)
class Result:
    """A trained rung: what it adds, its parameters, its loss on unseen text (nats per character) and what it writes."""

    name: str
    adds: str
    parameters: int
    loss: float
    sample: str


class Experiment(experiment.Experiment[Settings]):
    """Train one rung after the other, then the highest one without its residual stream."""

    name = "depth"
    settings_class: ClassVar[type[experiment.Settings]] = Settings
    data: Characters

    def __init__(self, settings: Settings, data_dir: Path | None = None) -> None:
        """See `Experiment`."""
        super().__init__(settings, data_dir)
        self.results: list[Result] = []
        self.without: Result | None = None  # the highest rung without its residual stream

    def start(self) -> Iterator[Update]:
        """Train the lowest rung."""
        from nanogpt.runs import load_rungs

        its = self.settings
        self.results = []
        self.without = None
        yield Working(0, "reading the text")
        self.rungs: list[Rung] = load_rungs([name.strip() for name in its.rungs.split(",") if name.strip()])
        self.data = read_characters(self.data_dir)
        yield from self._climb(1)

    @property
    def actions(self) -> tuple[Action, ...]:
        """The next rung or all, and at the top the model without its residual stream."""
        if not self.results:
            return ()
        if len(self.results) < len(self.rungs):
            return Action("n", "next rung", "next"), Action("a", "all rungs", "all")
        if self.without is None and self._has_residual:
            return (Action("r", "without residuals", "residual"),)
        return ()

    def act(self, name: str) -> Iterator[Update]:
        """Train the next rung, all of them, or the highest one without its residual stream."""
        if name == "residual":
            yield from self._without_residual()
        else:
            yield from self._climb(1 if name == "next" else len(self.rungs) - len(self.results))
        self.done = len(self.results) == len(self.rungs) and (self.without is not None or not self._has_residual)

    @property
    def _has_residual(self) -> bool:
        return bool(getattr(self.rungs[-1].config.model, "residual", False))

    def _climb(self, count: int) -> Iterator[Update]:
        for done in range(count):
            rung = self.rungs[len(self.results)]
            result = yield from self._train(rung.name, rung.adds, self._settings(rung.config), done, count)
            self.results.append(result)
            yield self._figures()

    def _without_residual(self) -> Iterator[Update]:
        top = self.rungs[-1]
        settings = self._settings(top.config)
        self.gradients = [self._gradients(settings | {"residual": has_residual}) for has_residual in (True, False)]
        self.without = yield from self._train(f"{top.name}, no residual stream", "", settings | {"residual": False})
        yield self._figures()

    def _settings(self, config: Config) -> dict[str, Any]:
        """Return the settings of a rung's model, in the size of the lesson."""
        its, settings = self.settings, config.model.to_dict()
        smaller: dict[str, Any] = {"n_embd": its.n_embd, "n_hidden": 2 * its.n_embd}
        if settings["block_size"] > WINDOW_AFTER:
            smaller["block_size"] = its.block_size
        return settings | {name: value for name, value in smaller.items() if name in settings}

    def _model(self, settings: dict[str, Any]) -> "LanguageModel":
        from nanogpt.learn.trainer import build_model

        shape = {name: value for name, value in settings.items() if name not in ("architecture", "vocab_size")}
        vocab_size = self.data.tokenizer.vocab_size
        return build_model(settings["architecture"], vocab_size=vocab_size, seed=self.settings.seed, **shape)

    def _train(
        self, name: str, adds: str, settings: dict[str, Any], done: int = 0, count: int = 1
    ) -> Generator[Update, None, Result]:
        """Train a model, and return what became of it; `done` of `count` are trained before it."""
        its, model = self.settings, self._model(settings)
        for step in self._trainer(model).train(its.steps):
            yield Working((done + step.number / its.steps) / count, f"{name}: step {step.number}, loss {step.loss:.2f}")
        doing = Working((done + 1) / count, f"{name}: measuring")
        loss = yield from self._evaluate(model, doing)
        sample = yield from self._write(model, doing)
        return Result(name, adds, model.n_parameters(), loss, sample)

    def _trainer(self, model: "LanguageModel") -> "Trainer":
        from nanogpt.learn.trainer import Trainer, windows

        its, block_size = self.settings, model.config.block_size
        return Trainer(
            model,
            windows(self.data.train, block_size, max(1, its.tokens // block_size)),
            learning_rate=self.rungs[0].config.optimizer.learning_rate,
            seed=its.seed,
            schedule=warm_up_and_decay(its.steps),
        )

    def _evaluate(self, model: "LanguageModel", doing: Working) -> Generator[Update, None, float]:
        """Return the loss on unseen text (nats per character), each predicted from at least half of the window."""
        from nanogpt.data.batches import sliding_batches
        from nanogpt.training.distributed import World
        from nanogpt.training.evaluation import mean_loss

        block_size, tokens = model.config.block_size, self.data.validation[:EVALUATED].numpy()
        batch_size = max(1, self.settings.tokens // block_size)
        batches = sliding_batches(tokens, block_size, batch_size, stride=max(1, block_size // 2))
        evaluation = mean_loss(model.eval(), batches, model.config.vocab_size, "cpu", "float32", World())
        while True:
            try:
                next(evaluation)
            except StopIteration as end:
                loss, _ = end.value
                return float(loss)
            yield doing

    def _write(self, model: "LanguageModel", doing: Working) -> Generator[Update, None, str]:
        """Return what the model writes after a line break, or after another character if the text has none."""
        from nanogpt.sampling.generation import generate

        knobs = SamplingConfig(max_new_tokens=WRITTEN, temperature=0.8, top_k=0, seed=self.settings.seed)
        written = ""
        for event in generate(model, self.data.tokenizer, "", knobs, alternatives=0, dtype="float32"):
            written += event.text if isinstance(event, Token) else ""
            yield doing
        return written

    def _gradients(self, settings: dict[str, Any]) -> list[float]:
        """Return the norm of the gradient of each block of a new model, for its first batch."""
        from nanogpt.inspection.layers import norm

        model = self._model(settings)
        trainer = self._trainer(model)
        trainer.gradients(trainer.next_batch(trainer.random))
        blocks = (block.parameters() for block in model.blocks())
        return [norm(each.grad for each in block if each.grad is not None) for block in blocks]

    def _figures(self) -> Figures:
        shown = [*self.results, *([self.without] if self.without else [])]
        losses = [each.loss for each in shown]
        bars = tuple(
            Bar(each.name, each.loss, f"{each.loss:.3f}", before=before, marked=each is shown[-1])
            for each, before in zip(shown, [None, *losses], strict=False)
        )
        figures: list[Figure] = [*map(Sentence, self._sentences()), Bars("Loss on unseen text", bars)]
        if self.without is not None:
            names = (f"block {number}" for number in range(1, len(self.gradients[0]) + 1))
            rows = tuple(
                Bar(name, without, f"{without:.2g}, with the stream {having:.2g}", before=having)
                for name, having, without in zip(names, *self.gradients, strict=True)
            )
            figures.append(Bars("Gradient of a new model without residual stream", rows))
        samples = tuple((each.name, token_text(each.sample.encode())) for each in shown)
        figures.append(Table("What each one writes", ("rung", "text"), samples))
        return Figures(tuple(figures))

    def _sentences(self) -> Iterator[str]:
        result = self.results[-1]
        if self.without is not None:
            yield from self._of_residuals(self.without)
        elif len(self.results) == 1:
            yield f"Rung 1, {result.name}: {result.adds}. Loss {result.loss:.3f} nats per character."
        else:
            before = self.results[-2].loss
            lower = before - result.loss
            if abs(lower) < HELPS:
                change = "no change"
            else:
                change = f"{abs(lower):.3f} {'lower' if lower > 0 else 'higher: here it does not help'}"
            yield (
                f"Rung {len(self.results)}, {result.name}, adds {result.adds}. Loss {before:.3f} → {result.loss:.3f}, "
                f"{change}."
            )
        if len(self.results) < len(self.rungs):
            rung = self.rungs[len(self.results)]
            yield f"Next, rung {len(self.results) + 1} of {len(self.rungs)}, {rung.name}: {rung.adds}."
            return
        first, losses = self.results[0], [each.loss for each in self.results]
        helped = sum(a - b >= HELPS for a, b in pairwise(losses))
        yield (
            f"From {first.name} to {result.name}: {first.loss:.3f} → {result.loss:.3f}. {helped} of {len(losses) - 1} "
            f"ideas lowered the loss in {self.settings.steps} steps each."
        )

    def _of_residuals(self, without: Result) -> Iterator[str]:
        top = self.results[-1]
        verb = "reaches only" if without.loss - top.loss >= HELPS else "still reaches"
        yield f"Without its residual stream {top.name} {verb} {without.loss:.3f} instead of {top.loss:.3f}."
        having, lacking = (gradients[0] / gradients[-1] for gradients in self.gradients)
        yield (
            f"Before the first step the gradient is {lacking:.2g} times as large in its first block as in its last, "
            f"with the stream {having:.2g} times."
        )
