"""GPT-2's byte pair encoding plus one token each for runs of 2 to 25 spaces: 50,281 ids, made for source code."""

from collections.abc import Iterable
from functools import cache

from nanogpt.tokenizers import _published
from nanogpt.tokenizers._bpe import END_OF_TEXT, BpeTokenizer
from nanogpt.tokenizers._pieces import GPT2

SPECIAL_TOKENS = {END_OF_TEXT: 50256}


class Tokenizer(BpeTokenizer):
    """The published vocabulary, loaded once in a process."""

    name = "p50k_base"
    known_vocab_size = 50_281

    @classmethod
    def create(cls, text_chunks: Iterable[str] | None) -> "Tokenizer":
        return _published_tokenizer()

    @classmethod
    def available_offline(cls) -> bool:
        return _published.is_available_offline("p50k_base")


@cache
def _published_tokenizer() -> Tokenizer:
    return Tokenizer(GPT2, _published.vocabulary("p50k_base"), SPECIAL_TOKENS)
