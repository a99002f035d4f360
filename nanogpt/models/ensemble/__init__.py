"""Several modern GPTs whose predictions are averaged. The model is in `model.py`."""

from nanogpt.models.ensemble.config import Config

__all__ = ["Config"]
