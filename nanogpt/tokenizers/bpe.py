"""A byte pair encoding that is trained on the text of the training split: `bpe:4096`, `bpe:9157,pattern=gpt4`.

The size of the vocabulary counts 256 bytes, the merges and the special tokens. It comes out smaller if the text has no
more pairs to merge.
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from typing import Self

from nanogpt.config.setting import setting
from nanogpt.errors import SettingError
from nanogpt.events import TokenizerTraining
from nanogpt.tokenizers._bpe import END_OF_TEXT, BpeTokenizer, safe_cut
from nanogpt.tokenizers._bpe_training import train
from nanogpt.tokenizers._pieces import GPT2, GPT4
from nanogpt.tokenizers.base import TokenizerSettings, completed

PATTERNS = {"gpt2": GPT2, "gpt4": GPT4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(TokenizerSettings):
    """`special_tokens` are separated by spaces; none of them is made from text."""

    vocab_size: int = setting(4096, "entries: 256 bytes, merges and special tokens", low=257, high=1_000_000)
    pattern: str = setting("gpt2", "how the text is cut into pieces", choices=tuple(PATTERNS))
    special_tokens: str = setting(END_OF_TEXT, "tokens with an id of their own, separated by spaces")

    def validate(self) -> None:
        special = self.special_tokens.split()
        if len(set(special)) < len(special):
            raise SettingError("special_tokens", f"special_tokens={self.special_tokens}: one of them is there twice")
        if self.vocab_size < 256 + len(special):
            raise SettingError(
                "vocab_size",
                f"vocab_size={self.vocab_size} has to be at least {256 + len(special)}: 256 bytes and "
                f"{len(special)} special tokens",
            )

    def resolved(self) -> "Settings":
        return replace(self, special_tokens=" ".join(self.special_tokens.split()))

    def vocab_size_bound(self) -> int:
        return self.vocab_size


class Tokenizer(BpeTokenizer):
    """The ids are 256 bytes in GPT-2's order, the merges in the order in which they were found, the special tokens."""

    name = "bpe"
    needs = "text"
    settings = Settings

    @classmethod
    def create(cls, text_chunks: Iterable[str] | None) -> Self:
        return completed(cls.build(Settings(), text_chunks))

    @classmethod
    def build(
        cls, settings: TokenizerSettings, text_chunks: Iterable[str] | None
    ) -> Generator[TokenizerTraining, None, Self]:
        assert isinstance(settings, Settings)
        special, pattern = settings.special_tokens.split(), PATTERNS[settings.pattern]
        tokens = yield from train(pattern, settings.vocab_size - len(special), text_chunks or (), safe_cut)
        return cls(pattern, tokens, {token: len(tokens) + number for number, token in enumerate(special)})
