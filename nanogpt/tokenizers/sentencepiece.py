"""SentencePiece, trained on the text of the training split: `sentencepiece:32000`, `sentencepiece:8000,model=unigram`.

The text is taken as it is: no normalisation, no space before the first word. Line feeds and tabs are tokens, and each
line is encoded for itself, so that a text can be cut after a line. ▁, the library's own mark of a space, is written as
bytes if it is in the text.
"""

import base64
import binascii
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Self

from nanogpt import extras
from nanogpt.config.setting import setting
from nanogpt.errors import UserError
from nanogpt.events import TokenizerTraining
from nanogpt.formatting import token_text
from nanogpt.tokenizers import _training, base
from nanogpt.tokenizers._bpe import END_OF_TEXT, MAX_ID
from nanogpt.tokenizers.base import (
    FORMAT,
    UNKNOWN,
    Errors,
    TokenizerSettings,
    completed,
    replace_surrogates,
    safe_chunks,
    token_dtype,
)

if TYPE_CHECKING:
    from nanogpt.tokenizers.base import TokenArray

SPACE = "▁"
_APART = re.compile(r"[\n\t\r]|(?<=<)(?=\|endoftext\|>|unk>)")
UNKNOWN_ID, END_ID = 0, 1
CHUNK_CHARACTERS = 1 << 14
LONGEST_SENTENCE = 1000  # characters of a line that are learned from at once
MOST_SENTENCES = 5_000_000  # the first ones of a longer text, because the library holds all in memory
THREADS = 4  # on every machine: the order of sums depends on it


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(TokenizerSettings):
    """The options of the library, under shorter names, with the values that language models use."""

    vocab_size: int = setting(32_000, "entries: control, bytes, characters and pieces", low=8, high=1_000_000)
    model: str = setting("bpe", "how the entries are found", choices=("bpe", "unigram"))
    character_coverage: float = setting(0.999995, "share of the text's characters that are entries", low=0.98, high=1)
    byte_fallback: bool = setting(True, "other characters are written as bytes; without it they are an error")
    split_digits: bool = setting(True, "every digit is an entry of its own")
    max_piece_length: int = setting(27, "longest entry in characters", low=1, high=512)

    def vocab_size_bound(self) -> int:
        return self.vocab_size


class Tokenizer(base.Tokenizer):
    """`model` is the library's own file."""

    name = "sentencepiece"
    needs = "text"
    settings = Settings

    def __init__(self, model: bytes) -> None:
        library = extras.load("sentencepiece", "sentencepiece", "the tokenizer sentencepiece")
        self._model = model
        try:
            self._processor = library.SentencePieceProcessor(model_proto=model)
        except (RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"the sentencepiece model is unusable: {' '.join(str(error).split())[:120]}") from None
        self.vocab_size = int(self._processor.vocab_size())
        if not 2 < self.vocab_size <= MAX_ID:
            raise UserError(f"the sentencepiece model has {self.vocab_size} entries, not 3 to {MAX_ID}")
        self.end_of_text = END_ID
        self._bytes = [self._bytes_of(id) for id in range(self.vocab_size)]
        self._mark = [self._processor.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE.encode()]

    @classmethod
    def create(cls, text_chunks: Iterable[str] | None) -> Self:
        return completed(cls.build(Settings(), text_chunks))

    @classmethod
    def build(
        cls, settings: TokenizerSettings, text_chunks: Iterable[str] | None
    ) -> Generator[TokenizerTraining, None, Self]:
        assert isinstance(settings, Settings)
        extras.load("sentencepiece", "sentencepiece", "the training of a sentencepiece tokenizer")
        arguments = [
            str(settings.vocab_size),
            settings.model,
            str(settings.character_coverage),
            str(int(settings.byte_fallback)),
            str(int(settings.split_digits)),
            str(settings.max_piece_length),
        ]
        chunks = safe_chunks(text_chunks or (), after_line, CHUNK_CHARACTERS)
        model: str = yield from _training.run("sentencepiece", arguments, chunks, settings.vocab_size, 0)
        made = cls(base64.b64decode(model))
        learned = [token for id, token in enumerate(made._bytes) if not made._is_given(id)]
        given = made.vocab_size - len(learned)
        yield from _training.show(map(token_text, learned), given, settings.vocab_size)
        return made

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        try:
            return cls(base64.b64decode(data["model"], validate=True))
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise UserError("a sentencepiece tokenizer needs `model`, a model in base64") from None

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "name": self.name, "model": base64.b64encode(self._model).decode("ascii")}

    @property
    def special_ids(self) -> frozenset[int]:
        return frozenset([UNKNOWN_ID, END_ID])

    @property
    def unknown_id(self) -> int:
        return UNKNOWN_ID

    def encode_to_array(self, text: str, errors: Errors = "strict") -> "TokenArray":
        import numpy as np

        parts = re.split(f"({SPACE})|(?<=\n)", replace_surrogates(text))
        texts = [part for part in parts if part]
        encoded = self._processor.encode(texts, out_type=int, num_threads=1)
        found = (self._mark if part == SPACE else ids for part, ids in zip(texts, encoded, strict=True))
        array = np.fromiter(chain.from_iterable(found), token_dtype(self.vocab_size))
        if errors == "strict" and (array == UNKNOWN_ID).any():
            unknown = [character for character in sorted(set(text)) if UNKNOWN_ID in self.encode(character, "replace")]
            shown = ", ".join(f"{character!r} (U+{ord(character):04X})" for character in unknown[:5])
            raise UserError(
                f"unknown character {shown}: not in the vocabulary of this tokenizer; remove it, or train one with "
                "byte_fallback=true"
            )
        return array

    def token_bytes(self, id: int) -> bytes:
        return self._bytes[id] if 0 <= id < self.vocab_size else UNKNOWN

    def safe_cut(self, text: str) -> int:
        return after_line(text)

    def _bytes_of(self, id: int) -> bytes:
        if id == UNKNOWN_ID:
            return UNKNOWN
        piece: str = self._processor.id_to_piece(id)
        return bytes([int(piece[3:5], 16)]) if self._processor.is_byte(id) else piece.replace(SPACE, " ").encode()

    def _is_given(self, id: int) -> bool:
        return bool(self._processor.is_byte(id) or id in self.special_ids)


