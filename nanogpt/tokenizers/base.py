"""The base class of all tokenizers, which convert text to token ids and back."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from nanogpt.events import TokenizerTraining

    TokenArray = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]

LONGEST_CHUNK = 1 << 21  # characters without a safe place to cut, after which a text is cut anywhere
FORMAT = 1  # of a saved tokenizer's JSON
UNKNOWN = "\N{REPLACEMENT CHARACTER}".encode()  # the text of an id outside the vocabulary
Errors = Literal["strict", "replace"]
TokenDtype = Literal["uint16", "uint32"]
T = TypeVar("T")

Needs = Literal["nothing", "characters", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerSettings:
    """The settings of one kind of tokenizer, declared with `nanogpt.config.setting`.

    In a tokenizer's spec the first one is the argument and the others are `key=value`.
    """

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raise `SettingError` for settings that do not fit each other."""

    def resolved(self) -> Self:
        """Return the settings with everything that identifies the tokenizer, such as the hash of a file that it reads.

        Raise `UserError` if that cannot be found.
        """
        return self

    def vocab_size_bound(self) -> int | None:
        """Return the size of the vocabulary, which a short text may not reach; None if it is not known."""
        return None


class Tokenizer(ABC):
    """A tokenizer. A subclass is one kind; `name` is the kind's.

    `needs` is what `build` reads of its text: nothing, each distinct character once, or the text of the training split.
    `settings` is the class of the kind's settings. `known_vocab_size` is the size of every vocabulary of this kind;
    None if it depends on text or settings. `one_per_character`: every character is one token. `end_of_text` is the id
    that separates documents; None if the kind has no such token.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs] = "nothing"
    settings: ClassVar[type[TokenizerSettings]] = TokenizerSettings
    known_vocab_size: ClassVar[int | None] = None
    one_per_character: ClassVar[bool] = False

    vocab_size: int
    end_of_text: int | None

    @classmethod
    @abstractmethod
    def create(cls, text_chunks: Iterable[str] | None) -> Self:
        """Return a tokenizer of this kind for a text, with default settings.

        Raise `UserError` if it needs a text that is missing or empty, or a network that cannot be reached.
        """

    @classmethod
    def build(
        cls, settings: TokenizerSettings, text_chunks: Iterable[str] | None
    ) -> "Generator[TokenizerTraining, None, Self]":
        """Yield the progress of a training and return the tokenizer. Closing the iterator cancels.

        A kind that has settings or is trained overrides it. `text_chunks` are consecutive parts of one text, cut
        anywhere; the result does not depend on where. Raise `UserError` as `create` does.
        """
        return cls.create(text_chunks)
        yield

    @classmethod
    def saved(cls, settings: TokenizerSettings) -> dict[str, Any] | None:
        """Return the `to_json` of another tokenizer that the settings name, which then is the one to build; or None."""
        return None

    @classmethod
    @abstractmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the tokenizer that `to_json` wrote. Raise `UserError` for anything else."""

    @classmethod
    def available_offline(cls) -> bool:
        """Return whether `create` works without a network here and now."""
        return True

    @abstractmethod
    def encode_to_array(self, text: str, errors: Errors = "strict") -> "TokenArray":
        """Return the ids of a text, (n,), uint16 if the vocabulary fits and uint32 otherwise.

        Raise `UserError` for a character outside the vocabulary; `errors="replace"` replaces it by a known one.
        """

    @abstractmethod
    def token_bytes(self, id: int) -> bytes:
        """Return the UTF-8 bytes of one token, which may be part of a character; for an unknown id those of U+FFFD."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the whole tokenizer as plain values, so that loading it needs nothing else."""

    def encode(self, text: str, errors: Errors = "strict") -> list[int]:
        """Return `encode_to_array` as a list."""
        ids: list[int] = self.encode_to_array(text, errors).tolist()
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of the ids; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids that no text gives, such as that of the end of the text."""
        return frozenset() if self.end_of_text is None else frozenset([self.end_of_text])

    @property
    def unknown_id(self) -> int | None:
        """The id of the token for what is not in the vocabulary, which only `errors="replace"` gives; None if none."""
        return None

    def truncated(self, vocab_size: int) -> "Tokenizer | None":
        """Return the tokenizer with the first entries alone that a training to this smaller size gives.

        None if the kind is not trained entry by entry, or the size is too small.
        """
        return None

    def safe_cut(self, text: str) -> int:
        """Return the last position where the text can be cut so that its parts encode to the tokens of the whole.

        0: it cannot be cut.
        """
        return len(text)


def safe_chunks(texts: Iterable[str], safe_cut: Callable[[str], int], characters: int) -> Iterator[str]:
    """Yield a text in chunks of about so many characters, whose tokens together are those of the whole.

    They do not depend on how the text was divided. `safe_cut` is `Tokenizer.safe_cut`.
    """
    waiting, begin, size = "", 0, characters
    for text in texts:
        waiting, begin = waiting[begin:] + text, 0
        while len(waiting) - begin >= size:
            cut = safe_cut(waiting[begin : begin + size])
            if not cut and size < LONGEST_CHUNK:
                size *= 2
                continue
            end = begin + (cut or size)
            yield waiting[begin:end]
            begin, size = end, characters
    if waiting[begin:]:
        yield waiting[begin:]


def replace_surrogates(text: str) -> str:
    """Return the text with U+FFFD for each half of a surrogate pair, as a terminal or a file name can contain."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def completed(work: Generator[Any, None, T]) -> T:
    """Run a generator to its end and return what it returns."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            value: T = end.value
            return value


def token_dtype(vocab_size: int) -> TokenDtype:
    """Return the smallest type in which token ids are stored."""
    return "uint16" if vocab_size <= 2**16 else "uint32"
