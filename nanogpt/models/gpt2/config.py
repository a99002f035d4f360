"""The settings of GPT-2, and what follows from them. Imports no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config.components import Capabilities
from nanogpt.config.setting import setting
from nanogpt.errors import SettingError
from nanogpt.models.layers.transformer_config import TransformerConfig, default_mlp_width

if TYPE_CHECKING:
    from nanogpt.models.gpt2.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(TransformerConfig):
    """GPT-2 (Radford et al. 2019), and what people compare with it: positions, norms, activations, kinds of heads."""

    name: ClassVar[str] = "gpt2"
    capabilities: ClassVar[Capabilities] = Capabilities(
        decoding_backend=True,
        label_smoothing=True,
        document_mask=True,
        attention=True,
        logit_lens=True,
        embeddings=True,
    )

    bias: bool = setting(False, "biases in Linear and LayerNorm, as GPT-2 has them")
    positions: str = setting(
        "learned",
        "how the model knows the order of tokens",
        choices=("learned", "sinusoidal", "rotary", "alibi", "none"),
    )
    norm: str = setting("layer", "normalisation of hidden states", choices=("layer", "rms", "none"))
    norm_position: str = setting(
        "before", "norms before attention and MLP, or after the residual sum", choices=("before", "after")
    )
    activation: str = setting("gelu", "activation of the MLP", choices=("gelu", "relu", "relu2", "swiglu"))
    feed_forward: bool = setting(True, "an MLP after attention in each block")
    residual: bool = setting(True, "attention and MLP add to the residual stream; false: they replace what they read")
    qk_norm: bool = setting(False, "RMS norm of queries and keys in each head")
    logit_cap: float = setting(
        0.0, "bound of the logits, approached smoothly (cap · tanh(logits / cap)); 0: none", low=0, high=1e6
    )
    tied_head: bool = setting(True, "the head shares the weights of the embedding")
    n_kv_head: int = setting(0, "heads of keys and values, shared by groups of heads; 0: n_head", low=0, high=1000)
    local_window: int = setting(
        0, "positions that every second block attends to; 0: the whole window", low=0, high=10_000_000
    )
    mlp_width: int = setting(
        0, "width of the MLP's hidden state; 0: 4·n_embd, with swiglu 8/3·n_embd", low=0, high=10_000_000
    )
    rotary_base: float = setting(
        10_000.0, "base of the wavelengths of rotary positions; larger for longer contexts", low=1, high=1e12
    )
    norm_eps: float = setting(1e-5, "added to the variance in norms, so that it is never 0", low=0, high=1)

    def validate(self) -> None:
        """Raise `SettingError` for numbers of heads and head sizes that do not fit each other."""
        TransformerConfig.validate(self)
        if self.n_head % self.kv_heads:
            possible = [str(n) for n in range(1, self.n_head + 1) if self.n_head % n == 0]
            raise SettingError(
                "n_kv_head",
                f"n_kv_head={self.n_kv_head} does not divide n_head={self.n_head}: each head of keys and values serves "
                f"as many heads of queries; possible: {', '.join(possible)}",
            )
        if self.positions == "rotary":
            self.validate_rotary()

    def build(self) -> "Model":
        """Return a new model; see `ArchitectureConfig.build`."""
        from nanogpt.models.gpt2.model import Model

        return Model(self)

    @property
    def kv_heads(self) -> int:
        """The number of heads of keys and values."""
        return self.n_kv_head or self.n_head

    @property
    def hidden_width(self) -> int:
        """The width of the MLP's hidden state."""
        return self.mlp_width or default_mlp_width(self.n_embd, self.activation)

    @property
    def mlp_numbers(self) -> int:
        """See `TransformerConfig.mlp_numbers`; SwiGLU keeps both halves of its input, the gate and the product."""
        return (4 if self.activation == "swiglu" else 2) * self.hidden_width * self.feed_forward

    def window(self, layer: int) -> int:
        """Return the number of positions that a block attends to; blocks 1, 3, … are local (as GPT-Neo has them)."""
        return min(self.local_window or self.block_size, self.block_size) if layer % 2 else self.block_size

    def first_difference(self) -> tuple[str, object, object] | None:
        """Return (setting, its value, GPT-2's value) of the first setting that makes this another model than GPT-2.

        None for GPT-2 as published, with or without biases.
        """
        published = {
            "positions": "learned",
            "norm": "layer",
            "norm_position": "before",
            "activation": "gelu",
            "feed_forward": True,
            "residual": True,
            "qk_norm": False,
            "logit_cap": 0.0,
            "tied_head": True,
            "norm_eps": 1e-5,
        }
        for name, value in published.items():
            if getattr(self, name) != value:
                return name, getattr(self, name), value
        if self.kv_heads != self.n_head:
            return "n_kv_head", self.n_kv_head, self.n_head
        if self.hidden_width != 4 * self.n_embd:
            return "mlp_width", self.mlp_width, 4 * self.n_embd
        if self.window(1) < self.block_size and self.n_layer > 1:
            return "local_window", self.local_window, 0
        return None

    def n_parameters(self) -> int:
        """Return V·C + T·C + L·(12·C² + 2·C) + C for the default settings, and with biases L·11·C + C more.

        Attention has 2·C² + 2·C²·n_kv_head / n_head weights, the MLP 2·C·`hidden_width`, or 3·C·`hidden_width` with
        SwiGLU. T·C is for learned positions, a head that is not tied adds V·C, and a last norm exists if norms come
        before. Without `feed_forward` a block has no MLP and one norm.
        """
        C, biases = self.n_embd, int(self.bias)
        norm = {"layer": C + C * biases, "rms": C, "none": 0}[self.norm]
        qkv = C + 2 * C * self.kv_heads // self.n_head
        attention = (C + biases) * qkv + (C + biases) * C  # q, k, v and the projection
        hidden = self.hidden_width
        mlp = (C + biases) * hidden * (2 if self.activation == "swiglu" else 1) + (hidden + biases) * C
        block = attention + norm + (mlp + norm) * self.feed_forward
        last_norm = norm * (self.norm_position == "before")
        return self._looked_up() + self.vocab_size * C + self.n_layer * block + last_norm

    def flops_per_token(self) -> int:
        """Return 6 for each weight that is multiplied, and 12·C·(positions attended to) in each block.

        A multiplication takes 2 forward and 4 backward (Kaplan et al. 2020), a tied embedding counting as the head; for
        attention scores and their use see Chowdhery et al. 2022, appendix B.
        """
        attended = sum(self.window(layer) for layer in range(self.n_layer))
        return 6 * (self.n_parameters() - self._looked_up()) + 12 * self.n_embd * attended

    def _looked_up(self) -> int:
        """Return the number of weights that only serve as rows: learned positions, and an embedding without head."""
        rows = self.block_size * (self.positions == "learned") + self.vocab_size * (not self.tied_head)
        return rows * self.n_embd
