"""Optional packages: imported when they are needed, with one line that says what to install if they are missing."""

from importlib import import_module
from typing import Any

from nanogpt.errors import UserError


def load(module: str, extra: str, what: str) -> Any:
    """Return a module of an optional package, which `extra` of this distribution installs.

    Raise `UserError` if it is not installed. `what` needs it and is the subject of the message.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(f"{what} needs {error.name or module}: pip install 'nanogpt-tui[{extra}]'") from error
