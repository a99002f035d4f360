"""An n-gram model with Kneser-Ney smoothing. The model is in `model.py`, the counting in `counts.py`."""

from nanogpt.models.ngram.config import Config

__all__ = ["Config"]
