"""From a model and a prompt to text, one typed event a token. Knows nothing of training, runs or files.

Exports lazily (PEP 562), so that naming this package does not cost the second that importing torch takes.
"""

from typing import TYPE_CHECKING

from nanogpt.lazy import exports

if TYPE_CHECKING:
    from nanogpt.sampling.generation import generate as generate

_HOMES = {"generate": "generation"}

__all__ = ["generate"]

__getattr__ = exports(__name__, _HOMES)
