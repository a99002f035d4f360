"""The layers of a model by name, and figures of what they hold and compute. For any architecture.

A layer is a module with matrices, such as `h.2.attn`: a module's parameters count for the module around it, unless that
is the model itself, a model within it or a list of modules.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nanogpt.errors import UserError
from nanogpt.models.attention_recorder import recorded_attention
from nanogpt.models.base import LanguageModel, evaluation_mode

HISTOGRAM_BINS, HISTOGRAM_RANGE = 24, 4.0  # the range in standard deviations on each side of the mean
DEAD = 0.01  # a unit that deviates by less than this share of its layer's root mean square is dead
FEWEST_TOKENS = 4  # by which a unit is judged: an untied head reads the last token of each sequence alone
CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential, LanguageModel)  # their parts are layers of their own


def parameter_layers(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Return the parameters of each layer by its name, in the order of the model. Shared ones are in the first.

    Layers of which all parameters are frozen are left out.
    """
    layers: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        layers.setdefault(layer_name(model, name.rpartition(".")[0]), []).append(parameter)
    return {name: those for name, those in layers.items() if any(p.dim() > 1 and p.requires_grad for p in those)}


def layer_name(model: nn.Module, module: str) -> str:
    """Return the name of the layer that a module belongs to; both are qualified names."""
    around = module.rpartition(".")[0]
    return around if around and not isinstance(model.get_submodule(around), CONTAINERS) else module


def norm(tensors: Iterable[Tensor]) -> float:
    """Return the Euclidean norm of all numbers."""
    squares = [torch.linalg.vector_norm(each, dtype=torch.float32) for each in tensors]
    return float(torch.linalg.vector_norm(torch.stack(squares))) if squares else 0.0


@dataclass(slots=True)
class Activations:
    """What a layer computed for some tokens.

    `dead_units`: the largest share of dead units that one of its matrices reads; None if it has no linear layer, or if
    that read too few tokens. The others describe its output and are None if it was not called as a module. `kurtosis`
    is 3 for a normal distribution.
    """

    dead_units: float | None = None
    mean: float | None = None
    std: float | None = None
    kurtosis: float | None = None
    histogram: tuple[int, ...] = ()
    attention_entropy: tuple[float, ...] = ()


@torch.no_grad()
def probe(model: LanguageModel, ids: Tensor) -> dict[str, Activations]:
    """Run a model forward over ids (B, T) without dropout; return what each of its layers computed.

    The model's mode and torch's random state stay as they are.
    """
    found = {name: Activations() for name in parameter_layers(model)}
    inputs: dict[str, list[Tensor]] = {}  # (tokens, units) of each linear layer, by call
    outputs: dict[str, list[Tensor]] = {}  # of each layer, by call

    def read(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _module, given: inputs.setdefault(name, []).append(given[0].flatten(0, -2))

    def write(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_module: nn.Module, _given: object, result: object) -> None:
            output = result[0] if isinstance(result, tuple) else result
            if isinstance(output, Tensor):
                outputs.setdefault(name, []).append(output.flatten())

        return hook

    def attended(weights: Tensor) -> None:
        if calling and calling[-1] in found:
            found[calling[-1]].attention_entropy += tuple(relative_entropy(weights).tolist())

    with calling_layers(model) as calling, temporary_hooks() as hooks:
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                hooks.append(module.register_forward_pre_hook(read(name)))
            if name in found:
                hooks.append(module.register_forward_hook(write(name)))
        with evaluation_mode(model), recorded_attention(attended):
            model(ids)
    for name, calls in inputs.items():
        layer = layer_name(model, name)
        if layer in found and sum(map(len, calls)) >= FEWEST_TOKENS:
            share = dead_share(torch.cat(calls))
            found[layer].dead_units = max(share, found[layer].dead_units or 0.0)
    for name, calls in outputs.items():
        about = found[name]
        about.mean, about.std, about.kurtosis, about.histogram = moments(torch.cat(calls))
    return found


@contextmanager
def calling_layers(model: nn.Module) -> Iterator[list[str]]:
    """Yield a list that has, while the model runs, the names of the modules being called, the innermost last."""
    calling: list[str] = []

    def before(name: str) -> Callable[[nn.Module, object], None]:
        return lambda _module, _given: calling.append(name)

    def after(_module: nn.Module, _given: object, _output: object) -> None:
        calling.pop()

    with temporary_hooks() as hooks:
        for name, module in model.named_modules():
            if name and not isinstance(module, CONTAINERS):
                hooks.append(module.register_forward_pre_hook(before(name)))
                hooks.append(module.register_forward_hook(after))
        yield calling


@contextmanager
def temporary_hooks() -> Iterator["list[torch.utils.hooks.RemovableHandle]"]:
    """Yield a list of hooks, which are removed at the end."""
    hooks: list[torch.utils.hooks.RemovableHandle] = []
    try:
        yield hooks
    finally:
        for hook in hooks:
            hook.remove()


def dead_share(x: Tensor) -> float:
    """Return the share of units of x (tokens, units) that are nearly constant over all tokens."""
    values = x.float()
    scale = float(values.square().mean().sqrt())
    return float((values.std(0, correction=0) <= DEAD * scale).float().mean())


def moments(x: Tensor) -> tuple[float, float, float | None, tuple[int, ...]]:
    """Return mean, standard deviation, kurtosis (None if all numbers are equal) and the histogram of a tensor."""
    values = x.float().flatten()
    mean = float(values.mean())
    centred = values - mean
    std = float(centred.square().mean().sqrt())
    if not 0 < std < math.inf:
        return mean, std, None, ()
    standard = centred / std
    bins = ((standard / HISTOGRAM_RANGE + 1) * (HISTOGRAM_BINS / 2)).long().clamp_(0, HISTOGRAM_BINS - 1)
    histogram = torch.bincount(bins, minlength=HISTOGRAM_BINS).tolist()
    return mean, std, float((standard.square().square()).mean()), tuple(histogram)


def relative_entropy(weights: Tensor) -> Tensor:
    """Return for each head (nh,) how evenly it attends, from attention weights (B, nh, T, S).

    It is the mean entropy as a share of the largest possible, that of equal weights: 0 for one token alone, 1 for all
    tokens alike. Positions that can see a single token do not count.
    """
    weights = weights.float()
    entropy = torch.special.entr(weights).sum(-1)  # (B, nh, T)
    visible = (weights > 0).sum(-1)
    several = visible > 1
    share = torch.where(several, entropy / visible.clamp(min=2).float().log(), 0.0)
    return share.sum((0, 2)) / several.sum((0, 2)).clamp(min=1)


def check_finite(tensors: Iterable[Tensor]) -> None:
    """Raise `UserError` if a number that a model has or computes is not finite, so that there is nothing to show."""
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise UserError(
            "the weights of the model are no longer finite numbers, because its training diverged: choose an earlier "
            "checkpoint, or train with a lower learning rate"
        )
