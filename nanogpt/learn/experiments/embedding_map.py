"""Embeddings: a model that only predicts the next character puts vowels in one place and consonants in another."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nanogpt import tokenizers
from nanogpt.config.setting import setting
from nanogpt.formatting import counted
from nanogpt.learn import experiment
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
PARTED = 1.2  # ratio of distances from which the groups count as apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(experiment.Settings):
    """The model and its training."""

    n_embd: int = setting(16, "numbers in the vector of a character", low=2, high=256)
    block_size: int = setting(4, "characters that the next one is predicted from", low=1, high=32)
    n_hidden: int = setting(96, "units of the hidden layer", low=8, high=512)
    steps: int = setting(600, "training steps", low=20, high=5000)
    interval: int = setting(50, "steps between two pictures", low=5, high=1000)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The vectors of the compared letters (n, C) after a step, and the ratio of distances between and within groups."""

    step: int
    vectors: "NDArray[np.float32]"
    ratio: float
    vowel_pairs: int  # vowels whose nearest letter is a vowel


class Experiment(experiment.Experiment[Settings]):
    """Trains a model with one hidden layer, and draws a map of its letters again and again."""

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
        yield Working(0.0, "build a model")
        import torch

        from nanogpt.learn.trainer import Trainer, build_model, windows

        text = lesson_text(self.data_dir).text
        if len(frequent_letters(text)) < len(VOWELS + CONSONANTS) // 2:  # not in English letters
            text = python_text().text
        self.letters = frequent_letters(text)
        settings = self.settings
        self.tokenizer = tokenizers.create("char", [text])
        ids = torch.tensor(self.tokenizer.encode(text))  # (n,)
        shape = {"n_embd": settings.n_embd, "n_hidden": settings.n_hidden, "block_size": settings.block_size}
        model = build_model("mlp", vocab_size=self.tokenizer.vocab_size, seed=settings.seed, **shape)
        batches = windows(ids, settings.block_size, 256 // settings.block_size)
        self.trainer = Trainer(model, batches, learning_rate=1e-2, seed=settings.seed, weight_decay=0.0)
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
        vectors = embeddings_of(self.trainer.model)[ids].copy()  # (n, C)
        distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)  # (n, n)
        is_vowel = np.array([letter in VOWELS for letter in self.letters])
        between = distances[is_vowel][:, ~is_vowel].mean()
        within = [distances[np.ix_(group, group)] for group in (is_vowel, ~is_vowel)]
        pairs = sum(len(group) * (len(group) - 1) for group in within)
        ratio = float(between / (sum(group.sum() for group in within) / pairs))
        np.fill_diagonal(distances, np.inf)
        nearest = distances.argmin(1)
        return Snapshot(self.trainer.steps, vectors, ratio, int((is_vowel & is_vowel[nearest]).sum()))

    def picture(self, *more: Figure) -> Figures:
        """Return the map and the measure as they are now, and more figures below."""
        return Figures((*self.figures(), *more))

    def figures(self) -> Iterator[Figure]:
        """Yield the map, the measure over the steps, and what they show."""
        first, now = self.snapshots[0], self.snapshots[-1]
        yield self.letter_map(now)
        if len(self.snapshots) > 1:
            steps = tuple(float(each.step) for each in self.snapshots)
            curve = Curve("ratio", steps, tuple(each.ratio for each in self.snapshots))
            yield Curves("Distance between the groups / distance within them", "steps", "ratio", (curve,))
        vowels = sum(letter in VOWELS for letter in self.letters)
        state = f"{now.ratio:.2f} times"
        if now is first:
            yield Sentence(
                f"Before training, a vowel and a consonant are {state} as far apart as two letters of one group. For "
                f"{now.vowel_pairs} of {counted(vowels, 'vowel')} the nearest letter is a vowel."
            )
            return
        verdict = (
            "Vowels and consonants have parted"
            if now.ratio >= PARTED and now.ratio > first.ratio
            else "Vowels and consonants have not parted clearly"
        )
        yield Sentence(
            f"{verdict}: after {counted(now.step, 'step')} a vowel and a consonant are {state} as far apart as two "
            f"letters of one group; before training it was {first.ratio:.2f}."
        )
        yield Sentence(
            f"The nearest letter is a vowel for {now.vowel_pairs} of {counted(vowels, 'vowel')}; before training for "
            f"{first.vowel_pairs}. Nobody told the model what a vowel is."
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
