"""The settings of the n-gram model, and what follows from them. Imports no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config.components import ArchitectureConfig, Capabilities
from nanogpt.config.setting import setting
from nanogpt.errors import SettingError

if TYPE_CHECKING:
    from nanogpt.models.ngram.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ArchitectureConfig):
    """Interpolated modified Kneser-Ney n-grams (Chen & Goodman 1998): counted in one pass over the text."""

    name: ClassVar[str] = "ngram"
    capabilities: ClassVar[Capabilities] = Capabilities(cache=False, counted=True)

    block_size: int = setting(1024, "tokens of one window in evaluation", low=1, high=10_000_000, common=True)
    order: int = setting(
        5, "length of the n-grams: a token is predicted from order - 1 tokens before it", low=1, high=10, common=True
    )

    def validate(self) -> None:
        """Raise `SettingError` if no window holds the longest context."""
        if self.order - 1 > self.block_size:
            raise SettingError(
                "order", f"order={self.order}: block_size={self.block_size} has to be at least {self.order - 1}"
            )

    def build(self) -> "Model":
        """Return a model that has counted nothing; see `ArchitectureConfig.build`."""
        from nanogpt.models.ngram.model import Model

        return Model(self)

    @property
    def width(self) -> int:
        """0: it has no hidden state."""
        return 0

    def n_parameters(self) -> int:
        """Return 0, the size of a new model. After counting it is the number of distinct n-grams of the longest order.

        That is at most V^order, and at most one for each token of the text.
        """
        return 0

    def flops_per_token(self) -> int:
        """Return 0: it counts and looks up, and multiplies no matrices."""
        return 0

    def activation_bytes(self, batch_size: int, dtype: str, device: str) -> int:
        """Return the bytes of the packed n-grams of one step, and of the sort that counts them."""
        return 8 * batch_size * self.block_size * (self.order + 4)
