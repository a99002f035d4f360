"""The parser of a command's options: dashes and underscores are equivalent, and each error is one line with advice."""

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

from nanogpt.errors import UserError, nearest

_OPTION = re.compile(r"\A--[A-Za-z][\w-]*(?==|\Z)")


class UsageError(UserError):
    """Arguments that a command does not accept."""


class Parser(argparse.ArgumentParser):
    """A parser that raises `UsageError` instead of printing the usage and exiting, and accepts no abbreviations."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"nanogpt {command}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return the options; positional arguments may be between them. Raise `UsageError`."""
        arguments = underscored(arguments)
        try:
            # Intermixed, because plain parsing loses `b` in `a --option=1 b` where a command takes any number of words.
            options, unknown = self.parse_known_intermixed_args(arguments)
        except UsageError:
            self._check_names(arguments)  # a misspelled option explains other errors better
            raise
        self._check_names(arguments)
        if unknown:
            kind = "unknown option" if unknown[0].startswith("-") and unknown[0] != "--" else "unexpected argument"
            self.error(f"{kind} {unknown[0]!r}; `{self.prog} --help` shows what it takes")
        return options

    def _check_names(self, arguments: Sequence[str]) -> None:
        known = [name for name in self._option_string_actions if name.startswith("--")]
        for name in filter(None, map(_OPTION.match, arguments[: _end(arguments)])):
            if name[0] not in known:
                hint = nearest(name[0], known) or f" `{self.prog} --help` lists them"
                self.error(f"unknown option {name[0]}.{hint}")


def underscored(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with `--a-b=x-y` as `--a_b=x-y`: only names, not values, and nothing after `--`."""
    end = _end(arguments)
    return [_OPTION.sub(lambda name: "--" + name[0][2:].replace("-", "_"), word) for word in arguments[:end]] + [
        *arguments[end:]
    ]


def _end(arguments: Sequence[str]) -> int:
    """Return the index where the options end: at `--`, or after the last argument."""
    return arguments.index("--") if "--" in arguments else len(arguments)
