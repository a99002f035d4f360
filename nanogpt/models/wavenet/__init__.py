"""A WaveNet over tokens. The model is in `model.py`."""

from nanogpt.models.wavenet.config import Config

__all__ = ["Config"]
