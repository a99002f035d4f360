"""A multilayer perceptron over a window of tokens. The model is in `model.py`."""

from nanogpt.models.mlp.config import Config

__all__ = ["Config"]
