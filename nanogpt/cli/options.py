"""From a command's words to its options: dashes and underscores alike, every mistake one line that names the way out.

Knows nothing of which commands there are.
"""

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

from nanogpt.errors import UserError, nearest

_OPTION = re.compile(r"\A--[A-Za-z][\w-]*(?==|\Z)")


class Mistake(UserError):
    """Words that a command does not take."""


class Parser(argparse.ArgumentParser):
    """A parser that raises `Mistake` where argparse prints its usage and exits, and that takes no abbreviations."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"nanogpt {command}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise Mistake(message)

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """The options; positional words may stand between them. Raises `Mistake`."""
        words = underscored(words)
        try:
            # Intermixed, because plain parsing loses `b` in `a --option=1 b` where a command takes any number of words.
            options, unknown = self.parse_known_intermixed_args(words)
        except Mistake:
            self._check_names(words)  # a misspelt option is the better explanation of whatever else is wrong
            raise
        self._check_names(words)
        if unknown:
            kind = "unknown option" if unknown[0].startswith("-") and unknown[0] != "--" else "unexpected word"
            self.error(f"{kind} {unknown[0]!r}; `{self.prog} --help` shows what it takes")
        return options

    def _check_names(self, words: Sequence[str]) -> None:
        known = [name for name in self._option_string_actions if name.startswith("--")]
        for name in filter(None, map(_OPTION.match, words[: _end(words)])):
            if name[0] not in known:
                hint = nearest(name[0], known) or f" `{self.prog} --help` lists them"
                self.error(f"unknown option {name[0]}.{hint}")


def underscored(words: Sequence[str]) -> list[str]:
    """`--a-b=x-y` becomes `--a_b=x-y`: names only, never values, and nothing after a bare `--`."""
    end = _end(words)
    return [_OPTION.sub(lambda name: "--" + name[0][2:].replace("-", "_"), word) for word in words[:end]] + [
        *words[end:]
    ]


def _end(words: Sequence[str]) -> int:
    """Where the options end: at a bare `--`, or at the end of the words."""
    return words.index("--") if "--" in words else len(words)
