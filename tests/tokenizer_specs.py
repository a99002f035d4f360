"""The tokenizers that the contract tests cover: each kind, with each choice of its settings."""

from functools import cache
from importlib import import_module

from nanogpt import tokenizers
from nanogpt.config.setting import declared_settings

SAMPLE = "To be, or not to be?\n\n  That  is\tthe question — naïve 日本語 🤖 don't 12345 \r\n<|endoftext|> x\n"
SAMPLE += "\tdef f(x):\n        return x \n  "


def _specs() -> list[str]:
    """Return the spec of each kind with default settings, and one for each other value of a choice or a switch."""
    found = []
    for kind in tokenizers.names_without_argument():
        found.append(kind)
        for each in declared_settings(tokenizers.tokenizer_class(kind).settings, ""):
            values = each.choices or ((True, False) if each.value_type is bool else ())
            found += [f"{kind},{each.name}={str(value).lower()}" for value in values if value != each.default]
    return found


SPECS = _specs()


def kind_of(spec: str) -> type[tokenizers.Tokenizer]:
    """Return the class of a spec's kind."""
    return tokenizers.parse_spec(spec).kind


@cache
def made(spec: str) -> tokenizers.Tokenizer:
    """The tokenizer, for `SAMPLE`; for a vocabulary that needs the network, its own pattern over GPT-2's vocabulary."""
    if tokenizers.available_offline(spec):
        return tokenizers.create(spec, [SAMPLE])
    module = import_module(f"nanogpt.tokenizers.{spec}")
    vocabulary = [made("gpt2").token_bytes(id) for id in range(50256)]
    tokenizer: tokenizers.Tokenizer = module.Tokenizer(module.GPT4, vocabulary, module.SPECIAL_TOKENS)
    return tokenizer
