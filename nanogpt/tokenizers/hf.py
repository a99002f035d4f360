"""Any `tokenizer.json` of Hugging Face's `tokenizers`: `hf:/path/tokenizer.json`, or a folder that has one.

A folder may have GPT-2's `vocab.json` and `merges.txt` in its place.

The library reads plain JSON; nothing in it can run code. The whole file is part of the saved tokenizer. Special tokens
are never made from text. What the file's own normalizer changes, such as capitals, is changed here too. A file that
this program wrote gives the tokenizer that was saved in it.
"""

import hashlib
import json
import re
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nanogpt import extras, paths
from nanogpt.config.setting import setting
from nanogpt.errors import SettingError, UserError
from nanogpt.events import TokenizerTraining
from nanogpt.files import read_bytes, read_json, why
from nanogpt.tokenizers import base
from nanogpt.tokenizers._bpe import MAX_ID, safe_cut
from nanogpt.tokenizers._hf_files import END_TOKENS, LARGEST, MERGES, VOCABULARY, read_content, tokenizer_path
from nanogpt.tokenizers._pieces import GPT2, GPT4, oniguruma
from nanogpt.tokenizers._published import byte_characters
from nanogpt.tokenizers.base import (
    FORMAT,
    UNKNOWN,
    Errors,
    TokenizerSettings,
    completed,
    replace_surrogates,
    token_dtype,
)

if TYPE_CHECKING:
    from nanogpt.tokenizers.base import TokenArray

# Patterns that start a new piece at a space that follows a non-blank, and that look back nowhere.
CUT_AT_SPACES = {
    oniguruma(GPT2),
    oniguruma(GPT4),
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    *(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        rf"{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        for numbers in (r"\p{N}", r"\p{N}{1,3}")
    ),
}
SINGLE_CHARACTERS = r"[\s\S]"
OF_WHOLE_WORDS = ("WordLevel", "WordPiece")  # models to which one character of a known word may be unknown
MOST_NAMED, LONGEST_NAMED = 5, 40  # unknown characters or words that an error names, and characters of such a word
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(TokenizerSettings):
    """`sha256` are the first 16 hexadecimal digits of the file's; they are found out when they are not given."""

    path: str = setting("", "a tokenizer.json, or a folder that has one or vocab.json and merges.txt")
    sha256: str = setting("", "the beginning of the file's SHA-256")

    def validate(self) -> None:
        if not self.path:
            raise SettingError("path", "it needs the path of a file, as in hf:/path/tokenizer.json")

    def resolved(self) -> "Settings":
        """Return the settings with the absolute path and the hash. Raise `UserError` if it is another file's."""
        path = paths.expanded(self.path)
        try:
            path = tokenizer_path(path.absolute())
            about = path.stat()
            found = _file_hash(path, about.st_size, about.st_mtime_ns)
        except (OSError, ValueError) as error:
            file = getattr(error, "filename", None) or path
            raise SettingError("tokenizer", f"cannot read the tokenizer {file}: {why(error)}") from None
        if self.sha256 and self.sha256 != found:
            raise SettingError("tokenizer", f"{path} is another file than before: its sha256 is {found}")
        return replace(self, path=str(path), sha256=found)


@lru_cache(maxsize=4)
def _file_hash(path: Path, size: int, changed_ns: int) -> str:
    """Return the beginning of a file's SHA-256. A form asks at each key: the file is read once. Raise OSError."""
    content = read_bytes(path, LARGEST)
    if path.name == VOCABULARY:
        content += read_bytes(path.with_name(MERGES), LARGEST)
    return hashlib.sha256(content).hexdigest()[:16]


