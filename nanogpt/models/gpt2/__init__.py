"""GPT-2 as published (Radford et al. 2019). The model is in `model.py`; the other files compute the same on a CPU."""

from nanogpt.models.gpt2.config import Config

__all__ = ["Config"]
