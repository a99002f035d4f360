"""The loss over a whole split: against one window after another, and for models of the last position alone."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nanogpt.config import ARCHITECTURE, ArchitectureConfig, names
from nanogpt.config.components import Capabilities
from nanogpt.models.base import LanguageModel, Output
from nanogpt.training.distributed import World
from nanogpt.training.evaluation import evaluate_split, mean_loss
from tests.architectures import build
from tests.generators import outcome

BLOCK, N = 8, 45
IDS = np.random.default_rng(3).integers(0, 11, N).astype(np.uint16)


def expected_loss(model: LanguageModel, stride: int) -> float:
    """The mean over all tokens, each predicted alone: from the window that is the first to reach it."""
    total = 0.0
    for target in range(1, N):
        window = max(0, -(-(target - BLOCK) // stride)) * stride  # the first begin with target <= begin + BLOCK
        ids = torch.from_numpy(IDS[window:target].astype(np.int64))[None]
        logits, _ = model(ids)
        assert logits is not None
        total += float(F.cross_entropy(logits[0], torch.tensor([int(IDS[target])])))
    return total / (N - 1)


@pytest.mark.parametrize("stride", [1, 3, 8])
@pytest.mark.parametrize("architecture", names(ARCHITECTURE))
@torch.no_grad()
def test_the_loss_of_a_split_is_that_of_its_tokens_one_by_one(architecture, stride):
    torch.manual_seed(1)
    model = build(architecture=architecture, vocab_size=11, block_size=BLOCK, n_embd=8, n_layer=1, n_head=1).eval()
    for weights in model.parameters():
        nn.init.normal_(weights, std=0.5)  # so that predictions depend on their context
    work = evaluate_split(model, IDS, stride=stride, batch_size=3, device="cpu", dtype="float32")
    loss, predicted = outcome(work)[-1]
    assert predicted == N - 1
    assert loss == pytest.approx(expected_loss(model, stride), rel=1e-5)


class OnMps(torch.Tensor):
    """A tensor as on an Apple GPU, which has no float64."""

    def to(self, device):  # type: ignore[override]
        return self.as_subclass(torch.Tensor) if str(device) == "cpu" else self

    def double(self):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")


def test_a_device_without_float64_measures_the_same(monkeypatch):
    from_numpy = torch.from_numpy
    monkeypatch.setattr(torch, "from_numpy", lambda ids: from_numpy(ids).as_subclass(OnMps))
    batches = [(np.array([[1, 2]]), np.array([[3, 5]])), (np.array([[1, 2]]), np.array([[7, -1]]))]

    def forward(ids, targets):
        counted = targets[targets >= 0]
        return None, counted.float().mean()

    assert outcome(mean_loss(forward, batches, 11, "mps", "float32", World()))[-1] == (5.0, 3)  # (3 + 5 + 7) / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LastConfig(ArchitectureConfig):
    name: ClassVar[str] = "last"
    capabilities: ClassVar[Capabilities] = Capabilities(every_position=False)


class Last(LanguageModel):
    """Predicts the token after a window from the sum of all its embeddings; other positions have no prediction."""

    def __init__(self) -> None:
        super().__init__()
        self.config = LastConfig(block_size=BLOCK, vocab_size=11)
        self.table = nn.Embedding(11, 11)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor | None = None, cache: object = None) -> Output:
        logits = self.table(ids).sum(1, keepdim=True)  # (B, 1, V)
        if targets is None:
            return logits, None
        assert (targets[:, :-1] == -1).all()
        return None, F.cross_entropy(logits.flatten(0, 1), targets[:, -1], ignore_index=-1)


@torch.no_grad()
def test_a_model_of_the_last_position_alone_predicts_each_token_from_a_window_of_its_own():
    torch.manual_seed(1)
    model = Last().eval()
    work = evaluate_split(model, IDS, stride=1, batch_size=3, device="cpu", dtype="float32")
    loss, predicted = outcome(work)[-1]
    assert predicted == N - 1
    assert loss == pytest.approx(expected_loss(model, 1), rel=1e-5)
    with pytest.raises(ValueError, match="predicts only the last position"):
        next(evaluate_split(model, IDS, stride=8, batch_size=3, device="cpu", dtype="float32"))
