"""A small GPT with what later work found to learn from fewer tokens. The model is in `model.py`."""

from nanogpt.models.modern.config import Config

__all__ = ["Config"]
