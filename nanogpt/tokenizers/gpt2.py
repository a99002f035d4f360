"""GPT-2's byte pair encoding: 50,257 ids, known to tiktoken as gpt2 and as r50k_base."""

from collections.abc import Iterable
from functools import cache

from nanogpt.tokenizers import _published
from nanogpt.tokenizers._bpe import END_OF_TEXT, BpeTokenizer
from nanogpt.tokenizers._bpe import from_json as from_json
from nanogpt.tokenizers._pieces import GPT2


def create(text_chunks: Iterable[str] | None) -> BpeTokenizer:
    return _published_tokenizer()


def available_offline() -> bool:
    return _published.on_this_machine("r50k_base")


@cache
def _published_tokenizer() -> BpeTokenizer:
    return BpeTokenizer("gpt2", GPT2, _published.vocabulary("r50k_base"), {END_OF_TEXT: 50256})
