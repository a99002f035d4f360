"""Optional packages: imported when they are needed, with one line that says what to install if they are missing."""

from importlib import import_module
from typing import Any

from nanogpt.errors import UserError

_HTTP_LIBRARIES = ("hf_xet", "http", "huggingface_hub", "requests")  # which one depends on the version of the client


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


def is_hub_error(error: Exception) -> bool:
    """Return whether an error of `huggingface_hub` comes from the network or the hub's answer."""
    return isinstance(error, OSError | ValueError) or type(error).__module__.startswith(_HTTP_LIBRARIES)
