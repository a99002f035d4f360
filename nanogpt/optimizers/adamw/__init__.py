"""AdamW (Loshchilov & Hutter 2019)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config.components import OptimizerConfig
from nanogpt.config.setting import setting

if TYPE_CHECKING:
    import torch

    from nanogpt.models.base import LanguageModel
    from nanogpt.models.flat_parameters import FlatParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamConfig(OptimizerConfig):
    """The settings of AdamW, and of optimizers that use it for some parameters."""

    beta1: float = setting(0.9, "decay of Adam's first moment", low=0, below=1)
    beta2: float = setting(0.99, "decay of Adam's second moment", low=0, below=1)

    def state_bytes(self, n_parameters: int) -> int:
        """Return the bytes of two float32 moments."""
        return 8 * n_parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(AdamConfig):
    """AdamW for all parameters; matrices decay, vectors do not."""

    name: ClassVar[str] = "adamw"

    def build(
        self, model: "LanguageModel", dtype: "torch.dtype", flat: "FlatParameters | None" = None
    ) -> "torch.optim.Optimizer":
        """Return the optimizer; see `OptimizerConfig.build`."""
        from nanogpt.optimizers.adamw.optimizer import AdamW
        from nanogpt.optimizers.base import merge_groups

        groups = merge_groups(
            model, lambda group: group.decay, weight_decay=lambda group: self.weight_decay if group.decay else 0.0
        )
        return AdamW(groups, lr=self.learning_rate, betas=(self.beta1, self.beta2), flat=flat)
