"""GPT-2 (Radford et al. 2019) and variants of it.

The model is in `model.py`, its training backend for a CPU in `cpu_training.py`.
"""

from nanogpt.models.gpt2.config import Config

__all__ = ["Config"]
