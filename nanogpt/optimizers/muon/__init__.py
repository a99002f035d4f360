"""Muon (Jordan et al. 2024) for the matrices between hidden states, AdamW for all other parameters."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nanogpt.errors import SettingError
from nanogpt.optimizers.adamw import AdamConfig

if TYPE_CHECKING:
    import torch

    from nanogpt.models.base import LanguageModel
    from nanogpt.models.flat_parameters import FlatParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(AdamConfig):
    """Muon with momentum 0.95; `beta1` and `beta2` are AdamW's."""

    name: ClassVar[str] = "muon"

    def build(
        self, model: "LanguageModel", dtype: "torch.dtype", flat: "FlatParameters | None" = None
    ) -> "torch.optim.Optimizer":
        """Return the optimizer; see `OptimizerConfig.build`. Raise `SettingError` if no matrix is for Muon."""
        import torch

        from nanogpt.optimizers.base import merge_groups
        from nanogpt.optimizers.muon.optimizer import Muon

        groups = merge_groups(
            model,
            lambda group: (group.role == "hidden", group.decay),
            weight_decay=lambda group: self.weight_decay if group.decay else 0.0,
            muon=lambda group: group.role == "hidden",
        )
        groups.sort(key=lambda group: not group["muon"])
        if not groups[0]["muon"]:
            raise SettingError(
                "optimizer",
                f"optimizer=muon: the architecture {model.config.name} has no matrices between hidden states, which "
                "Muon trains; choose adamw",
            )
        precision = torch.float32 if dtype == torch.float32 else torch.bfloat16  # enough for the orthogonalisation
        return Muon(groups, dtype=precision, lr=self.learning_rate, betas=(self.beta1, self.beta2), flat=flat)
