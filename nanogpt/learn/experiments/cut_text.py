"""A text becomes tokens: the same text cut into characters, bytes and byte pairs that are learned now."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from nanogpt import tokenizers
from nanogpt.config.setting import setting
from nanogpt.formatting import counted, token_text
from nanogpt.learn import experiment
from nanogpt.learn.byte_pairs import BytePairs
from nanogpt.learn.figures import Figure, Figures, Pieces, Sentence, Table, Update, Working
from nanogpt.learn.labels import quoted
from nanogpt.learn.text import LessonText, lesson_text
from nanogpt.tokenizers import Tokenizer

LONGEST_ANSWER = 400  # characters that are cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(experiment.Settings):
    """What the byte pairs are learned from, and the text that is cut first."""

    merges: int = setting(300, "byte pairs to merge", low=1, high=2000)
    characters: int = setting(60_000, "characters of the text that they are learned from", low=1000, high=400_000)
    example: str = setting("The unbelievable weather in Zürich", "the text that is cut first; empty for none")


@dataclass(frozen=True, slots=True)
class Cut:
    """A text as tokens of one tokenizer with `vocabulary` tokens."""

    name: str
    vocabulary: int
    pieces: tuple[bytes, ...]
    ids: tuple[int, ...]


class Experiment(experiment.Experiment[Settings]):
    """Learns byte pairs at the start, then cuts what the learner types."""

    name: ClassVar[str] = "cut_text"
    settings_class: ClassVar[type[experiment.Settings]] = Settings

    source: LessonText
    byte_pairs: BytePairs
    published: list[Tokenizer]  # those whose files are on this machine

    @property
    def question(self) -> str:
        """Ask for a text."""
        return "Type a text"

    def start(self) -> Iterator[Update]:
        """Learn the byte pairs, and cut the example."""
        yield Working(0.0, "reading the text")
        self.source = lesson_text(self.data_dir)
        self.characters = tokenizers.create("char", [self.source.text])
        self.byte_pairs = BytePairs()
        merges = self.settings.merges
        for done, token in enumerate(self.byte_pairs.train(self.source.text[: self.settings.characters], merges), 1):
            yield Working(done / merges, f"merge {done} of {merges}: {quoted(token)}")
        yield Working(1.0, "looking for the file of GPT-2's tokens")
        self.published = [tokenizers.create("gpt2")] if tokenizers.available_offline("gpt2") else []
        example = self.settings.example
        yield Figures((*self.about_training(), *(self.figures(example) if example else ())))

    def answer(self, text: str) -> Iterator[Update]:
        """Cut the text."""
        self.done = self.done or bool(text)
        yield Figures(tuple(self.figures(text)) if text else (Sentence("There is nothing to cut: type some letters."),))

    def about_training(self) -> Iterator[Figure]:
        """Yield what the training of the byte pairs found."""
        tokens = self.byte_pairs.tokens[256:]
        size = min(self.settings.characters, len(self.source.text))
        if not tokens:
            yield Sentence(f"In {size:,} characters of {self.source.origin} no pair of bytes occurs twice.")
            return
        first = ", ".join(quoted(token) for token in tokens[:6])
        longest = max(tokens, key=len)
        yield Sentence(
            f"In {size:,} characters of {self.source.origin} the most frequent pair of bytes was merged "
            f"{counted(len(tokens), 'time')}. The first new tokens: {first}. The longest: {quoted(longest)}."
        )

    def figures(self, text: str) -> Iterator[Figure]:
        """Yield a text in tokens, a comparison, and what it shows."""
        if len(text) > LONGEST_ANSWER:
            yield Sentence(f"Only the first {LONGEST_ANSWER} of your {len(text):,} characters are cut.")
            text = text[:LONGEST_ANSWER]
        cuts = list(self.cuts(text))
        for cut in cuts:
            title = f"{cut.name}: {counted(len(cut.pieces), 'token')}"
            yield Pieces(title, tuple(token_text(piece) for piece in cut.pieces), cut.ids)
        rows = [(c.name, f"{c.vocabulary:,}", f"{len(c.pieces):,}", f"{len(text) / len(c.pieces):.2f}") for c in cuts]
        yield Table("The same text", ("cut into", "vocabulary", "tokens", "characters per token"), tuple(rows))
        yield from self.findings(text, *cuts[:3])

    def cuts(self, text: str) -> Iterator[Cut]:
        """Yield the text cut in each way."""
        ids = self.characters.encode(text, "replace")
        yield Cut("characters", self.characters.vocab_size, *self.tokens(self.characters, ids))
        content = text.encode("utf-8", "replace")
        yield Cut("bytes", 256, tuple(bytes([byte]) for byte in content), tuple(content))
        known = self.byte_pairs.tokens
        merged = self.byte_pairs.encode(text)
        yield Cut("byte pairs", len(known), tuple(known[id] for id in merged), tuple(merged))
        for tokenizer in self.published:
            yield Cut("GPT-2's", tokenizer.vocab_size, *self.tokens(tokenizer, tokenizer.encode(text)))

    @staticmethod
    def tokens(tokenizer: Tokenizer, ids: list[int]) -> tuple[tuple[bytes, ...], tuple[int, ...]]:
        """Return the bytes of each token, and the ids."""
        return tuple(tokenizer.token_bytes(id) for id in ids), tuple(ids)

    def findings(self, text: str, characters: Cut, in_bytes: Cut, pairs: Cut) -> Iterator[Sentence]:
        """Yield what the cuts of a text show."""
        known = set(self.characters.decode(range(self.characters.vocab_size)))
        if unknown := sorted(set(text) - known):
            yield Sentence(
                f"Not among the {characters.vocabulary} characters of {self.source.origin}: "
                f"{', '.join(map(quoted, unknown[:5]))}. Cut into characters, that is lost. Bytes can write any text."
            )
        if more := len(in_bytes.pieces) - len(text):
            wide = [character for character in dict.fromkeys(text) if len(character.encode("utf-8", "replace")) > 1]
            shown = ", ".join(f"{quoted(each)} takes {len(each.encode('utf-8', 'replace'))}" for each in wide[:3])
            yield Sentence(f"{len(text)} characters are {len(in_bytes.pieces)} bytes, {more} more: {shown}.")
        saved = 1 - len(pairs.pieces) / len(in_bytes.pieces)
        if saved > 0:
            yield Sentence(
                f"Byte pairs need {counted(len(pairs.pieces), 'token')} instead of {len(in_bytes.pieces)}: {saved:.0%} "
                f"fewer. The longest here is {quoted(max(pairs.pieces, key=len))}."
            )
        else:
            yield Sentence("No learned pair occurs in this text: here byte pairs are no shorter than bytes.")
