"""Embeddings of several tokens together, in the modern architecture."""

import pytest
import torch

from nanogpt.models.modern.config import MAX_NGRAM_ROWS
from tests import architectures

SHAPE = {"architecture": "modern", "n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 12}


def model_of(ngram, vocab_size):
    torch.manual_seed(1)
    model = architectures.build(**SHAPE, ngram=ngram, vocab_size=vocab_size).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("vocab_size", [5, 65, 1024])  # all rows exact, some shared, and a power of two
@pytest.mark.parametrize("ngram", [1, 2, 3, 4])
def test_a_token_is_embedded_with_as_many_before_it_as_ngram_says(ngram, vocab_size):
    model = model_of(ngram, vocab_size)
    ids = torch.randint(vocab_size, (1, 12))
    embedded = model.embed(ids)
    for changed in range(1, 12):
        other = ids.clone()
        other[0, changed] = (other[0, changed] + 1) % vocab_size
        differs = (model.embed(other) != embedded).any(dim=-1)[0].nonzero().flatten().tolist()
        assert differs == list(range(changed, min(changed + ngram, 12)))


@pytest.mark.parametrize("ngram", [1, 3, 4])
@pytest.mark.parametrize("pieces", [[1] * 12, [2, 1, 9], [5, 7]])
def test_the_cache_remembers_the_tokens_before(ngram, pieces):
    model = model_of(ngram, 65)
    ids, cache = torch.randint(65, (2, 12)), model.new_cache(2)
    with torch.no_grad():
        for piece in ids.split(pieces, dim=1):
            logits, _ = model(piece, cache=cache)
        torch.testing.assert_close(logits[:, 0], model.logits(ids)[:, -1], atol=1e-4, rtol=1e-4)


def test_tables_have_a_row_for_each_combination_up_to_a_bound():
    assert [gram.num_embeddings for gram in model_of(4, 10).grams] == [100, 1000, 10_000]
    assert [gram.num_embeddings for gram in model_of(4, 65).grams] == [65**2, MAX_NGRAM_ROWS, MAX_NGRAM_ROWS]
