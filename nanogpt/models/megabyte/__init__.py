"""MEGABYTE, a transformer over patches and one within each patch. The model is in `model.py`."""

from nanogpt.models.megabyte.config import Config

__all__ = ["Config"]
