"""How the tensors of Hugging Face's models are named, and how they make up ours. Imports no torch.

Ours are those of the architecture gpt2: a block has `ln_1`, `attn.c_attn` with queries, keys and values one below the
other, `attn.c_proj`, `ln_2`, `mlp.c_fc`, with SwiGLU the gate first, and `mlp.c_proj`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from nanogpt.models.gpt2 import Config

HEAD = "lm_head"
QKV, MLP_IN = "attn.c_attn", "mlp.c_fc"


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of one of our tensors.

    name: of the tensor with these rows there, without the prefix; empty if it has none, and the rows are zeros.
    factor: by which it is multiplied to get ours.
    """

    name: str
    rows: int
    factor: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Naming:
    """The names of one kind of model.

    prefix: of all names but the head's; some files leave it out. layer: the name before a block's number. modules: by
    our name of a module, the names of those that it consists of there. transposed: matrices are (in, out) there, as
    GPT-2's Conv1D has them. unbiased: modules without a bias there. always_biased: a bias is there also where ours has
    none. unscaled: attention scores are not divided by √hs.
    """

    prefix: str
    layer: str
    modules: Mapping[str, tuple[str, ...]]
    transposed: bool = False
    unbiased: frozenset[str] = frozenset()
    always_biased: bool = False
    unscaled: bool = False

    def parts(self, name: str, rows: int, config: Config) -> list[Part]:
        """Return what our tensor `name` with `rows` rows consists of, in the order of its rows."""
        *path, kind = name.split(".")  # h.3.attn.c_attn.weight, or wte.weight
        is_in_block = path[0] == "h"
        module = ".".join(path[2:] if is_in_block else path)
        before = f"{self.layer}.{path[1]}." if is_in_block else ""
        theirs = self.modules[module]
        shares = [rows // len(theirs)] * len(theirs)
        if module == QKV and len(theirs) == 3:
            shared = config.n_embd * config.kv_heads // config.n_head
            shares = [config.n_embd, shared, shared]
        parts: list[Part] = []
        for each, share in zip(theirs, shares, strict=True):
            is_absent = kind == "bias" and each in self.unbiased
            is_query = self.unscaled and module == QKV and not parts
            factor = math.sqrt(config.n_embd // config.n_head) if is_query else 1.0
            parts.append(Part("" if is_absent else f"{before}{each}.{kind}", share, factor))
        return parts

    def is_transposed(self, name: str) -> bool:
        """Return whether our tensor `name` has its rows as columns there."""
        matrices = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
        return self.transposed and name.endswith(matrices)

    def full(self, part: str) -> str:
        """Return the name of a part with the prefix."""
        return part if part.startswith(HEAD) else self.prefix + part


_NAMES = ("wte", "wpe", "ln_1", QKV, "attn.c_proj", "ln_2", MLP_IN, "mlp.c_proj", "ln_f")
GPT2 = Naming(
    prefix="transformer.",
    layer="h",
    modules={name: (name,) for name in _NAMES} | {"head": (HEAD,)},
    transposed=True,
    always_biased=True,
)
_NEO_QKV = ("attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj")
GPT_NEO = replace(
    GPT2,
    modules={**GPT2.modules, QKV: _NEO_QKV, "attn.c_proj": ("attn.attention.out_proj",)},
    transposed=False,
    unbiased=frozenset(_NEO_QKV),
    unscaled=True,
)
LLAMA = Naming(
    prefix="model.",
    layer="layers",
    modules={
        "wte": ("embed_tokens",),
        "ln_1": ("input_layernorm",),
        QKV: ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "attn.c_proj": ("self_attn.o_proj",),
        "ln_2": ("post_attention_layernorm",),
        MLP_IN: ("mlp.gate_proj", "mlp.up_proj"),
        "mlp.c_proj": ("mlp.down_proj",),
        "ln_f": ("norm",),
        "head": (HEAD,),
    },
)
