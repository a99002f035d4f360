"""LoRA (Hu et al. 2021): train a product of two small matrices beside each frozen matrix.

    y = x·Wᵀ + b + s·(x·Aᵀ)·Bᵀ      A (r, in), B (out, r), s = alpha / r

B starts at zero, so that training begins with the given weights. `merged_weights` returns W + s·B·A, after which the
model is as fast as before and of its own architecture again.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nanogpt.errors import SettingError, UserError
from nanogpt.models.base import LanguageModel

NAMES = ("lora_A", "lora_B", "lora_scale")  # of an adapter's tensors


class LowRankLinear(nn.Linear):
    """A linear layer with the frozen parameters of another one, and an adapter of some rank beside them."""

    lora_scale: Tensor

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        like = linear.weight
        bound = linear.in_features**-0.5  # Kaiming's uniform initialisation with a = √5, as for a new linear layer
        self.lora_A = nn.Parameter(torch.empty(rank, linear.in_features, device=like.device).uniform_(-bound, bound))
        self.lora_B = nn.Parameter(torch.zeros(linear.out_features, rank, device=like.device))
        self.register_buffer("lora_scale", torch.tensor(alpha / rank, device=like.device))
        self.scale = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        """Return (…, out) for x (…, in)."""
        return super().forward(x) + self.scale * F.linear(F.linear(x, self.lora_A), self.lora_B)


def add_adapters(model: LanguageModel, rank: int, alpha: float) -> None:
    """Freeze all parameters of a model, and put an adapter beside each matrix between its hidden states, in place.

    rank: r, above 0. alpha: the product of an adapter counts alpha / r. The model computes the same as before. Raise
    `SettingError` if the architecture has no such matrix in a linear layer.
    """
    layers = _adaptable_layers(model, rank)
    model.requires_grad_(False)
    for parent, name, child in layers:
        setattr(parent, name, LowRankLinear(child, rank, alpha))
    model.adapters = [module for module in model.modules() if isinstance(module, LowRankLinear)]


def check_rank(model: LanguageModel, rank: int) -> None:
    """Raise `SettingError` if no matrix of the model has such a rank, or as `add_adapters` does."""
    largest = max(min(child.weight.shape) for _, _, child in _adaptable_layers(model, rank))
    if rank > largest:
        raise SettingError(
            "lora_rank",
            f"lora_rank={rank}: the matrices of this model have a rank of at most {largest:,}; use a lower one, such "
            f"as {min(8, largest)}",
        )


def _adaptable_layers(model: LanguageModel, rank: int) -> list[tuple[nn.Module, str, nn.Linear]]:
    """Return the linear layers between hidden states, each with the module that has it and its name there."""
    groups = [] if model.config.capabilities.counted else model.parameter_groups()
    hidden = {id(p) for group in groups if group.role == "hidden" for p in group.parameters}
    layers = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear) and id(child.weight) in hidden
    ]
    if not layers:
        raise SettingError(
            "lora_rank",
            f"lora_rank={rank}: the architecture {model.config.name} has no linear layers between hidden states; train "
            "all its weights with lora_rank=0",
        )
    return layers


def adapter_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of all adapters by name, not copied; empty for a model without."""
    return {name: tensor for name, tensor in model.state_dict().items() if name.endswith(NAMES)}


def load_adapters(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy the tensors that `adapter_tensors` returned into a model. Raise `UserError` that names `source`."""
    own = adapter_tensors(model)
    if {name: each.shape for name, each in own.items()} != {name: each.shape for name, each in tensors.items()}:
        raise UserError(f"{source} cannot be resumed: its LoRA adapters are of another model or rank")
    model.load_state_dict(tensors, strict=False)


def merged_weights(weights: Mapping[str, Tensor], adapters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a model, by name, with the product of each adapter added to its matrix.

    Raise KeyError or RuntimeError if the two are not of one model.
    """
    merged = dict(weights)
    for name in adapters:
        layer, _, kind = name.rpartition(".")
        if kind == "lora_A":
            a, b, scale = adapters[name], adapters[f"{layer}.lora_B"], adapters[f"{layer}.lora_scale"]
            weight = weights[f"{layer}.weight"]
            # before the product, which can be much larger than its factors
            if a.dim() != 2 or b.dim() != 2 or (b.size(0), a.size(1)) != weight.shape or scale.numel() != 1:
                raise RuntimeError(f"the adapter of {layer} does not have the shape of its matrix")
            merged[f"{layer}.weight"] = weight + scale * (b @ a)
    return merged


def merged_copy(model: LanguageModel) -> LanguageModel:
    """Return a copy of the model without adapters, in evaluation mode, on the same device."""
    if not model.adapters:
        return copy.deepcopy(model).eval()
    adapters = adapter_tensors(model)
    weights = {name: tensor for name, tensor in model.state_dict().items() if name not in adapters}
    return model.copy_with(merged_weights(weights, adapters))
