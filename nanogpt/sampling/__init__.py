"""From a model and a prompt to text, one typed event a token. Knows nothing of training, runs or files.

Exports lazily (PEP 562), so that naming this package does not cost the second that importing torch takes.
"""

from typing import TYPE_CHECKING

from nanogpt.lazy import exports

if TYPE_CHECKING:
    from nanogpt.sampling.generation import generate as generate
    from nanogpt.sampling.packing import number_format as number_format

_HOMES = {"generate": "generation", "number_format": "packing"}

__all__ = ["generate", "number_format"]

__getattr__ = exports(__name__, _HOMES)