class Tokenizer(base.Tokenizer):
    """`content` is the content of a `tokenizer.json`, `end` the text of the token that ends a text, if there is one."""

    name = "hf"
    settings = Settings

    def __init__(self, content: dict[str, Any], end: str | None) -> None:
        library = extras.load("tokenizers", "tokenizers", "the tokenizer hf")
        _check_normalizers(content)
        self._content, self._end = content, end
        self._tokenizer = _call(lambda: library.Tokenizer.from_str(json.dumps(content)), "it is not a tokenizer.json")
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # in a text they are ordinary characters
        if getattr(self._tokenizer.model, "dropout", None):
            self._tokenizer.model.dropout = None
        ids = self._tokenizer.get_vocab(with_added_tokens=True)
        if not ids or not all(0 <= id < MAX_ID for id in ids.values()):
            raise UserError(f"the tokenizer's ids are not between 0 and {MAX_ID - 1}")
        self.vocab_size = max(ids.values()) + 1
        self._special = {token["content"]: token["id"] for token in _added(content) if token.get("special")}
        self.end_of_text = self._special.get(end) if end is not None else None

    @classmethod
    def create(cls, text_chunks: Iterable[str] | None) -> Self:
        return completed(cls.build(Settings(), text_chunks))

    @classmethod
    def build(
        cls, settings: TokenizerSettings, text_chunks: Iterable[str] | None
    ) -> Generator[TokenizerTraining, None, Self]:
        assert isinstance(settings, Settings)
        path, content = _read(settings)
        try:
            return cls.from_json({"tokenizer": content, "end_of_text": _end_token(path, content)})
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        yield

    @classmethod
    def saved(cls, settings: TokenizerSettings) -> dict[str, Any] | None:
        assert isinstance(settings, Settings)
        _, content = _read(settings)
        return content if isinstance(content, dict) and "format" in content else None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        content, end = data.get("tokenizer"), data.get("end_of_text")
        if not isinstance(content, dict) or not (end is None or isinstance(end, str)):
            raise UserError("an hf tokenizer needs `tokenizer`, the content of a tokenizer.json, and `end_of_text`")
        if not isinstance(content.get("model"), dict):
            raise UserError("it is not a tokenizer.json of Hugging Face: it has no `model`")
        return cls(content, end)

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "name": self.name, "tokenizer": self._content, "end_of_text": self._end}

    @property
    def special_ids(self) -> frozenset[int]:
        return frozenset(self._special.values())

    # ---- text to ids

    def encode_to_array(self, text: str, errors: Errors = "strict") -> "TokenArray":
        import numpy as np

        text = replace_surrogates(text)

        def encode(text: str) -> Any:
            try:
                return self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
            except (Exception, KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # a panic of the library, which is no `Exception`
                raise UserError(f"the tokenizer.json cannot encode this text ({_reason(error)}): use another") from None

        if errors == "replace" and self.unknown_id is None:
            try:
                ids = encode(text)
            except UserError:
                raise
            except Exception:  # a character that is not in the vocabulary
                ids = [id for character in text for id in self._known(encode, character)]
        else:
            ids = _call(lambda: encode(text), "the text has a character that is not in the vocabulary")
        array: TokenArray = np.array(ids, token_dtype(self.vocab_size))
        if errors == "strict":
            if self.unknown_id is not None and (array == self.unknown_id).any():
                raise UserError(self._what_is_unknown(encode, text))
            if dropped := self._dropped(text):
                raise UserError(_unknown(_named(dropped)))
        return array

    @staticmethod
    def _known(encode: Callable[[str], list[int]], character: str) -> list[int]:
        for tried in (character, "?", " "):
            try:
                return encode(tried)
            except Exception:
                continue
        return []

    def _what_is_unknown(self, encode: Callable[[str], list[int]], text: str) -> str:
        def unknown(parts: Iterable[str]) -> list[str]:
            return list(islice((part for part in parts if self.unknown_id in encode(part)), MOST_NAMED))

        is_of_words = self._content["model"].get("type") in OF_WHOLE_WORDS
        if characters := [] if is_of_words else unknown(sorted(set(text))):
            return _unknown(_named(characters))
        words = unknown(dict.fromkeys(text.split())) or [text]
        return _unknown("word " + ", ".join(repr(word[:LONGEST_NAMED]) for word in words))

    def _dropped(self, text: str) -> list[str]:
        """Return the first characters that the library leaves out without a word.

        A BPE without a token for the unknown does so with a character, or a byte of one, outside its vocabulary.
        """
        if "merges" not in self._content["model"] or self.unknown_id is not None or self._falls_back_to_bytes:
            return []
        if self._unknown_bytes is not None and not self._unknown_bytes:
            return []
        for token in _added(self._content):  # they are found before the text is cut
            text = text.replace(token["content"], "")
        if self._tokenizer.normalizer is not None:
            text = self._tokenizer.normalizer.normalize_str(text)
        found = (character for character in sorted(set(text)) if self._is_dropped(character))
        return list(islice(found, MOST_NAMED))

    def _is_dropped(self, character: str) -> bool:
        if self._unknown_bytes is not None:
            return not self._unknown_bytes.isdisjoint(character.encode())
        if character.isspace() or self._has_token(character):
            return False
        falls_back = self._content["model"].get("byte_fallback") is True
        return not (falls_back and all(self._has_token(f"<0x{byte:02X}>") for byte in character.encode()))

    def _has_token(self, character: str) -> bool:
        """Return whether a character is a token, within a word or at its end."""
        model = self._content["model"]
        prefix, suffix = (model.get(name) or "" for name in ("continuing_subword_prefix", "end_of_word_suffix"))
        forms = {character, prefix + character, character + suffix, prefix + character + suffix}
        return any(self._tokenizer.token_to_id(form) is not None for form in forms)

    @cached_property
    def _unknown_bytes(self) -> set[int] | None:
        """The bytes that are not in the vocabulary of a tokenizer of bytes; None for one of characters."""
        steps = _steps(self._content.get("pre_tokenizer"), "pretokenizers")
        if not any(step.get("type") == "ByteLevel" for step in steps):
            return None
        return {byte for byte, written in byte_characters().items() if not self._has_token(written)}

    @cached_property
    def _falls_back_to_bytes(self) -> bool:
        """Whether the model has a token for each byte of a character that it does not know."""
        has_all = all(self._tokenizer.token_to_id(f"<0x{byte:02X}>") is not None for byte in range(256))
        return self._content["model"].get("byte_fallback") is True and has_all

    @cached_property
    def unknown_id(self) -> int | None:
        """The id of the token for what is not in the vocabulary; None if the model has none or falls back to bytes."""
        model = self._content["model"]
        if self._falls_back_to_bytes:
            return None
        if isinstance(model.get("unk_id"), int):
            return int(model["unk_id"])
        token = model.get("unk_token")
        id: int | None = self._tokenizer.token_to_id(token) if token else None
        return id

    def safe_cut(self, text: str) -> int:
        """Return the last place where the file's own splitting is known to start a new piece; 0 if it is not known."""
        return self._cut(text)

    @cached_property
    def _cut(self) -> Callable[[str], int]:
        def nowhere(text: str) -> int:
            return 0

        normalizer = (self._content.get("normalizer") or {}).get("type")
        matched = [token for token in _added(self._content) if not token.get("special")]
        crosses = any(token.get("rstrip") or re.search(r"\S\s", str(token.get("content"))) for token in matched)
        if normalizer not in (None, "NFC", "Lowercase") or crosses:
            return nowhere
        steps = _steps(self._content.get("pre_tokenizer"), "pretokenizers")
        first = steps[0] if steps else {}
        pattern = first.get("pattern", {}).get("Regex") if isinstance(first.get("pattern"), dict) else None
        by_pattern = first.get("type") == "Split" and first.get("behavior") == "Isolated" and not first.get("invert")
        if by_pattern and pattern == SINGLE_CHARACTERS and normalizer is None and not matched and len(steps) == 1:
            return len
        by_bytes = first.get("type") == "ByteLevel" and first.get("use_regex", True)
        if (by_pattern and pattern in CUT_AT_SPACES) or by_bytes:
            # A space that is put before each part of a text would be one more token.
            prefixed = any(step.get("type") == "ByteLevel" and step.get("add_prefix_space", True) for step in steps)
            return nowhere if prefixed else safe_cut
        is_metaspace = first.get("type") == "Metaspace" and first.get("split", True)
        if is_metaspace or first.get("type") in ("Whitespace", "WhitespaceSplit", "BertPreTokenizer"):
            return _before_a_space
        return nowhere

    # ---- ids to text

    def token_bytes(self, id: int) -> bytes:
        return self._bytes.get(id, UNKNOWN)

    @cached_property
    def _bytes(self) -> dict[int, bytes]:
        """The bytes of each token, as the file's own decoder makes them inside a text."""
        added = {token["id"] for token in _added(self._content)}
        steps = _steps(self._content.get("decoder"), "decoders")
        byte_steps = [step for step in steps if step.get("type") == "ByteFallback"] or [{}]
        vocabulary: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        return {id: _decoded(token, byte_steps if id in added else steps) for token, id in vocabulary.items()}


def _named(characters: Iterable[str]) -> str:
    return "character " + ", ".join(f"{character!r} (U+{ord(character):04X})" for character in characters)


def _unknown(what: str) -> str:
    return f"unknown {what}: not in the vocabulary of this tokenizer; remove it, or choose another one"


def _read(settings: Settings) -> tuple[Path, Any]:
    """Return the path and the content of the file. Raise `UserError`."""
    path = Path(settings.resolved().path)
    try:
        return path, read_content(path)
    except (OSError, ValueError) as error:
        file = getattr(error, "filename", None) or path
        raise UserError(f"cannot read the tokenizer {file}: {why(error)}") from None


def _decoded(token: str, steps: list[dict[str, Any]]) -> bytes:
    """Return the bytes of a token after the steps of a decoder."""
    for step in steps:
        kind = step.get("type")
        if kind == "ByteLevel":
            byte_of = _byte_of_character()
            if all(character in byte_of for character in token):
                return bytes(byte_of[character] for character in token)
        elif kind == "ByteFallback" and (byte := _BYTE.fullmatch(token)):
            return bytes([int(byte[1], 16)])
        elif kind == "Metaspace":
            token = token.replace(step.get("replacement", "▁"), " ")
        elif kind == "Replace" and isinstance(step.get("pattern"), dict) and "String" in step["pattern"]:
            token = token.replace(step["pattern"]["String"], step.get("content", ""))
        elif kind == "WordPiece":
            prefix = step.get("prefix", "##")
            token = token[len(prefix) :] if token.startswith(prefix) else f" {token}"
        elif kind == "BPEDecoder":
            token = token.replace(step.get("suffix", "</w>"), " ")
    return (token if steps else f" {token}").encode("utf-8", "replace")  # without a decoder words are joined by spaces


@cache
def _byte_of_character() -> dict[str, int]:
    return {character: byte for byte, character in byte_characters().items()}


def _before_a_space(text: str) -> int:
    """Return the last place before a space that follows a non-blank."""
    place = text.rfind(" ")
    while place > 0 and text[place - 1].isspace():
        place = text.rfind(" ", 0, place)
    return max(place, 0)


def _check_normalizers(content: dict[str, Any]) -> None:
    """Raise `UserError` for a damaged table of a normalizer, on which the library would panic."""
    for step in _steps(content.get("normalizer"), "normalizers"):
        if step.get("type") == "Precompiled" or "precompiled_charsmap" in step:
            from nanogpt.tokenizers._charsmap import check_charsmap  # imports numpy

            try:
                check_charsmap(step.get("precompiled_charsmap"))
            except ValueError as error:
                raise UserError(
                    f"the table of its normalizer Precompiled is damaged ({error}): copy or download it again"
                ) from None


def _steps(part: Any, key: str) -> list[dict[str, Any]]:
    """Return the steps of a pre-tokenizer or decoder, which may be a sequence of them."""
    if not isinstance(part, dict):
        return []
    if part.get("type") == "Sequence":
        return [step for inner in part.get(key) or [] for step in _steps(inner, key)]
    return [part]


def _added(content: Any) -> list[dict[str, Any]]:
    """Return the added tokens. Raise `UserError` if they are none."""
    added = content.get("added_tokens") if isinstance(content, dict) else None
    try:
        if all(isinstance(each["content"], str) and isinstance(each["id"], int) for each in added or []):
            return added or []
    except (TypeError, KeyError):
        pass
    raise UserError("its `added_tokens` are not tokens with an `id` and a `content`")


def _end_token(path: Path, content: Any) -> str | None:
    """Return the token that ends a text, as the configuration beside the file names it, or by its usual names."""
    special = {token["content"] for token in _added(content) if token.get("special")}
    try:
        named = read_json(path.with_name("tokenizer_config.json")).get("eos_token")
        named = named.get("content") if isinstance(named, dict) else named
    except (OSError, ValueError, AttributeError):
        named = None
    return next((token for token in (named, *END_TOKENS) if isinstance(token, str) and token in special), None)


def _call(work: Callable[[], Any], what: str) -> Any:
    """Return the result of a call of the library. Raise `UserError` if it fails, or panics, which is no `Exception`."""
    try:
        return work()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except UserError:
        raise
    except BaseException as error:
        raise UserError(f"{what} ({_reason(error)})") from None


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
