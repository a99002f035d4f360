"""The settings of an ensemble, and what follows from them. Imports no torch."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config.components import Capabilities
from nanogpt.config.setting import setting
from nanogpt.models.modern.config import Config as MemberConfig

if TYPE_CHECKING:
    from nanogpt.models.ensemble.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(MemberConfig):
    """Modern GPTs side by side, each with weights of its own, whose predictions are averaged."""

    name: ClassVar[str] = "ensemble"
    capabilities: ClassVar[Capabilities] = Capabilities(decoding_backend=True, document_mask=True)

    members: int = setting(2, "networks whose predictions are averaged", low=1, high=16, common=True)

    def build(self) -> "Model":  # type: ignore[override]
        """Return a new model; see `ArchitectureConfig.build`."""
        from nanogpt.models.ensemble.model import Model

        return Model(self)

    def member(self) -> MemberConfig:
        """Return the configuration of each member."""
        return MemberConfig(**{item.name: getattr(self, item.name) for item in fields(MemberConfig)})

    def n_parameters(self) -> int:
        """Return those of all members."""
        return self.members * self.member().n_parameters()

    def flops_per_token(self) -> int:
        """Return those of all members."""
        return self.members * self.member().flops_per_token()

    def activation_bytes(self, batch_size: int, dtype: str, device: str) -> int:
        """Return those of all members, whose losses have one backward pass."""
        return self.members * self.member().activation_bytes(batch_size, dtype, device)

    def compile_estimate(self, dtype: str) -> tuple[float, float]:
        """Return the times of all members."""
        saved_ns, own_s = self.member().compile_estimate(dtype)
        return self.members * saved_ns, self.members * own_s
