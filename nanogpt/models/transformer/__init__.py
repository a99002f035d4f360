"""The transformer as a language model. The model is in `model.py`."""

from nanogpt.models.transformer.config import Config

__all__ = ["Config"]
