"""Text generation from a model and a prompt, with one event for each token.

Exports lazily (PEP 562): importing this package does not import torch, which takes a second.
"""

from typing import TYPE_CHECKING

from nanogpt.lazy import exports

if TYPE_CHECKING:
    from nanogpt.sampling.generation import generate as generate
    from nanogpt.sampling.generation import next_logits as next_logits
    from nanogpt.sampling.packed_linear import resolve_sampling_dtype as resolve_sampling_dtype
    from nanogpt.sampling.sampler import distribution as distribution

_HOMES = {
    "distribution": "sampler",
    "generate": "generation",
    "next_logits": "generation",
    "resolve_sampling_dtype": "packed_linear",
}

__all__ = ["distribution", "generate", "next_logits", "resolve_sampling_dtype"]

__getattr__ = exports(__name__, _HOMES)
