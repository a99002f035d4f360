"""Small random models that have opinions, and tokenizers for them."""

import pytest
import torch

from nanogpt import tokenizers
from tests import architectures

ALPHABET = "\n abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="session")
def tokenizer():
    return tokenizers.create("char", [ALPHABET])


@pytest.fixture(scope="session")
def bytes_tokenizer():
    return tokenizers.create("byte")


@pytest.fixture(scope="session")
def new_model(tokenizer):
    """Makes a model whose weights are large, so that its best token is far ahead and its text is no loop."""

    def make(seed=1, spread=8, **changes):
        torch.manual_seed(seed)
        shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 16, "vocab_size": tokenizer.vocab_size}
        model = architectures.build(**shape | changes).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() == 2 and name != "wte.weight":
                    parameter.mul_(spread)
        return model

    return make


@pytest.fixture(scope="session")
def model(new_model):
    return new_model()
