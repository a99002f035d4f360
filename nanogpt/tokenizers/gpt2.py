"""GPT-2's byte pair encoding: 50,257 ids, which tiktoken calls gpt2 and r50k_base."""

from collections.abc import Iterable
from functools import cache

from nanogpt.tokenizers import _published
from nanogpt.tokenizers._bpe import END_OF_TEXT, BpeTokenizer
from nanogpt.tokenizers._pieces import GPT2

SPECIAL_TOKENS = {END_OF_TEXT: 50256}


class Tokenizer(BpeTokenizer):
    """The published vocabulary, loaded once in a process."""

    name = "gpt2"
    known_vocab_size = 50_257

    @classmethod
    def create(cls, text_chunks: Iterable[str] | None) -> "Tokenizer":
        return _published_tokenizer()

    @classmethod
    def available_offline(cls) -> bool:
        return _published.is_available_offline("r50k_base")


@cache
def _published_tokenizer() -> Tokenizer:
    return Tokenizer(GPT2, _published.vocabulary("r50k_base"), SPECIAL_TOKENS)
