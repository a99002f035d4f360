"""An exponential moving average (EMA) of a model's weights, which evaluates better than the weights of any one step.

After step n the average moves towards the weights w: average ← average + (1 - d)·(w - average), with
d = min(decay, (1 + n) / (10 + n)). So early in a run it averages over about the last ninth of the steps, and the random
initial weights do not linger (the warm-up of TensorFlow's `ExponentialMovingAverage` with `num_updates`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from nanogpt.errors import UserError
from nanogpt.models.base import Forward, Output
from nanogpt.models.flat_parameters import FlatParameters


class WeightAverage:
    """The average of all parameters of `model`, in their dtype (float32). Buffers are not averaged.

    flat: the memory that the parameters share, if any; then a step costs one operation.
    """

    def __init__(self, model: nn.Module, decay: float, flat: FlatParameters | None = None) -> None:
        self.decay = decay
        self._flat = flat
        self._parameters = list(model.parameters()) if flat is None else flat.parameters
        self._average = [weights.clone() for weights in self._weights()]
        separate = self._average if flat is None else flat.views_of(self._average[0], self._parameters)
        views = dict(zip(self._parameters, separate, strict=True))
        self._by_name = {name: views[p] for name, p in model.named_parameters(remove_duplicate=False)}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Average in the weights after `step` optimizer steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._average, self._weights(), 1 - decay)

    def forward(self, forward: Forward) -> Forward:
        """Return `forward` as the model with the averaged weights computes it.

        The model has these only during a call, because a command may save or sample the weights between two calls.
        """

        def averaged(ids: Tensor, targets: Tensor) -> Output:
            with self._in_model():
                return forward(ids, targets)

        return averaged

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average by the names of the parameters; the tensors are not copies."""
        return self._by_name

    @torch.no_grad()
    def restart(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Continue with the average that `state_dict` returned; if it is empty, start from the model's weights.

        Raise `UserError` that names `source` if names or shapes differ.
        """
        if not tensors:
            torch._foreach_copy_(self._average, self._weights())
            return
        shapes = ({name: tensor.shape for name, tensor in each.items()} for each in (tensors, self._by_name))
        if next(shapes) != next(shapes):
            raise UserError(f"{source} cannot be resumed: its averaged weights are of another model")
        for name, tensor in tensors.items():
            self._by_name[name].copy_(tensor)

    def _weights(self) -> list[Tensor]:
        flat = self._flat.weights_of(self._parameters) if self._flat else None
        return [parameter.detach() for parameter in self._parameters] if flat is None else [flat]

    @contextmanager
    def _in_model(self) -> Iterator[None]:
        weights = self._weights()
        raw = [each.clone() for each in weights]
        torch._foreach_copy_(weights, self._average)
        try:
            yield
        finally:
            torch._foreach_copy_(weights, raw)
