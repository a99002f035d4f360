"""From a model and a prompt to text, one typed event a token. Knows nothing of training, runs or files.

Exports lazily (PEP 562), so that naming this package does not cost the second that importing torch takes.
"""

from typing import TYPE_CHECKING

from nanogpt.lazy import exports

if TYPE_CHECKING:
    from nanogpt.sampling.choice import distribution as distribution
    from nanogpt.sampling.generation import generate as generate
    from nanogpt.sampling.generation import next_logits as next_logits
    from nanogpt.sampling.packing import number_format as number_format

_HOMES = {
    "distribution": "choice",
    "generate": "generation",
    "next_logits": "generation",
    "number_format": "packing",
}

__all__ = ["distribution", "generate", "next_logits", "number_format"]

__getattr__ = exports(__name__, _HOMES)
