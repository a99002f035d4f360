"""Two processes that train one model under torchrun, as on two devices."""

import subprocess
import sys

import pytest

from nanogpt import runs
from nanogpt.data import prepare, textfile_recipe
from nanogpt.events import Step

SETTINGS = """--dataset=small --n_layer=1 --n_head=2 --n_embd=16 --block_size=16 --max_iters=10 --eval_interval=5
    --device=cpu --dtype=float32 --compile=false --threads=1 --sample_tokens=0""".split()  # noqa: SIM905


def losses(name):
    return [event.loss for event in runs.history(runs.find(name)) if isinstance(event, Step)]


def test_two_processes_take_the_steps_that_one_takes_with_the_whole_batch(text_file):
    list(prepare(textfile_recipe([text_file], name="small")))
    alone = [sys.executable, "-m", "nanogpt", "train", *SETTINGS, "--name=alone", "--batch_size=8"]
    subprocess.run(alone, check=True, capture_output=True, timeout=300)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "nanogpt"]
    shared = ["--name=shared", "--batch_size=4", "--gradient_accumulation_steps=2"]
    done = subprocess.run([*torchrun, "train", *SETTINGS, *shared], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(losses("shared")) == 10
    assert losses("shared") == pytest.approx(losses("alone"), abs=1e-5)
    assert done.stderr.count("training shared") == 1, "one process speaks for all"


def test_all_wait_for_a_last_checkpoint_that_the_disk_refuses_at_first(tmp_path):
    (tmp_path / "train.py").write_text(
        """
import os, time
import numpy as np
from nanogpt.config import resolve
from nanogpt.events import Finished
from nanogpt.training import saving, train

saving.RETRY_S = 0.3
refusals = iter([True] * 6 + [False])

def save(snapshot, is_best):
    if next(refusals):
        time.sleep(0.5)
        raise OSError("the disk is full")
    return "saved"

settings = "vocab_size=11 n_layer=1 n_head=2 n_embd=16 block_size=8 batch_size=2 gradient_accumulation_steps=2"
settings += " max_iters=3 eval_interval=100 eval_iters=1 device=cpu dtype=float32 compile=false threads=1"
config = resolve(flags=dict(pair.split("=") for pair in settings.split())).config
ids = np.arange(3000).astype(np.uint16) % 11
*_, last = train(config, {"train": ids, "val": ids}, save=save)
assert isinstance(last, Finished) and last.reason == "max_iters", last
assert os.environ["RANK"] != "0" or next(refusals, None) is None
"""
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run([*torchrun, str(tmp_path / "train.py")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
