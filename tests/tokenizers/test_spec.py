"""The spec of a tokenizer: one text for its kind and settings, and one canonical text for equal ones."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import pytest

from nanogpt import tokenizers
from nanogpt.config.setting import setting
from nanogpt.errors import SettingError
from nanogpt.tokenizers import _spec, byte
from nanogpt.tokenizers.base import TokenizerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(TokenizerSettings):
    size: int = setting(300, "entries", low=257)
    shape: str = setting("round", "the shape", choices=("round", "square"))
    keep: bool = setting(False, "whether to keep")
    note: str = setting("", "any text")

    def vocab_size_bound(self) -> int:
        return self.size


class Sized(byte.Tokenizer):
    """A kind with settings; nothing else of it is used here."""

    name = "sized"
    settings = Settings
    known_vocab_size = None  # type: ignore[assignment]

    @classmethod
    def create(cls, text_chunks: Iterable[str] | None) -> Self:
        return cls()


def parse(text: str) -> _spec.TokenizerSpec:
    return _spec.parse(text, lambda name: Sized if name == "sized" else tokenizers.tokenizer_class(name))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("char", "char"),
        ("gpt2", "gpt2"),
        ("sized", "sized:300"),
        ("sized:1e3", "sized:1000"),
        ("sized:300,shape=ROUND,keep=no", "sized:300"),
        ("sized,shape=square,size=400", "sized:400,shape=square"),
        ("sized:400,shape=square,keep=1", "sized:400,keep=true,shape=square"),
        ("sized:400,note=a:b, c =d", "sized:400,note=a:b, c =d"),
    ],
)
def test_equal_settings_have_one_canonical_text_that_gives_them_back(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical
    assert parse(canonical) == parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("gtp2", "no tokenizer 'gtp2'.*Did you mean gpt2"),
        ("", "no tokenizer ''"),
        ("char:5", "tokenizer=char:5: char has no argument; write char alone"),
        ("char,size=5", "char has no setting size"),
        ("sized:12", "tokenizer=sized:12: size=12: has to be at least 257"),
        ("sized:many", "size=many: has to be a whole number"),
        ("sized:300,size=400", "size is given twice"),
        ("sized:300,sape=square", "sized has no setting sape.*Did you mean shape"),
        ("sized:300,shape=oval", "shape=oval: has to be one of round, square"),
        ("sized:\x1b[31m", r"\\x1b\[31m"),
    ],
)
def test_what_is_wrong_is_one_line_of_the_setting_tokenizer(text: str, reason: str) -> None:
    with pytest.raises(SettingError, match=reason) as refused:
        parse(text)
    assert refused.value.setting == "tokenizer"
    assert str(refused.value).isprintable()


def test_the_size_is_known_from_kind_or_settings() -> None:
    sizes: dict[str, Any] = {"char": None, "gpt2": 50257, "sized:400": 400}
    assert {text: parse(text).vocab_size for text in sizes} == sizes
