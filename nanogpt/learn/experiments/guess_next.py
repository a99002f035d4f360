"""Shannon's game (Shannon 1951): guess the next character of a text until it is right, and count the guesses.

The numbers of guesses bound the information of a character from both sides. If q(i) is the share of characters that
were found at guess i, the information is at most the entropy of q, −Σ q(i) log2 q(i), and at least
Σ i (q(i) − q(i+1)) log2 i. A model of n-grams, which is counted in a second, plays the same characters.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from nanogpt import tokenizers
from nanogpt.config.setting import setting
from nanogpt.learn import experiment
from nanogpt.learn.experiment import Action
from nanogpt.learn.figures import Bar, Bars, Figure, Figures, Sentence, Table, Update, Working
from nanogpt.learn.labels import character_label, percent, quoted
from nanogpt.learn.text import LessonText, lesson_text

if TYPE_CHECKING:
    from nanogpt.models.base import LanguageModel
    from nanogpt.tokenizers import Tokenizer

PART = 20_000  # characters that the model counts at a time
SHOWN = 160  # characters of the text before the one to guess
TRIED = 5  # wrong guesses after which the character is shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(experiment.Settings):
    """The game and the model that plays it too."""

    characters: int = setting(12, "characters to guess", low=2, high=100)
    order: int = setting(6, "length of the sequences that the model counts", low=2, high=10)


@dataclass(slots=True)
class Character:
    """A character to guess: what was tried, and after how many guesses it was found, 0: not yet.

    `better` are the characters that the model guesses before it, `probability` is what the model gives to it.
    """

    text: str
    better: frozenset[str]
    probability: float
    tried: list[str] = field(default_factory=list)
    guesses: int = 0

    @property
    def rank(self) -> int:
        """The number of guesses that the model needs."""
        return 1 + len(self.better)

    @property
    def shown_at(self) -> int:
        """The guess at which it is found if the model goes on guessing: its order is the best that is known."""
        return len(self.tried) + 1 + len(self.better.difference(self.tried))


class Experiment(experiment.Experiment[Settings]):
    """Counts the n-grams of a model at the start, then plays."""

    name: ClassVar[str] = "guess_next"
    settings_class: ClassVar[type[experiment.Settings]] = Settings

    source: LessonText
    tokenizer: "Tokenizer"
    model: "LanguageModel"
    unseen: str  # the part of the text that the model does not count
    context: str  # before the first character to guess
    game: Sequence[Character] = ()
    note = ""  # what the last answer was
    has_guessed = False  # in this game

    @property
    def current(self) -> Character | None:
        """The character to guess now; None after the last one."""
        return next((character for character in self.game if not character.guesses), None)

    @property
    def actions(self) -> tuple[Action, ...]:
        """Give up on a character; play again after the last."""
        if self.current is None:
            return (Action("n", "play again", "again"),)
        return (Action("enter", "show it", "give up"),)

    @property
    def question(self) -> str:
        """Ask for the next character."""
        return "" if self.current is None else "The next character (or several)"

    def start(self) -> Iterator[Update]:
        """Let the model count most of the text, and choose a passage of the rest."""
        self.game = ()
        yield Working(0.0, "reading the text")
        import torch

        from nanogpt.learn.trainer import build_model

        settings = self.settings
        self.source = lesson_text(self.data_dir)
        text = self.source.text
        self.tokenizer = tokenizers.create("char", [text])
        ids, cut = self.tokenizer.encode_to_array(text), len(text) * 9 // 10
        self.unseen = text[cut:]
        shape = {"order": settings.order, "block_size": settings.order}
        self.model = build_model("ngram", vocab_size=self.tokenizer.vocab_size, seed=settings.seed, **shape)
        for start in range(0, cut, PART):
            stop = min(start + PART, cut)
            self.model.count(ids, start, stop)
            yield Working(stop / cut, f"the model has counted {stop:,} of {cut:,} characters")
        self.random = torch.Generator().manual_seed(settings.seed)
        yield from self.act("again")

    def act(self, name: str) -> Iterator[Update]:
        """Show the character, or begin a new game."""
        if name == "again":
            self.choose_passage()
        elif (character := self.current) is not None:
            self.note = self.show_character(character)
        yield Figures(tuple(self.figures()))

    def answer(self, text: str) -> Iterator[Update]:
        """Take a guess: one character, or several, of which each is the guess for the next one."""
        self.note, self.has_guessed = "", self.has_guessed or bool(text)
        for typed in text[: len(self.game)]:
            character = self.current
            if character is None:
                break
            if typed == character.text:
                self.note = f"Yes: {quoted(typed)}, at guess {len(character.tried) + 1}."
                self.found(character, len(character.tried) + 1)
                continue
            if typed in character.tried:
                self.note = f"You tried {quoted(typed)} already."
                break
            character.tried.append(typed)
            self.note = f"Not {quoted(typed)}."
            if len(character.tried) == TRIED:
                self.note += f" {self.show_character(character)}"
            break
        yield Figures(tuple(self.figures()))

    def show_character(self, character: Character) -> str:
        """Count a character as found by the guesses of the model after those of the learner, and return that it is."""
        self.found(character, character.shown_at)
        return (
            f"It is {quoted(character.text)}, counted as found at guess {character.guesses}, where the model would "
            "have it after you."
        )

    def found(self, character: Character, guesses: int) -> None:
        """Count a character as found after some guesses. A game in which nothing was guessed is not done."""
        character.guesses = guesses
        self.done = self.done or (self.current is None and self.has_guessed)

    def choose_passage(self) -> None:
        """Choose a passage of the unseen text whose characters to guess are in one line, and let the model guess."""
        import torch

        size, last = self.settings.characters, len(self.unseen) - self.settings.characters
        for _ in range(1000):
            place = int(torch.randint(SHOWN, last, (), generator=self.random))
            targets = self.unseen[place : place + size]
            if targets.isprintable() and self.unseen[place - 1].isalpha():
                break
        self.context, self.note, self.has_guessed = self.unseen[place - SHOWN : place], "", False
        ids = torch.tensor(self.tokenizer.encode(self.context + targets))  # (SHOWN + size,)
        game, model = list[Character](), self.model.eval()
        for number, text in enumerate(targets):
            end = SHOWN + number
            with torch.no_grad():
                logits, _ = model(ids[None, end - self.settings.order : end])
            probabilities = torch.softmax(logits[0, -1], -1) if logits is not None else torch.empty(0)  # (V,)
            probability = float(probabilities[ids[end]])
            better = (probabilities > probability).nonzero().flatten().tolist()
            game.append(Character(text, frozenset(map(self.tokenizer.decode, ([id] for id in better))), probability))
        self.game = game

    def figures(self) -> Iterator[Figure]:
        """Yield the text so far and the guesses; after the last character the result."""
        found = "".join(character.text for character in self.game if character.guesses)
        lines = (self.context + found).split("\n")
        if (character := self.current) is not None:
            before = " / ".join(line for line in lines if line.strip())
            yield Sentence(f"… {before}_")
            if self.note:
                yield Sentence(self.note)
            tried = f" Tried: {', '.join(map(quoted, character.tried))}." if character.tried else ""
            yield Sentence(
                f"Character {1 + len(found)} of {len(self.game)}: what comes next?{tried} "
                "You may type several at once. A space is a character too."
            )
        else:
            yield Sentence(f"{self.note} The text goes: {quoted(found)}.".strip())
        rows = [
            (
                character_label(each.text),
                f"{each.guesses}",
                f"{each.rank}",
                percent(each.probability),
                f"{-math.log2(each.probability):.1f}",
            )
            for each in self.game
            if each.guesses
        ]
        if rows:
            header = ("next", "your guesses", "the model's", "its probability", "its bits")
            yield Table("Guesses until it was right", header, tuple(rows))
        if self.current is None:
            yield from self.result()

    def result(self) -> Iterator[Figure]:
        """Yield how much information a character has for the learner and for the model."""
        yours, its = [each.guesses for each in self.game], [each.rank for each in self.game]
        bits = [-math.log2(each.probability) for each in self.game]
        n, mean, error = len(bits), sum(bits) / len(bits), standard_error(bits)
        (low, high), (its_low, its_high) = bounds(yours), bounds(its)
        vocabulary = self.tokenizer.vocab_size
        yield Bars(
            "Bits per character",
            (
                Bar("you, at most", high, f"{high:.2f}", marked=True),
                Bar("you, at least", low, f"{low:.2f}", marked=True),
                Bar("model, at most", its_high, f"{its_high:.2f}"),
                Bar("model, at least", its_low, f"{its_low:.2f}"),
                Bar("model, exactly", mean, f"{mean:.2f} ± {error:.2f}"),
                Bar("blind guessing", math.log2(vocabulary), f"log2 {vocabulary} = {math.log2(vocabulary):.2f}"),
            ),
        )
        means = sum(yours) / n, sum(its) / n
        winner = "You needed fewer" if means[0] < means[1] else "The model needed fewer" if means[1] < means[0] else ""
        yield Sentence(
            f"You needed {means[0]:.1f} guesses on average, the model {means[1]:.1f}"
            + (f": {winner}." if winner else ": as many.")
        )
        shares = Counter(yours)
        your_error = standard_error([-math.log2(shares[guess] / n) for guess in yours])
        yield Sentence(
            f"By your guesses, a character of this text has {low:.2f} to {high:.2f} bits for you. The model, which "
            f"sees {self.settings.order - 1} characters where you see {SHOWN}, is surprised by {mean:.2f} bits. {n} "
            f"characters are few: one standard error is {your_error:.2f} bits for you and {error:.2f} for the model."
        )


def bounds(guesses: Sequence[int]) -> tuple[float, float]:
    """Return the lower and the upper bound (bits per character) that numbers of guesses give (Shannon 1951)."""
    found = Counter(guesses)
    shares = [found[guess] / len(guesses) for guess in range(1, max(guesses) + 2)]
    upper = -sum(share * math.log2(share) for share in shares if share)
    ordered = sorted(shares, reverse=True)  # the ideal guesser's shares fall
    lower = sum(guess * (ordered[guess - 1] - ordered[guess]) * math.log2(guess) for guess in range(1, len(ordered)))
    return lower, max(0.0, upper)


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean of at least two values."""
    n, mean = len(values), sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
