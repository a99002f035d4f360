"""Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms")."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config.components import OptimizerConfig
from nanogpt.config.setting import setting

if TYPE_CHECKING:
    import torch

    from nanogpt.models.base import LanguageModel
    from nanogpt.models.flat_parameters import FlatParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(OptimizerConfig):
    """Moves by the sign of a momentum. It wants a third to a tenth of AdamW's learning rate."""

    name: ClassVar[str] = "lion"

    beta1: float = setting(0.9, "share of the momentum in an update", low=0, below=1)
    beta2: float = setting(0.99, "decay of the momentum", low=0, below=1)

    def build(
        self, model: "LanguageModel", dtype: "torch.dtype", flat: "FlatParameters | None" = None
    ) -> "torch.optim.Optimizer":
        """Return the optimizer; see `OptimizerConfig.build`."""
        from nanogpt.optimizers.base import merge_groups
        from nanogpt.optimizers.lion.optimizer import Lion

        groups = merge_groups(
            model, lambda group: group.decay, weight_decay=lambda group: self.weight_decay if group.decay else 0.0
        )
        return Lion(groups, lr=self.learning_rate, betas=(self.beta1, self.beta2))

    def state_bytes(self, n_parameters: int) -> int:
        """Return the bytes of the momentum in float32."""
        return 4 * n_parameters
