"""From probabilities to text: temperature, top-k and top-p change one distribution of a model that was trained now."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config import SamplingConfig, setting
from nanogpt.events import Token
from nanogpt.formatting import counted, token_text
from nanogpt.learn import experiment
from nanogpt.learn.characters import Characters, read_characters, warm_up_and_decay
from nanogpt.learn.experiment import Action
from nanogpt.learn.figures import Bar, Bars, Figure, Figures, Sentence, Table, Update, Working
from nanogpt.learn.labels import percent, quoted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nanogpt.models.base import LanguageModel

    Floats = NDArray[np.float32]

TEMPERATURES = (0.0, 0.2, 0.5, 0.8, 1.0, 1.3, 1.7, 2.5)
TOP_KS = (0, 10, 3, 1)  # 0: all
TOP_PS = (1.0, 0.9, 0.7, 0.5)
PLAIN = SamplingConfig(temperature=1.0, top_k=0, top_p=1.0)  # the model's own distribution
SHOWN_BARS, SHOWN_SAMPLES, SHOWN_PROMPT, BEGINNING = 10, 3, 20, 24
DRAWS = 100
WRITTEN = 120  # characters of a sample
MEASURED_WINDOWS = 64
SHORTEST_WORD = 3  # letters of a word that is looked up in the training text


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(experiment.Settings):
    """The model, and how long it is trained."""

    steps: int = setting(1200, "training steps", low=1, high=100_000)
    n_embd: int = setting(24, "size of a character's embedding", low=1, high=1024)
    n_hidden: int = setting(192, "units of the hidden layer", low=1, high=10_000)
    block_size: int = setting(8, "characters that the next one is predicted from", low=1, high=100)
    batch_size: int = setting(64, "windows in a step", low=1, high=1024)
    learning_rate: float = setting(1e-2, "highest learning rate", above=0, high=10)


@dataclass(frozen=True, slots=True)
class Sample:
    """A text that was written with some knobs, the number of its words, and how many are in the training text."""

    knobs: SamplingConfig
    text: str
    words: int
    known: int


class Experiment(experiment.Experiment[Settings]):
    """Train a small model, show its distribution after a prompt, and write with it."""

    name = "sampling"
    settings_class: ClassVar[type[experiment.Settings]] = Settings
    model: "LanguageModel | None" = None  # after the training
    data: Characters
    before: "Floats"  # the probabilities that are shown, before the last action and now (V,)
    after: "Floats"

    def start(self) -> Iterator[Update]:
        """Train the model."""
        import numpy as np

        self.model, self.knobs = None, PLAIN
        self.samples: list[Sample] = []
        self.drawn = Counter[int]()  # ids that were drawn with these knobs, after this text
        self.random = np.random.default_rng(self.settings.seed)
        yield Working(0, "reading the text")
        self.data = read_characters(self.data_dir)
        self.known_words = set(_words(self.data.training_text))
        yield from self._train()
        self._begin()
        yield self._figures()

    @property
    def actions(self) -> tuple[Action, ...]:
        """The knobs, drawing and writing with them, and back to the model's own distribution."""
        if self.model is None:
            return ()
        return (
            Action("+", "hotter", "hotter"),
            Action("-", "colder", "colder"),
            Action("k", "top-k", "top_k"),
            Action("p", "top-p", "top_p"),
            Action("r", "reset", "reset"),
            Action("d", f"draw {DRAWS}", "draw"),
            Action("w", f"write {WRITTEN}", "write"),
            Action("b", "another beginning", "beginning"),
        )

    def act(self, name: str) -> Iterator[Update]:
        """Turn a knob, draw characters, write a sample, or show another beginning of a text."""
        if name == "write":
            yield from self._write()
        elif name == "draw":
            self._draw()
            self.before = self.after
        elif name == "beginning":
            self._begin()
        else:
            self.knobs = _turned(self.knobs, name)
            self.drawn.clear()
            self.before, self.after = self.after, self._probabilities(self.knobs)
        yield self._figures()

    def _train(self) -> Iterator[Update]:
        from nanogpt.learn.trainer import Trainer, build_model, fixed_windows, mean_loss, windows

        its = self.settings
        # In so short a training a perceptron over a window of characters learns more than a transformer does.
        model = build_model(
            "mlp",
            vocab_size=self.data.tokenizer.vocab_size,
            seed=its.seed,
            n_embd=its.n_embd,
            n_hidden=its.n_hidden,
            block_size=its.block_size,
        )
        draw = windows(self.data.train, its.block_size, its.batch_size)
        schedule = warm_up_and_decay(its.steps)
        trainer = Trainer(model, draw, learning_rate=its.learning_rate, seed=its.seed, schedule=schedule)
        for step in trainer.train(its.steps):
            yield Working(step.number / its.steps, f"training a small model: loss {step.loss:.2f}")
        self.loss = mean_loss(model, fixed_windows(self.data.validation, its.block_size, MEASURED_WINDOWS))
        self.model = model

    def _begin(self) -> None:
        """Choose some words of the unseen text and the beginning of the next one, and predict what follows them."""
        from nanogpt.sampling.generation import next_logits

        assert self.model is not None
        self.drawn.clear()
        unseen = self.data.text[len(self.data.train) :]
        at = int(self.random.integers(max(1, len(unseen) - 2 * BEGINNING)))
        gap = re.compile(r"\s").search(unseen, at)
        start = gap.end() if gap else at
        self.text = unseen[start : start + BEGINNING].strip() or unseen[:1]
        self.logits, self.seen = next_logits(self.model, self.data.tokenizer, self.text)
        self.plain = self._probabilities(PLAIN)
        self.before = self.after = self._probabilities(self.knobs)

    def _probabilities(self, knobs: SamplingConfig) -> "Floats":
        """Return the probability of each character after the text (V,), with these knobs."""
        from nanogpt.sampling.sampler import distribution

        probabilities: Floats = distribution(self.logits, knobs, self.seen)[0]
        return probabilities

    def _draw(self) -> None:
        """Draw `DRAWS` more characters after the same text, each on its own."""
        import numpy as np

        from nanogpt.sampling.sampler import sample_tokens

        uniforms = self.random.random((DRAWS, 1), np.float32)
        logits, seen = np.repeat(self.logits, DRAWS, 0), np.repeat(self.seen, DRAWS, 0)
        self.drawn.update(sample_tokens(logits, self.knobs, seen, uniforms, alternatives=0).ids.tolist())

    def _write(self) -> Iterator[Update]:
        """Write a sample after the text. All samples draw the same random numbers, so only the knobs differ."""
        from nanogpt.sampling.generation import generate

        assert self.model is not None
        knobs = replace(self.knobs, max_new_tokens=WRITTEN, seed=self.settings.seed)
        written = ""
        for event in generate(self.model, self.data.tokenizer, self.text, knobs, alternatives=0, dtype="float32"):
            written += event.text if isinstance(event, Token) else ""
            yield Working(len(written) / WRITTEN, "writing")
        words = [word for word in _words(written)[1:-1] if len(word) >= SHORTEST_WORD]  # the ends may be cut
        known = sum(word in self.known_words for word in words)
        self.samples.append(Sample(self.knobs, written, len(words), known))
        self.done = len({sample.knobs for sample in self.samples}) > 1

    def _figures(self) -> Figures:
        figures: list[Figure] = [self._bars(), *map(Sentence, self._sentences())]
        if self.samples:
            rows = tuple(
                (_described(each.knobs), f"{each.known} of {each.words}", token_text(each.text.encode()))
                for each in self.samples[-SHOWN_SAMPLES:]
            )
            figures.append(Table("What it writes", ("knobs", "real words", "text"), rows))
        return Figures(tuple(figures))

    def _bars(self) -> Bars:
        """Return the bars of the characters that the model itself finds the most likely."""
        times = self.drawn.total()
        uncut = self._probabilities(replace(self.knobs, top_k=0, top_p=1.0))
        rows = []
        for id in (-self.plain).argsort(kind="stable")[:SHOWN_BARS].tolist():
            now = float(self.after[id])
            note = percent(now) if now or not uncut[id] else "cut off"
            if times and now:
                note += f", drawn {self.drawn[id]}"
            is_most = self.drawn.most_common(1)[:1] == [(id, self.drawn[id])]
            rows.append(Bar(self._quoted(id), now, note, before=float(self.before[id]), marked=is_most))
        title = f"The next character after {quoted(self.text[-SHOWN_PROMPT:])}: {_described(self.knobs)}"
        return Bars(title, tuple(rows))

    def _quoted(self, id: int) -> str:
        return quoted(self.data.tokenizer.token_bytes(id))

    def _sentences(self) -> Iterator[str]:
        best = int(self.plain.argmax())
        best_text = self._quoted(best)
        if self.drawn:
            (id, times), total = self.drawn.most_common(1)[0], self.drawn.total()
            yield f"Of {total} draws {times} were {self._quoted(id)}; {total * self.after[id]:.0f} are expected."
        yield f"Entropy: {entropy(self.plain):.2f} bits in the model, {entropy(self.after):.2f} bits with these knobs."
        if self.knobs.temperature == 0:
            yield f"Temperature 0 always takes the most likely one, {best_text}."
        elif self.knobs.temperature != 1:
            only = self._probabilities(replace(PLAIN, temperature=self.knobs.temperature))[best]
            verb = "raises" if only > self.plain[best] else "lowers"
            change = f"{percent(self.plain[best])} to {percent(only)}"
            yield f"Temperature {self.knobs.temperature:g} {verb} {best_text} from {change}."
        if self.knobs.temperature and (self.knobs.top_k or self.knobs.top_p < 1):
            left = self.after > 0
            yield (
                f"Top-k and top-p keep {int(left.sum())} of {counted(len(left), 'character')}, which had "
                f"{percent(float(self.plain[left].sum()))} of the model's probability."
            )
        yield from self._comparison()

    def _comparison(self) -> Iterator[str]:
        """Compare the samples with the lowest and the highest temperature."""
        by_temperature = sorted(self.samples, key=lambda sample: sample.knobs.temperature)
        if not by_temperature:
            yield f"Trained just now on {self.data.origin}; loss on unseen text {self.loss:.2f}."
            return
        cold, hot = by_temperature[0], by_temperature[-1]
        if cold.knobs.temperature == hot.knobs.temperature or not cold.words or not hot.words:
            return
        found = (
            f"Of its words of {SHORTEST_WORD} letters or more, {cold.known} of {cold.words} are in the training text "
            f"at temperature {cold.knobs.temperature:g}, {hot.known} of {hot.words} at {hot.knobs.temperature:g}"
        )
        is_colder_better = cold.known / cold.words > hot.known / hot.words
        yield f"{found}." if is_colder_better else f"{found}: here the colder text is not the better one."


def entropy(probabilities: "Floats") -> float:
    """Return the entropy in bits of probabilities (V,)."""
    import numpy as np

    positive = probabilities[probabilities > 0].astype(np.float64)
    return max(0.0, float(-(positive * np.log2(positive)).sum()))


def _turned(knobs: SamplingConfig, name: str) -> SamplingConfig:
    """Return the knobs after an action."""
    if name == "reset":
        return PLAIN
    if name == "top_k":
        return replace(knobs, top_k=TOP_KS[(TOP_KS.index(knobs.top_k) + 1) % len(TOP_KS)])
    if name == "top_p":
        return replace(knobs, top_p=TOP_PS[(TOP_PS.index(knobs.top_p) + 1) % len(TOP_PS)])
    place = TEMPERATURES.index(knobs.temperature) + (1 if name == "hotter" else -1)
    return replace(knobs, temperature=TEMPERATURES[min(max(place, 0), len(TEMPERATURES) - 1)])


def _described(knobs: SamplingConfig) -> str:
    parts = [f"T {knobs.temperature:g}"]
    parts += [f"top-k {knobs.top_k}"] if knobs.top_k else []
    parts += [f"top-p {knobs.top_p:g}"] if knobs.top_p < 1 else []
    return ", ".join(parts)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())
