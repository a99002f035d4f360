"""GPT-2 as published (Radford et al. 2019).

The model is in `model.py`, its faster backends for a CPU in `cpu_training.py` and `cpu_decoding.py`.
"""

from nanogpt.models.gpt2.config import Config

__all__ = ["Config"]
