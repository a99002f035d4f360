"""Optional packages: imported when they are needed, with one line that says what to install if they are missing."""

from importlib import import_module
from typing import Any

from nanogpt.errors import UserError


class MissingPackage(UserError):
    """An optional package is not installed; `advice` says which one and how to install it."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(f"{what} {advice}")
        self.advice = advice


def load(module: str, extra: str, what: str) -> Any:
    """Return a module of an optional package, which `extra` of this distribution installs.

    Raise `MissingPackage` if it is not installed. `what` needs it and is the subject of the message.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingPackage(what, f"needs {error.name or module}: pip install 'nanogpt-tui[{extra}]'") from error
