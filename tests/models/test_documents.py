"""The setting `document_mask`: a position sees its own document only."""

from typing import Any

import pytest
import torch
from torch import Tensor

from nanogpt.config import ARCHITECTURE, component, names
from nanogpt.models.base import LanguageModel, document_starts
from nanogpt.models.layers.attention import attention_mask
from tests.architectures import build

MASKED = [name for name in names(ARCHITECTURE) if component(ARCHITECTURE, name).capabilities.document_mask]
SEPARATOR, T = 0, 24
VARIANTS: list[dict[str, Any]] = [
    *({"architecture": name} for name in MASKED),
    *({"positions": positions} for positions in ("rotary", "alibi", "none", "sinusoidal")),
    {"positions": "rotary", "local_window": 4},
    {"positions": "alibi", "n_kv_head": 2, "local_window": 5},
]


def random_model(**settings: Any) -> LanguageModel:
    """Return a model whose weights are all random, so that everything it computes matters."""
    torch.manual_seed(0)
    shape = {"vocab_size": 17, "n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": T, "dropout": 0.0}
    model = build(**shape, **settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def documents() -> list[Tensor]:
    """Return documents of 7, 1, 11 and 5 tokens, each after a separator but the first, which a window cuts off."""
    torch.manual_seed(1)
    lengths = [7, 1, 11, 5]
    return [
        torch.cat([torch.tensor([SEPARATOR] if number else [3]), torch.randint(1, 17, (length - 1,))])
        for number, length in enumerate(lengths)
    ]


def at_position(model: LanguageModel, document: Tensor, position: int) -> Tensor:
    """Return the logits (T, V) of a document alone, at its position in the window.

    What stands before it is another random text each time it is called, in a document of its own.
    """
    before = torch.randint(1, 17, (position,))
    return model.logits(torch.cat([before, document])[None])[0, position:]


@pytest.mark.parametrize("settings", VARIANTS, ids=lambda settings: " ".join(map(str, settings.values())))
def test_the_logits_of_a_packed_window_are_those_of_each_document_alone(settings: dict[str, Any]) -> None:
    model, packed = random_model(**settings), documents()
    model.document_separator = SEPARATOR
    logits = model.logits(torch.cat(packed)[None])[0]
    position = 0
    for document in packed:
        alone = at_position(model, document, position)
        torch.testing.assert_close(logits[position : position + len(document)], alone, atol=1e-5, rtol=1e-5)
        position += len(document)


@pytest.mark.parametrize("settings", [{"architecture": "modern"}, {"positions": "rotary"}, {"positions": "alibi"}])
def test_a_document_alone_in_a_window_has_the_same_logits_where_only_distances_count(settings: dict[str, Any]) -> None:
    model, packed = random_model(**settings), documents()
    model.document_separator = SEPARATOR
    logits = model.logits(torch.cat(packed)[None])[0].split(list(map(len, packed)))
    model.document_separator = None  # so that nothing of the mask is in use
    for found, document in zip(logits, packed, strict=True):
        torch.testing.assert_close(found, model.logits(document[None])[0], atol=1e-5, rtol=1e-5)


def test_with_learned_positions_a_document_alone_has_the_same_logits_at_the_same_positions() -> None:
    model, packed = random_model(architecture="gpt2"), documents()
    model.document_separator = SEPARATOR
    logits = model.logits(torch.cat(packed)[None])[0].split(list(map(len, packed)))
    model.document_separator = None
    learned = model.get_parameter("wpe.weight")
    for found, document in zip(logits, packed, strict=True):
        torch.testing.assert_close(found, model.logits(document[None])[0], atol=1e-5, rtol=1e-5)
        learned.data = learned.data.roll(-len(document), 0)  # the next document's first position comes first


@pytest.mark.parametrize("name", MASKED)
def test_without_it_the_documents_before_count(name: str) -> None:
    model, packed = random_model(architecture=name), documents()
    whole = torch.cat(packed)[None]
    other = whole.clone()
    other[0, 1] = 1 + whole[0, 1] % 16  # in the first document
    last = slice(T - len(packed[-1]), T)
    changed = (model.logits(whole) - model.logits(other)).abs()[0, last].max()
    model.document_separator = SEPARATOR
    assert changed > 1e-3
    assert torch.equal(model.logits(whole)[0, last], model.logits(other)[0, last])


@pytest.mark.parametrize("name", MASKED)
def test_loss_and_gradients_are_those_of_the_documents_alone(name: str) -> None:
    """The loss of a window is the mean over its targets; each document's is over its own."""
    model, packed = random_model(architecture=name), documents()
    model.document_separator = SEPARATOR
    whole = torch.cat(packed)
    targets = torch.randint(0, 17, (T,))
    _, loss = model(whole[None], targets[None])
    assert loss is not None
    loss.backward()
    gradients = {
        key: parameter.grad.clone() for key, parameter in model.named_parameters() if parameter.grad is not None
    }
    model.zero_grad()
    total, position = torch.zeros(()), 0
    for document in packed:
        ids = torch.cat([torch.randint(1, 17, (position,)), document])
        own = torch.cat([torch.full((position,), -1), targets[position : position + len(document)]])
        _, part = model(ids[None], own[None])
        assert part is not None
        total = total + part * len(document) / T
        position += len(document)
    total.backward()
    torch.testing.assert_close(loss, total, atol=1e-6, rtol=1e-6)
    for key, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[key], parameter.grad, atol=1e-5, rtol=1e-4)


