"""A small GPT with sinusoidal positions. The model is in `model.py`."""

from nanogpt.models.gpt2_nano.config import Config

__all__ = ["Config"]
