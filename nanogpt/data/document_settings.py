"""The settings of a data set that is made from documents: a recipe's table `[documents]`, and flags of `prepare`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nanogpt.config.setting import declared_settings, setting

VAL_RATIO = 0.0005  # of a recipe's documents, as in nanoGPT's OpenWebText: 0.1 of a large corpus would be wasted
OWN_VAL_RATIO = 0.01  # of the user's own


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentSettings:
    """How the documents of a corpus become token files. Equal settings and equal input give equal files."""

    text_column: str | None = setting(
        None, "column of a table with the text (default: `text`, or the only one of texts)"
    )
    separator: str = setting("\n", "text before each document, if the tokenizer has no end-of-text token")
    shuffle: bool = setting(True, "shuffle the files, and the documents within windows of shuffle_tokens")
    shuffle_tokens: int = setting(1 << 24, "tokens of a window: shuffled and committed together", low=1, high=1 << 28)
    deduplicate: bool = setting(True, "drop documents whose text occurred before")
    seed: int = setting(1337, "seed of the order and of the splits", low=0, high=2**63 - 1)
    max_docs: int | None = setting(None, "stop after this number of documents", low=3, high=2**40)
    max_tokens: int | None = setting(None, "stop after this number of tokens, in all splits", low=3, high=2**50)
    tokenizer_bytes: int = setting(
        100_000_000, "bytes of documents that a tokenizer is made from, if it needs text", low=1000, high=2**40
    )

    def __post_init__(self) -> None:
        """Raise `SettingError` for a value out of its bounds."""
        for each in declared_settings(type(self), "documents"):
            each.parse(getattr(self, each.name))

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return asdict(self)


def parse_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are given among some flags; None is not given. Raise `SettingError`."""
    declared = declared_settings(DocumentSettings, "documents")
    return {each.name: each.parse(flags[each.name]) for each in declared if flags.get(each.name) is not None}