def test_gpt2s_cpu_backend_masks_as_the_model_does() -> None:
    model = random_model(architecture="gpt2")
    ids = torch.stack([torch.cat(documents()), torch.randint(1, 17, (T,))])
    targets = torch.randint(0, 17, (2, T))
    model.document_separator = SEPARATOR
    backend = model.training_backend("cpu", torch.bfloat16)
    assert backend is not None
    _, expected = model(ids, targets)
    _, found = backend(ids, targets)
    model.document_separator = None
    _, unmasked = model(ids, targets)
    assert found is not None
    assert expected is not None
    assert unmasked is not None
    assert abs((found - expected).item()) < 0.02  # 8 bits of mantissa
    assert abs((unmasked - expected).item()) > 0.05


def test_starts_are_the_last_separator_before_each_position() -> None:
    ids = torch.tensor([[5, 5, 0, 5, 5, 0, 0, 5], [0, 5, 5, 5, 5, 5, 5, 5]])
    starts = document_starts(ids, 0)
    assert starts is not None
    assert starts.tolist() == [[0, 0, 2, 2, 2, 5, 6, 6], [0] * 8]


def test_a_window_of_one_document_needs_no_mask() -> None:
    ids = torch.tensor([[5, 5, 5, 5], [0, 5, 5, 5]])
    assert document_starts(ids, 0) is None
    assert attention_mask(0, 4, ids.device, starts=document_starts(ids, 0)) is None


@pytest.mark.parametrize("name", MASKED)
def test_a_compiled_model_masks_as_the_model_does(name: str) -> None:
    """The compiler cannot ask whether a window has a separator, so it always masks."""
    model = random_model(architecture=name)
    model.document_separator = SEPARATOR
    compiled = torch.compile(model.logits, backend="eager", fullgraph=True)
    for ids in (torch.cat(documents())[None], torch.randint(1, 17, (1, T))):
        torch.testing.assert_close(compiled(ids), model.logits(ids), atol=1e-5, rtol=1e-5)


def test_decoding_with_a_cache_continues_one_text() -> None:
    model = random_model(architecture="gpt2")
    ids = torch.cat(documents())[None]
    expected = model.logits(ids)[:, -1:]
    model.document_separator = SEPARATOR
    logits, _ = model(ids, cache=model.new_cache(1))
    assert logits is not None
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
