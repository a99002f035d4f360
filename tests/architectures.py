"""Small models for tests, from their settings alone."""

from typing import Any

from nanogpt.config import ArchitectureConfig, architecture_from
from nanogpt.models.base import LanguageModel


def shape(**settings: Any) -> ArchitectureConfig:
    """Return the configuration of an architecture; settings that only another one has are left out."""
    return architecture_from(settings)


def build(**settings: Any) -> LanguageModel:
    """Return a new model, from torch's global random state."""
    return shape(**settings).build()
