"""Shapes alone: a model that takes no memory."""

import pytest
import torch

from nanogpt import models
from nanogpt.config import ModelConfig
from nanogpt.models.parts.shapes import shapes_alone

CONFIG = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 8, "vocab_size": 11}


@pytest.mark.parametrize("architecture", models.names())
def test_a_model_of_shapes_alone_counts_as_the_real_one_and_moves_no_random_state(architecture):
    config = ModelConfig(architecture=architecture, **CONFIG)
    real = models.create(config)
    before = torch.get_rng_state()
    with shapes_alone():
        shapes = models.create(config)
    assert torch.equal(torch.get_rng_state(), before)
    assert {parameter.device.type for parameter in shapes.parameters()} == {"meta"}
    assert (shapes.n_parameters(), shapes.flops_per_token()) == (real.n_parameters(), real.flops_per_token())
