"""Two processes that train one model, as on two devices: under torchrun, and started as torchrun does."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from nanogpt import runs
from nanogpt.cli import main
from nanogpt.config import resolve
from nanogpt.data import prepare, textfile_recipe
from nanogpt.errors import UserError
from nanogpt.events import Finished, Step
from nanogpt.training import async_checkpoint as saving
from nanogpt.training import train
from nanogpt.training.distributed import join_process_group
from tests.forked import Forked

pytestmark = pytest.mark.slow

SETTINGS = """--dataset=small --n_layer=1 --n_head=2 --n_embd=16 --block_size=16 --max_iters=10 --eval_interval=5
    --device=cpu --dtype=float32 --compile=false --threads=1 --sample_tokens=0""".split()  # noqa: SIM905


def losses(name):
    return [event.loss for event in runs.history(runs.find(name)) if isinstance(event, Step)]


def test_two_processes_take_the_steps_that_one_takes_with_the_whole_batch(text_file):
    list(prepare(textfile_recipe([text_file], name="small")))
    assert main(["train", *SETTINGS, "--name=alone", "--batch_size=8"]) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "nanogpt"]
    shared = ["--name=shared", "--batch_size=4", "--gradient_accumulation_steps=2"]
    done = subprocess.run([*torchrun, "train", *SETTINGS, *shared], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(losses("shared")) == 10
    assert losses("shared") == pytest.approx(losses("alone"), abs=1e-5)
    assert done.stderr.count("training shared") == 1, "one process speaks for all"


def on_two_processes(target, output):
    """Call `target` in two processes of one group, as torchrun starts them; return their exit codes."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    group["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    ranks = [
        Forked(target, output=output, environment=group | {"RANK": rank, "LOCAL_RANK": rank}) for rank in ("0", "1")
    ]
    return [process.wait(300) for process in ranks]


def wait_for_a_last_checkpoint():
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
    assert isinstance(last, Finished), last
    assert last.reason == "max_iters", last
    assert os.environ["RANK"] != "0" or next(refusals, None) is None


def test_all_wait_for_a_last_checkpoint_that_the_disk_refuses_at_first(tmp_path):
    output = tmp_path / "output"
    assert on_two_processes(wait_for_a_last_checkpoint, output) == [0, 0], output.read_text()


@pytest.mark.parametrize(
    ("environment", "backend", "said"),
    [
        ({"RANK": "first"}, "auto", "RANK='first'"),
        ({"RANK": "0"}, "auto", "WORLD_SIZE=''"),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, "nccl", "backend=nccl is for NVIDIA GPUs"),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, "auto", "cannot reach each other"),  # no MASTER_ADDR
    ],
)
def test_a_group_that_cannot_be_joined_is_one_line(monkeypatch, environment, backend, said):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=said) as caught:
        join_process_group(backend, "cpu")
    assert "\n" not in str(caught.value)
    assert "gloo" not in str(caught.value)


def end_at_step_3_as_the_second():
    shape = {"n_layer": 1, "n_head": 1, "n_embd": 4, "block_size": 4, "vocab_size": 5, "max_iters": 50, "eval_iters": 1}
    how = {"gradient_accumulation_steps": 2, "device": "cpu", "dtype": "float32", "compile": "false", "threads": 1}
    tokens = np.arange(100, dtype=np.uint16) % 5
    try:
        for event in train(resolve(flags=shape | how).config, {"train": tokens, "val": tokens}):
            if isinstance(event, Step) and event.step == 3 and os.environ["RANK"] == "1":
                os._exit(0)
    except UserError as error:
        print("LINE", error, flush=True)


def test_a_process_that_ends_leaves_the_others_with_a_line_and_no_traceback(tmp_path):
    output = tmp_path / "output"
    assert on_two_processes(end_at_step_3_as_the_second, output) == [0, 0]
    assert "LINE the processes of this training cannot reach each other" in output.read_text()
    assert "Traceback" not in output.read_text()
