"""Settings: name, type, default, bounds and help, declared by the fields of frozen dataclasses."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from types import UnionType
from typing import Any, get_args, get_type_hints

from nanogpt.errors import SettingError, nearest


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `low` and `high` are inclusive bounds, `above` and `below` exclusive ones.

    `common`: the form of a new run shows it at once. `weights`: trained weights determine it (for an architecture's).
    """

    name: str
    section: str
    value_type: type
    optional: bool
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    common: bool = False
    weights: bool = True

    @property
    def bounds(self) -> str:
        """The allowed values in words; empty if every value is allowed."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        limits = (("at least", self.low), ("above", self.above), ("at most", self.high), ("below", self.below))
        return " and ".join(f"{word} {limit:,}" for word, limit in limits if limit is not None)

    def parse(self, value: Any) -> Any:
        """Return `value` (a string from a flag, or a value from TOML or JSON) as this setting's type.

        Raise `SettingError` for a value of another type or outside the bounds.
        """
        if value is None or (self.optional and value in ("", "none", "None")):
            if self.optional:
                return None
            raise self.error(value, f"has to be {self._noun}")
        checked = self._convert(value)
        if self.choices and checked not in self.choices:
            hint = nearest(str(checked), self.choices)
            raise self.error(value, f"has to be {self.bounds}.{hint}" if hint else f"has to be {self.bounds}")
        if isinstance(checked, float) and not math.isfinite(checked):
            raise self.error(value, "has to be a finite number")
        if isinstance(checked, int | float) and not isinstance(checked, bool) and not self._within(checked):
            raise self.error(value, f"has to be {self.bounds}")
        return checked

    def error(self, value: Any, reason: str) -> SettingError:
        """Return the one-line error that says why `value` is refused."""
        shown = str(value) if str(value).isprintable() else repr(value)  # one line, and no control characters
        return SettingError(self.name, f"{self.name}={shown[:80]}: {reason}")

    @property
    def _noun(self) -> str:
        return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[self.value_type]

    def _convert(self, value: Any) -> Any:
        try:
            if self.value_type is bool:
                if isinstance(value, bool):
                    return value
                return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[
                    str(value).lower()
                ]
            if isinstance(value, bool) and self.value_type is not str:
                raise ValueError
            if self.value_type is int:
                number = value if isinstance(value, int) else float(value)
                if not math.isfinite(number) or int(number) != number:
                    raise ValueError
                return int(value) if isinstance(value, str) and value.strip().lstrip("+-").isdigit() else int(number)
            if self.value_type is float:
                return float(value)
            text = str(value).lower() if self.choices else str(value)
            text.encode()  # not if it has bytes of a command line that are not UTF-8
            return text
        except (ValueError, TypeError, KeyError, OverflowError):
            noun = "text in UTF-8" if self.value_type is str else self._noun
            raise self.error(value, f"has to be {noun}") from None

    def _within(self, value: float) -> bool:
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


def setting(default: Any, help: str, **known: Any) -> Any:
    """Return a dataclass field that is a setting; `known` are the other attributes of `Setting`, such as `low=1`."""
    return field(default=default, metadata={"help": help, **known})


def declared_settings(cls: type, section: str) -> Iterator[Setting]:
    """Yield the settings that a dataclass declares, in the order of its fields."""
    hints = get_type_hints(cls)
    for item in fields(cls):
        if not item.metadata:
            continue
        hint = hints[item.name]
        optional = isinstance(hint, UnionType)
        value_type = get_args(hint)[0] if optional else hint
        yield Setting(item.name, section, value_type, optional, item.default, **item.metadata)
