"""GPT-2's byte pair encoding with a token each for runs of 2 to 25 spaces: 50,281 ids, made for source code."""

from collections.abc import Iterable
from functools import cache

from nanogpt.tokenizers import _published
from nanogpt.tokenizers._bpe import END_OF_TEXT, BpeTokenizer
from nanogpt.tokenizers._bpe import from_json as from_json
from nanogpt.tokenizers._pieces import GPT2


def create(text_chunks: Iterable[str] | None) -> BpeTokenizer:
    return _published_tokenizer()


def available_offline() -> bool:
    return _published.on_this_machine("p50k_base")


@cache
def _published_tokenizer() -> BpeTokenizer:
    return BpeTokenizer("p50k_base", GPT2, _published.vocabulary("p50k_base"), {END_OF_TEXT: 50256})
