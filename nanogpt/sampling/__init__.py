"""From a model and a prompt to text, one typed event a token. Knows nothing of training, runs or files.

Exports lazily (PEP 562), so that naming this package does not cost the second that importing torch takes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanogpt.sampling.generation import generate as generate

_HOMES = {"generate": "nanogpt.sampling.generation"}

__all__ = ["generate"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
