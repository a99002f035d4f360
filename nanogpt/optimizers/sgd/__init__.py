"""Stochastic gradient descent with momentum (Polyak 1964; Nesterov 1983; Sutskever et al. 2013)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config.components import OptimizerConfig
from nanogpt.config.setting import setting
from nanogpt.errors import SettingError

if TYPE_CHECKING:
    import torch

    from nanogpt.models.base import LanguageModel
    from nanogpt.models.flat_parameters import FlatParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(OptimizerConfig):
    """SGD with momentum; matrices decay, vectors do not. It wants a far higher learning rate than AdamW, some 0.1."""

    name: ClassVar[str] = "sgd"

    momentum: float = setting(0.9, "decay of the averaged gradient; 0: none", low=0, below=1, common=True)
    nesterov: bool = setting(False, "Nesterov's momentum: the gradient a step ahead")

    def validate(self) -> None:
        """Raise `SettingError` for Nesterov's momentum without momentum."""
        if self.nesterov and not self.momentum:
            raise SettingError("nesterov", "nesterov=true: needs a momentum above 0; try momentum=0.9")

    def build(
        self, model: "LanguageModel", dtype: "torch.dtype", flat: "FlatParameters | None" = None
    ) -> "torch.optim.Optimizer":
        """Return the optimizer; see `OptimizerConfig.build`."""
        from nanogpt.optimizers.base import merge_groups
        from nanogpt.optimizers.sgd.optimizer import Sgd

        groups = merge_groups(
            model, lambda group: group.decay, weight_decay=lambda group: self.weight_decay if group.decay else 0.0
        )
        return Sgd(groups, lr=self.learning_rate, momentum=self.momentum, nesterov=self.nesterov)

    def state_bytes(self, n_parameters: int) -> int:
        """Return the bytes of the momentum in float32."""
        return 4 * n_parameters if self.momentum else 0
