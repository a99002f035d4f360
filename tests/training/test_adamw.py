"""AdamW: the same as torch's, and without what torch's own imports."""

import copy
import subprocess
import sys

import pytest
import torch

from nanogpt.training.adamw import AdamW

SETTINGS = {"lr": 0.01, "betas": (0.9, 0.99)}


def both(start):
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    group = {"weight_decay": 0.1}
    return (
        (ours, AdamW([{"params": [ours], **group}], **SETTINGS)),
        (theirs, torch.optim.AdamW([{"params": [theirs], **group}], fused=True, **SETTINGS)),
    )


def advance(pair, gradients):
    weight, optimizer = pair
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("shape", [(5,), (7, 3)])
def test_it_moves_as_torchs_does(shape):
    torch.manual_seed(1)
    ours, theirs = both(torch.randn(shape))
    gradients = torch.randn(4, *shape)
    advance(ours, gradients)
    advance(theirs, gradients)
    assert torch.equal(ours[0], theirs[0])


def test_it_goes_on_from_the_state_that_torchs_has_saved():
    torch.manual_seed(1)
    ours, theirs = both(torch.randn(3, 4))
    gradients = torch.randn(4, 3, 4)
    advance(theirs, gradients[:2])
    with torch.no_grad():
        ours[0].copy_(theirs[0])
    ours[1].load_state_dict(copy.deepcopy(theirs[1].state_dict()))
    advance(ours, gradients[2:])
    advance(theirs, gradients[2:])
    assert torch.equal(ours[0], theirs[0])


def test_what_has_no_gradient_stays():
    weight = torch.nn.Parameter(torch.ones(3))
    AdamW([{"params": [weight], "weight_decay": 0.5}], **SETTINGS).step()
    assert torch.equal(weight.detach(), torch.ones(3))


def test_training_without_compiling_imports_no_compiler():
    code = """
import sys
import numpy as np
from nanogpt.config import resolve
from nanogpt.training import train
from nanogpt.events import Finished
config = resolve(flags={"max_iters": 2, "eval_iters": 1, "n_layer": 1, "n_embd": 8, "n_head": 2, "block_size": 8,
    "batch_size": 2, "vocab_size": 5, "device": "cpu", "optimizer": "muon", "architecture": "modern"}).config
tokens = {split: (np.arange(400) % 5).astype(np.uint16) for split in ("train", "val")}
assert isinstance(list(train(config, tokens))[-1], Finished)
print([name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