def after_line(text: str) -> int:
    """Return the place after the last line feed."""
    return text.rfind("\n") + 1


def learn(arguments: Sequence[str], texts: Iterator[str]) -> str:
    """Return the trained model in base64. Raise `UserError` if the vocabulary is too small for the text."""
    import io

    library = extras.load("sentencepiece", "sentencepiece", "the training of a sentencepiece tokenizer")
    size, model, coverage, byte_fallback, split_digits, longest = arguments
    written = io.BytesIO()
    try:
        library.SentencePieceTrainer.train(
            sentence_iterator=sentences(texts),
            model_writer=written,
            vocab_size=int(size),
            model_type=model,
            character_coverage=float(coverage),
            byte_fallback=bool(int(byte_fallback)),
            split_digits=bool(int(split_digits)),
            max_sentencepiece_length=int(longest),
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            user_defined_symbols=["\n", "\t", "\r"],
            unk_id=UNKNOWN_ID,
            eos_id=END_ID,
            bos_id=-1,
            pad_id=-1,
            eos_piece=END_OF_TEXT,
            hard_vocab_limit=False,  # a short text gives a smaller vocabulary
            max_sentence_length=8 * LONGEST_SENTENCE,
            # never reached, but the model records both options, and its fingerprint includes them
            input_sentence_size=MOST_SENTENCES,
            shuffle_input_sentence=False,
            num_threads=THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        message = " ".join(str(error).split())
        if needed := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
            raise UserError(
                f"vocab_size={size} is too small for the characters of the text: give at least {needed[1]}, or a "
                "smaller character_coverage"
            ) from None
        if "sentences_.empty()" in message:
            raise UserError("the text has nothing but line feeds and tabs: give another text") from None
        raise UserError(f"the training of the tokenizer failed: {message[:200]}") from None
    return base64.b64encode(written.getvalue()).decode("ascii")


def sentences(texts: Iterable[str]) -> Iterator[str]:
    """Yield the first lines of a text, cut where the library would leave something out; long lines in parts.

    It keeps tabs for itself, strips carriage returns, and skips its control entries where they are in the text.
    """
    texts = iter(texts)
    yield from islice(_parts(texts), MOST_SENTENCES - 1)  # at MOST_SENTENCES the library stops reading
    for _ in texts:
        pass  # the parent waits until the whole text is read


def _parts(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for line in _APART.split(text):
            for begin in range(0, len(line), LONGEST_SENTENCE):
                yield line[begin : begin + LONGEST_SENTENCE]
