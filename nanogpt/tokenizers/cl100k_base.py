"""GPT-4's byte pair encoding: 100,277 ids, of which 16 at the end are unused; they need uint32."""

from collections.abc import Iterable
from functools import cache

from nanogpt.tokenizers import _published
from nanogpt.tokenizers._bpe import END_OF_TEXT, BpeTokenizer
from nanogpt.tokenizers._pieces import GPT4

SPECIAL_TOKENS = {
    END_OF_TEXT: 100257,
    "<|fim_prefix|>": 100258,
    "<|fim_middle|>": 100259,
    "<|fim_suffix|>": 100260,
    "<|endofprompt|>": 100276,
}


class Tokenizer(BpeTokenizer):
    """The published vocabulary, loaded once in a process."""

    name = "cl100k_base"
    known_vocab_size = 100_277

    @classmethod
    def create(cls, text_chunks: Iterable[str] | None) -> "Tokenizer":
        return _published_tokenizer()

    @classmethod
    def available_offline(cls) -> bool:
        return _published.is_available_offline("cl100k_base")


@cache
def _published_tokenizer() -> Tokenizer:
    return Tokenizer(GPT4, _published.vocabulary("cl100k_base"), SPECIAL_TOKENS)
