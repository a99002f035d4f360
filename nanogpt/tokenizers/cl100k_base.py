"""GPT-4's byte pair encoding: 100,277 ids, of which 16 at the end stand for nothing. Too many for uint16."""

from collections.abc import Iterable
from functools import cache

from nanogpt.tokenizers import _published
from nanogpt.tokenizers._bpe import END_OF_TEXT, BpeTokenizer
from nanogpt.tokenizers._bpe import from_json as from_json
from nanogpt.tokenizers._pieces import GPT4

SPECIAL_TOKENS = {
    END_OF_TEXT: 100257,
    "<|fim_prefix|>": 100258,
    "<|fim_middle|>": 100259,
    "<|fim_suffix|>": 100260,
    "<|endofprompt|>": 100276,
}


def create(text_chunks: Iterable[str] | None) -> BpeTokenizer:
    return _published_tokenizer()


def available_offline() -> bool:
    return _published.on_this_machine("cl100k_base")


@cache
def _published_tokenizer() -> BpeTokenizer:
    return BpeTokenizer("cl100k_base", GPT4, _published.vocabulary("cl100k_base"), SPECIAL_TOKENS)
