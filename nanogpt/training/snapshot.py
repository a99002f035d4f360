"""Snapshots: the whole state of a training as tensors and plain values, for an exact resume.

That is: weights, averaged weights, optimizer, gradient scaler, random states, batch position, and progress.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nanogpt.config import ArchitectureConfig
from nanogpt.errors import UserError
from nanogpt.models.base import LanguageModel
from nanogpt.models.lora import adapter_tensors, load_adapters
from nanogpt.training.sharding import gathered, placed_like


@dataclass(slots=True)
class Progress:
    """How far a training is, and the settings that commands changed.

    step: optimizer steps done. tokens: trained on. elapsed_s: over all resumes, without pauses. Losses are in nats per
    token; `evaluated_at` and `best_step` are steps, -1 and None before the first evaluation. `best_val_loss` is that of
    the raw or the averaged weights, whichever is lower. For `improved_val_loss` and the field after it see
    `early_stopping`. The last three are the spike detector's state, with on_spike=skip.
    """

    step: int = 0
    max_iters: int = 0
    eval_interval: int = 1
    learning_rate_scale: float = 1.0
    tokens: int = 0
    elapsed_s: float = 0.0
    evaluated_at: int = -1
    train_loss: float | None = None
    val_loss: float | None = None
    best_val_loss: float | None = None
    best_step: int | None = None
    ema_val_loss: float | None = None  # of the averaged weights, in the last evaluation
    improved_val_loss: float | None = None
    evaluations_without_improvement: int = 0
    usual_losses: tuple[float, ...] = ()
    usual_grad_norms: tuple[float, ...] = ()
    steps_since_spike: int = 0

    def assign(self, other: "Progress") -> None:
        """Take all values of another."""
        for each in dataclasses.fields(other):
            setattr(self, each.name, getattr(other, each.name))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a training. `optimizer` is empty if only the weights are known; `position` is the batch position.

    `average` has the averaged weights by parameter, and is empty without weight averaging. `adapters` has the tensors
    of LoRA adapters, and is empty without any; `model` then has the frozen weights beside them. They never change, so
    `take_snapshot` leaves them out.
    """

    model_config: ArchitectureConfig
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    position: int = 0
    average: dict[str, Tensor] = field(default_factory=dict)
    adapters: dict[str, Tensor] = field(default_factory=dict)

    def release(self) -> None:
        """Drop all tensors, for everyone who has this snapshot: a training that began with it has copied them."""
        for tensors in (self.model, self.optimizer, self.average, self.adapters):
            tensors.clear()


def take_snapshot(
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    scaler: "torch.amp.GradScaler",
    progress: Progress,
    position: int,
    average: Mapping[str, Tensor],
    *,
    only_gather: bool = False,
) -> Snapshot:
    """Return a copy of the current state in main memory.

    If the state is divided among the processes, all of them have to call this at the same time. only_gather: help the
    others to get a divided state, and return none of it.

    The names in `Snapshot.optimizer` are `<parameter>.<state>`, `random.<device>` and `scaler.<value>`.
    """
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    copied = _only_gather if only_gather else _copy_to_cpu
    tensors = {
        f"{names[parameter]}.{key}": copied(torch.as_tensor(value))
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }
    tensors |= {f"scaler.{key}": torch.tensor(float(value)) for key, value in scaler.state_dict().items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if any(parameter.is_cuda for parameter in names):
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    if any(parameter.is_mps for parameter in names):
        tensors["random.mps"] = torch.mps.get_rng_state()
    adapters = {name: copied(tensor) for name, tensor in adapter_tensors(model).items()}
    weights = {} if adapters else {name: copied(tensor) for name, tensor in model.state_dict().items()}
    averaged = {name: _copy_to_cpu(tensor) for name, tensor in average.items()}
    return Snapshot(model.config, weights, tensors, dataclasses.replace(progress), position, averaged, adapters)


def _copy_to_cpu(tensor: Tensor) -> Tensor:
    return gathered(tensor.detach()).to("cpu", copy=True)


def _only_gather(tensor: Tensor) -> Tensor:
    gathered(tensor.detach())
    return torch.empty(0)


def random_states() -> list[Tensor]:
    """Return the state of torch's random generators: the CPU's, then the GPU's if one is in use."""
    on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if on_gpu else [])]


def set_random_states(states: list[Tensor]) -> None:
    """Restore what `random_states` returned."""
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1])


def seed_random_states(seed: int, rank: int, step: int) -> None:
    """Seed torch's random generators for a process whose random states at `step` no checkpoint has.

    A checkpoint has those of the main process; dropout differs in each.
    """
    torch.manual_seed(seed + 1 + rank + step)


def check_weights(model: LanguageModel, tensors: dict[str, Tensor], source: str) -> None:
    """Raise `UserError` that names `source` if names or shapes differ from the model's.

    The model may be on the meta device. A size that is 0 in the model may be any: that of a table of counts.
    """
    expected = model.state_dict()
    for name in sorted(expected.keys() ^ tensors.keys()):
        raise UserError(
            f"{source} is not a checkpoint of this model: it {'lacks' if name in expected else 'has'} {name}"
        )
    for name, tensor in tensors.items():
        shape = expected[name].shape
        if tensor.dim() != len(shape) or any(n not in (0, size) for n, size in zip(shape, tensor.shape, strict=True)):
            raise UserError(f"{source} does not fit this model: {name} is {tuple(tensor.shape)}, not {tuple(shape)}")


def restore_weights(model: LanguageModel, tensors: dict[str, Tensor], source: str) -> None:
    """Copy the weights into the model. Raise `UserError` as `check_weights` does."""
    check_weights(model, tensors, source)
    current = model.state_dict()
    model.load_state_dict({name: placed_like(tensor, current[name]) for name, tensor in tensors.items()})


def restore(
    snapshot: Snapshot,
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    scaler: "torch.amp.GradScaler",
    source: str,
) -> None:
    """Restore weights, optimizer, scaler and random states. Raise `UserError` that names `source` on a mismatch."""
    if model.adapters:
        load_adapters(model, snapshot.adapters, source)
    else:
        restore_weights(model, snapshot.model, source)
    states: dict[str, dict[str, Tensor]] = {}
    for full_name, tensor in snapshot.optimizer.items():
        name, _, key = full_name.rpartition(".")
        states.setdefault(name, {})[key] = tensor
    random, scaling = states.pop("random", {}), states.pop("scaler", {})
    parameters = dict(model.named_parameters())
    names = {parameter: name for name, parameter in parameters.items()}
    ordered = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    if "cpu" not in random or (states and states.keys() != set(ordered)):
        raise UserError(f"{source} cannot be resumed: its optimizer state is of another model; start from its weights")
    described = optimizer.state_dict()
    described["state"] = {
        number: {key: placed_like(value, parameters[name]) for key, value in states[name].items()}
        for number, name in enumerate(ordered)
        if name in states
    }
    optimizer.load_state_dict(described)
    if scaling:
        counts = ("growth_interval", "_growth_tracker")
        scaler.load_state_dict({key: int(value) if key in counts else value.item() for key, value in scaling.items()})
    torch.set_rng_state(random["cpu"])
    if "cuda" in random and torch.cuda.is_available():
        torch.cuda.set_rng_state(random["cuda"])
    if "mps" in random and torch.backends.mps.is_available():
        torch.mps.set_rng_state(random["mps"])
