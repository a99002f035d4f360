"""Attention, logit lens, embeddings and losses by token, beside the same figures computed by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nanogpt.config import ARCHITECTURE, component, names
from nanogpt.data.batches import sliding_batches
from nanogpt.errors import UserError
from nanogpt.inspection import attention
from nanogpt.inspection.attention import HeadScores, attention_of, score_heads
from nanogpt.inspection.embeddings import embeddings_of, map_of, nearest_tokens
from nanogpt.inspection.logit_lens import logit_lens
from nanogpt.inspection.token_losses import token_losses
from tests import architectures

SMALL: dict[str, Any] = {"vocab_size": 31, "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 16}


def able(capability: str) -> list[str]:
    return [name for name in names(ARCHITECTURE) if getattr(component(ARCHITECTURE, name).capabilities, capability)]


def unable(capability: str) -> list[str]:
    return [name for name in names(ARCHITECTURE) if name not in able(capability)]


def new_model(architecture: str = "gpt2", **settings: Any) -> Any:
    torch.manual_seed(1)
    model = architectures.build(architecture=architecture, **SMALL | settings)
    with torch.no_grad():
        for parameter in model.parameters():  # also of what starts at zero
            parameter.add_(torch.randn_like(parameter) / 10)
    return model


def sequence(model: Any) -> torch.Tensor:
    return torch.randint(31, (model.config.block_size,), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("architecture", able("attention"))
def test_each_layer_attends_to_itself_and_earlier_tokens(architecture):
    """With one row and one column for each token, by which the views look a weight up."""
    model = new_model(architecture).train()
    layers = attention_of(model, sequence(model))
    assert layers
    assert model.training
    for layer in layers:
        assert layer.name in dict(model.named_modules())
        assert layer.weights.shape[1:] == (16, 16)
        assert layer.weights.sum(-1) == pytest.approx(1.0, abs=1e-5)
        assert np.array_equal(layer.weights, np.tril(layer.weights))


@pytest.mark.parametrize("capability", ["attention", "logit_lens", "embeddings"])
def test_an_architecture_that_cannot_show_something_says_so(capability):
    show = {
        "attention": lambda model: attention_of(model, torch.zeros(4, dtype=torch.long)),
        "logit_lens": lambda model: logit_lens(model, torch.zeros(4, dtype=torch.long)),
        "embeddings": embeddings_of,
    }[capability]
    for architecture in unable(capability):
        with pytest.raises(UserError, match=f"not shown for the architecture {architecture}"):
            show(architectures.build(architecture=architecture, **SMALL))


def test_heads_are_named_by_what_they_attend_to(monkeypatch):
    """Four heads over a sequence of 8 tokens and its repetition."""
    T = 16
    previous, first, induction = (torch.zeros(T, T) for _ in range(3))
    for position in range(T):
        previous[position, max(0, position - 1)] = 1.0
        first[position, 0] = 1.0
        induction[position, position - 7 if position >= 8 else 0] = 1.0
    even = torch.ones(T, T).tril()
    weights = torch.stack([previous, first, induction, even / even.sum(1, keepdim=True)])[None]
    monkeypatch.setattr(attention, "_recorded", lambda model, ids: [("h.0.attn", weights)])
    found = score_heads(new_model())
    assert [head.kind for head in found] == ["previous token", "first token", "induction", ""]
    assert found[2].scores["induction"] == pytest.approx(1.0)
    assert HeadScores("h.0.attn", 0, {"previous token": 0.3, "first token": 0.2, "induction": 0.1}).kind == ""


@pytest.mark.parametrize("separator", [0, 2, 3])
def test_no_document_ends_in_the_sequences_on_which_heads_are_scored(separator):
    model, seen = new_model(vocab_size=4), []
    model.document_separator = separator
    model.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    score_heads(model)
    assert set(seen[0].flatten().tolist()) == {*range(4)} - {separator}  # 32 random ids


@pytest.mark.parametrize("architecture", able("logit_lens"))
@torch.no_grad()
def test_the_last_layer_predicts_what_the_model_does(architecture):
    model = new_model(architecture).eval()
    ids = sequence(model)
    layers = logit_lens(model, ids, k=3)
    assert len(layers) == model.config.n_layer
    probabilities = torch.softmax(model.logits(ids[None])[0].float(), -1)
    top = probabilities.topk(3)
    assert np.array_equal(layers[-1].ids, top.indices.numpy())
    assert layers[-1].probabilities == pytest.approx(top.values.numpy(), rel=1e-5)
    target = [float(probabilities[place, ids[place + 1]]) for place in range(len(ids) - 1)]
    assert layers[-1].target_probability == pytest.approx(target, rel=1e-4)
    assert not np.allclose(layers[0].probabilities, layers[-1].probabilities)


@torch.no_grad()
def test_an_earlier_layer_predicts_what_the_model_without_the_later_ones_would():
    model, ids = new_model(), sequence(new_model())
    shorter = new_model(n_layer=1)
    shorter.load_state_dict({name: value for name, value in model.state_dict().items() if not name.startswith("h.1.")})
    expected = torch.softmax(shorter.logits(ids[None])[0], -1).topk(1).values.numpy()
    assert logit_lens(model, ids, k=1)[0].probabilities == pytest.approx(expected, rel=1e-5)


def test_nearest_tokens_are_those_at_the_smallest_angle():
    vectors = np.array([[1, 0], [2, 0.1], [0, 1], [-3, 0]], np.float32)
    nearest = nearest_tokens(vectors, 0, 2)
    assert [id for id, _ in nearest] == [1, 2]
    assert nearest[0][1] == pytest.approx(2 / np.hypot(2, 0.1))
    assert len(nearest_tokens(vectors, 0, 99)) == 3


def test_the_map_keeps_the_distances_of_points_in_a_plane():
    random = np.random.default_rng(1)
    plane = random.normal(size=(2, 8)).astype(np.float32)
    vectors = random.normal(size=(20, 2)).astype(np.float32) @ plane
    points, share = map_of(vectors)
    assert share == pytest.approx(1.0)
    assert np.linalg.norm(points[3] - points[7]) == pytest.approx(
        float(np.linalg.norm(vectors[3] - vectors[7])), rel=1e-4
    )


def test_the_map_of_vectors_of_one_number_is_a_line():
    points, share = map_of(np.array([[1.0], [4.0], [1.0]], np.float32))
    assert points == pytest.approx(np.array([[-1.0, 0.0], [2.0, 0.0], [-1.0, 0.0]]))
    assert share == pytest.approx(1.0)


@pytest.mark.parametrize("architecture", able("embeddings"))
def test_every_token_has_a_vector(architecture):
    assert embeddings_of(new_model(architecture)).shape[0] == 31


@torch.no_grad()
def test_losses_by_position_and_by_token_add_up_to_those_of_the_text():
    model = new_model().eval()
    tokens = np.random.default_rng(1).integers(0, 31, 100).astype(np.uint16)
    losses = token_losses(model, sliding_batches(tokens, 16, 4, stride=16))
    ids = torch.from_numpy(tokens.astype(np.int64))
    each = [
        F.cross_entropy(model.logits(ids[None, at : at + 16])[0], ids[at + 1 : at + 17], reduction="none")
        for at in range(0, 80, 16)
    ]
    rest = F.cross_entropy(model.logits(ids[None, 96:99])[0], ids[97:100], reduction="none")
    each.append(F.cross_entropy(model.logits(ids[None, 80:96])[0], ids[81:97], reduction="none"))
    assert losses.by_position[10] == pytest.approx(float(torch.stack([row[10] for row in each]).mean()), rel=1e-5)
    assert losses.by_position[1] == pytest.approx(
        float(torch.stack([*(row[1] for row in each), rest[1]]).mean()), rel=1e-5
    )
    assert losses.counts.tolist() == np.bincount(tokens[1:], minlength=31).tolist()
    assert losses.by_token.sum() == pytest.approx(float(torch.cat([*each, rest]).sum()), rel=1e-5)
    costliest = losses.costliest(2)
    assert costliest[0][1] * costliest[0][2] == pytest.approx(losses.by_token.max())


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_model_whose_training_diverged_is_refused_in_one_line(number: float) -> None:
    model = new_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(number)
    ids = torch.arange(8)
    for show in (
        lambda: attention_of(model, ids),
        lambda: score_heads(model),
        lambda: logit_lens(model, ids),
        lambda: embeddings_of(model),
        lambda: token_losses(model, sliding_batches(np.arange(17, dtype=np.uint16), 16, 1, stride=16)),
    ):
        with pytest.raises(UserError, match="no longer finite numbers, because its training diverged"):
            show()
