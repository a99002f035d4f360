"""From a model and a prompt to text, one typed event a token. Knows nothing of training, runs or files.

Exports lazily (PEP 562), so that naming this package does not cost the second that importing torch takes.
"""

from typing import TYPE_CHECKING

from nanogpt.lazy import exports

if TYPE_CHECKING:
    from nanogpt.sampling.generation import generate as generate
    from nanogpt.sampling.generation import next_logits as next_logits
    from nanogpt.sampling.packed_linear import number_format as number_format
    from nanogpt.sampling.sampler import distribution as distribution

_HOMES = {
    "distribution": "sampler",
    "generate": "generation",
    "next_logits": "generation",
    "number_format": "packed_linear",
}

__all__ = ["distribution", "generate", "next_logits", "number_format"]

__getattr__ = exports(__name__, _HOMES)
