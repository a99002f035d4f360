"""A long short-term memory network. The model is in `model.py`."""

from nanogpt.models.lstm.config import Config

__all__ = ["Config"]
