"""Embeddings: a model that only predicts the next character puts vowels in one place and consonants in another."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config.setting import setting
from nanogpt.formatting import counted
from nanogpt.learn import experiment
from nanogpt.learn.characters import character_ids
from nanogpt.learn.experiment import Action
from nanogpt.learn.figures import Bar, Bars, Curve, Curves, Figure, Figures, Point, Points, Sentence, Update, Working
from nanogpt.learn.labels import character_label, quoted
from nanogpt.learn.text import lesson_text, python_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nanogpt.learn.trainer import Trainer
    from nanogpt.tokenizers import Tokenizer

VOWELS, CONSONANTS = "aeiou", "bcdfghjklmnpqrstvwxz"  # y is both, so it counts as neither
FEWEST = 30  # occurrences of a letter that is compared
NEIGHBOURS = 6
# Ten pairs of vowels with random vectors of 16 numbers have a mean similarity of 0 ± 0.25 / √10 = 0.08.
PARTED = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(experiment.Settings):
    """The model and its training."""

    n_embd: int = setting(16, "numbers in the vector of a character, a multiple of 2", low=2, high=256)
    block_size: int = setting(8, "characters that the model reads", low=1, high=64)
    batch_size: int = setting(32, "windows in a step", low=1, high=256)
    learning_rate: float = setting(1e-2, "learning rate", above=0, high=1)
    steps: int = setting(300, "training steps", low=20, high=5000)
    interval: int = setting(25, "steps between two pictures", low=5, high=1000)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The letters after a step.

    `vectors` (n, C) are their embeddings minus the mean. `vowels`, `consonants` and `mixed` are the mean cosine
    similarities of two vowels, of two consonants and of one of each. `vowel_pairs` is the number of vowels whose most
    similar letter is a vowel.
    """

    step: int
    vectors: "NDArray[np.float32]"
    vowels: float
    consonants: float
    mixed: float
    vowel_pairs: int

    @property
    def has_parted(self) -> bool:
        """Whether vowels are much more like one another than like consonants."""
        return self.vowels - self.mixed >= PARTED


