"""Small models for tests, from their settings alone."""

from typing import Any

from nanogpt.config import ARCHITECTURE, ArchitectureConfig, architecture_from, component, names
from nanogpt.models.base import LanguageModel

# The architectures that learn with gradients; the others are counted.
TRAINED = [name for name in names(ARCHITECTURE) if not component(ARCHITECTURE, name).capabilities.counted]


def shape(**settings: Any) -> ArchitectureConfig:
    """Return the configuration of an architecture; settings that only another one has are left out."""
    return architecture_from(settings)


def build(**settings: Any) -> LanguageModel:
    """Return a new model, from torch's global random state."""
    return shape(**settings).build()
