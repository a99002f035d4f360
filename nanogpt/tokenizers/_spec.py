"""The spec of a tokenizer: its kind and settings as `KIND[:ARGUMENT][,key=value]`, such as `bpe:9157,pattern=gpt4`.

The argument is the value of the kind's first setting. The canonical form, which a data set records, leaves out the
settings that have their default and sorts the others, so that equal settings give equal texts.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nanogpt.config.setting import declared_settings
from nanogpt.errors import SettingError, UserError, nearest
from nanogpt.tokenizers.base import Tokenizer, TokenizerSettings

_OPTION = re.compile(r",([A-Za-z_]\w*)=")


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """A kind of tokenizer with its settings; `str` is the canonical form."""

    kind: type[Tokenizer]
    settings: TokenizerSettings

    def __str__(self) -> str:
        declared = list(declared_settings(self.kind.settings, ""))
        values = {each.name: getattr(self.settings, each.name) for each in declared}
        text = self.kind.name + (f":{values[declared[0].name]}" if declared else "")
        options = sorted((each.name, values[each.name]) for each in declared[1:] if values[each.name] != each.default)
        return text + "".join(f",{name}={_written(value)}" for name, value in options)

    @property
    def vocab_size(self) -> int | None:
        """The size of the vocabulary, as far as the spec alone tells; a short text may give a smaller one."""
        return self.kind.known_vocab_size or self.settings.vocab_size_bound()


def parse(text: str, kind_class: Callable[[str], type[Tokenizer]]) -> TokenizerSpec:
    """Return the spec that a text describes; `kind_class` gives the class of a kind.

    Raise `SettingError` of the setting `tokenizer` for an unknown kind or setting and an unusable value.
    """
    head, *options = _OPTION.split(text)
    name, colon, argument = head.partition(":")
    try:
        kind = kind_class(name)
        declared = {each.name: each for each in declared_settings(kind.settings, "")}
        given: dict[str, str] = {}
        if colon:
            if not declared:
                raise UserError(f"{name} has no argument; write {name} alone")
            given[next(iter(declared))] = argument
        for key, value in zip(options[::2], options[1::2], strict=True):
            if key not in declared:
                known = f"its settings: {', '.join(declared)}.{nearest(key, list(declared))}" if declared else "none"
                raise UserError(f"{name} has no setting {key}; {known}")
            if key in given:
                raise UserError(f"{key} is given twice")
            given[key] = value
        values: dict[str, Any] = {key: declared[key].parse(value) for key, value in given.items()}
        return TokenizerSpec(kind, kind.settings(**values))
    except UserError as error:
        shown = text if text.isprintable() else repr(text)
        about = "" if shown == name else f"tokenizer={shown[:80]}: "
        raise SettingError("tokenizer", f"{about}{error}") from None


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