class Experiment(experiment.Experiment[Settings]):
    """Trains a small model, and draws a map of its letters again and again."""

    name: ClassVar[str] = "embedding_map"
    settings_class: ClassVar[type[experiment.Settings]] = Settings

    tokenizer: "Tokenizer"
    trainer: "Trainer"
    letters: str  # the letters that are compared
    snapshots: list[Snapshot]
    points: "NDArray[np.float32] | None"  # of the last map, (n, 2)

    @property
    def actions(self) -> tuple[Action, ...]:
        """Train longer."""
        return (Action("+", "train longer", "more"),)

    @property
    def question(self) -> str:
        """Ask for a letter."""
        return "Type a letter to see its neighbours"

    def start(self) -> Iterator[Update]:
        """Train, and draw the map at each interval."""
        yield Working(0.0, "building a model")

        from nanogpt.learn.trainer import Trainer, build_model, windows

        text = lesson_text(self.data_dir).text
        if len(frequent_letters(text)) < len(VOWELS + CONSONANTS) // 2:  # not in English letters
            text = python_text().text
        self.letters = frequent_letters(text)
        settings = self.settings
        self.tokenizer, ids = character_ids(text)
        shape = {"n_layer": 1, "n_head": 2, "n_embd": settings.n_embd, "block_size": settings.block_size}
        # a head of its own, so that the vectors say only how a letter acts on what follows
        model = build_model("gpt2", vocab_size=self.tokenizer.vocab_size, seed=settings.seed, tied_head=False, **shape)
        batches = windows(ids, settings.block_size, settings.batch_size)
        self.trainer = Trainer(
            model, batches, learning_rate=settings.learning_rate, seed=settings.seed, weight_decay=0.0
        )
        self.snapshots, self.points = [self.snapshot()], None
        yield self.picture()
        yield from self.train()

    def act(self, name: str) -> Iterator[Update]:
        """Train longer."""
        yield from self.train()

    def answer(self, text: str) -> Iterator[Update]:
        """Show the letters that are nearest to the one that was typed."""
        letter = text.strip().lower()[:1]
        if letter not in self.letters or not letter:
            yield self.picture(Sentence(f"Type one of the letters on the map: {' '.join(self.letters)}."))
            return
        self.done = True
        yield self.picture(*self.neighbours(letter))

    def train(self) -> Iterator[Update]:
        """Do the steps of one training."""
        settings, first = self.settings, self.trainer.steps
        for step in self.trainer.train(settings.steps):
            share = (step.number - first) / settings.steps
            yield Working(share, f"step {step.number} of {first + settings.steps}, loss {step.loss:.2f}")
            if step.number % settings.interval == 0 or share == 1:
                self.snapshots.append(self.snapshot())
                yield self.picture()

    def snapshot(self) -> Snapshot:
        """Measure where the letters are now."""
        import numpy as np

        from nanogpt.inspection.embeddings import embeddings_of

        ids = [self.tokenizer.encode(letter)[0] for letter in self.letters]
        vectors = embeddings_of(self.trainer.model)[ids]  # (n, C)
        vectors = vectors - vectors.mean(0)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        alike = unit @ unit.T  # (n, n)
        is_vowel = np.array([letter in VOWELS for letter in self.letters])
        vowels, consonants = (mean_of_pairs(alike[np.ix_(group, group)]) for group in (is_vowel, ~is_vowel))
        mixed = float(alike[is_vowel][:, ~is_vowel].mean())
        np.fill_diagonal(alike, -np.inf)
        pairs = int((is_vowel & is_vowel[alike.argmax(1)]).sum())
        return Snapshot(self.trainer.steps, vectors, vowels, consonants, mixed, pairs)

    def picture(self, *more: Figure) -> Figures:
        """Return the map and the measure as they are now, and more figures below."""
        return Figures((*self.figures(), *more))

    def figures(self) -> Iterator[Figure]:
        """Yield the map, the measure over the steps, and what they show."""
        first, now = self.snapshots[0], self.snapshots[-1]
        yield self.letter_map(now)
        if len(self.snapshots) > 1:
            steps = tuple(float(each.step) for each in self.snapshots)
            curves = (
                Curve("two vowels", steps, tuple(each.vowels for each in self.snapshots)),
                Curve("two consonants", steps, tuple(each.consonants for each in self.snapshots)),
                Curve("a vowel and a consonant", steps, tuple(each.mixed for each in self.snapshots)),
            )
            yield Curves("How alike two letters are: the mean cosine of their vectors", "steps", "cosine", curves)
        count = counted(sum(letter in VOWELS for letter in self.letters), "vowel")
        if now is first:
            yield Sentence(
                f"Before training the vectors are random. Two vowels are alike by {now.vowels:.2f}, a vowel and a "
                f"consonant by {now.mixed:.2f}. For {now.vowel_pairs} of {count} the nearest letter is a vowel."
            )
            return
        verdict = "have parted" if now.has_parted else "have not parted clearly"
        yield Sentence(
            f"Vowels and consonants {verdict}: after {now.step} steps two vowels are alike by {now.vowels:.2f} "
            f"(before training {first.vowels:.2f}), a vowel and a consonant by {now.mixed:.2f} ({first.mixed:.2f})."
        )
        yield Sentence(
            f"For {now.vowel_pairs} of {count} the nearest letter is a vowel; before training for {first.vowel_pairs}. "
            "Nobody told the model what a vowel is."
        )

    def letter_map(self, snapshot: Snapshot) -> Points:
        """Return the letters on two axes, turned so that they move little since the last map."""
        import numpy as np

        from nanogpt.inspection.embeddings import map_of

        points, share = map_of(snapshot.vectors)
        if self.points is not None:
            points = points * np.where((points * self.points).sum(0) < 0, -1, 1).astype(np.float32)
        self.points = points
        groups = ["vowel" if letter in VOWELS else "consonant" for letter in self.letters]
        marks = zip(self.letters, points.tolist(), groups, strict=True)
        return Points(
            f"The letters after {counted(snapshot.step, 'step')}, on the two main axes ({share:.0%} of the variance)",
            tuple(Point(letter, x, y, group) for letter, (x, y), group in marks),
        )

    def neighbours(self, letter: str) -> Iterator[Figure]:
        """Yield the letters whose vectors are most like that of one letter."""
        from nanogpt.inspection.embeddings import nearest_tokens

        near = nearest_tokens(self.snapshots[-1].vectors, self.letters.index(letter), NEIGHBOURS)
        rows = tuple(
            Bar(
                character_label(self.letters[place]),
                max(0.0, alike),
                f"{alike:.2f}",
                marked=self.letters[place] in VOWELS,
            )
            for place, alike in near
        )
        yield Bars(f"Most like {quoted(letter)}, by the cosine of their vectors (vowels are marked)", rows)
        group, same = ("vowel", VOWELS) if letter in VOWELS else ("consonant", CONSONANTS)
        count = sum(self.letters[place] in same for place, _ in near)
        yield Sentence(f"{quoted(letter)} is a {group}, and {count} of its {len(near)} nearest letters are {group}s.")


def frequent_letters(text: str) -> str:
    """Return the vowels, then the consonants, that occur at least `FEWEST` times in a text."""
    return "".join(letter for letter in VOWELS + CONSONANTS if text.count(letter) >= FEWEST)


def mean_of_pairs(values: "NDArray[np.float32]") -> float:
    """Return the mean of a symmetric matrix (n, n) without its diagonal; 0 if n is 1."""
    n = len(values)
    return float((values.sum() - values.trace()) / max(1, n * (n - 1)))
