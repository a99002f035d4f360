"""Several processes that train one model, as on several devices, started as torchrun does."""

import json
import math
import os
import signal
import socket
import threading
import time
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from nanogpt import runs
from nanogpt.config import resolve
from nanogpt.data import prepare, textfile_recipe
from nanogpt.data.batches import Batches
from nanogpt.errors import ReportedError, UserError
from nanogpt.events import Acknowledged, Evaluated, Finished, Sampled, Saved, Started, Step
from nanogpt.runs import checkpoints
from nanogpt.runs.folder import is_run
from nanogpt.training import (
    CommandQueue,
    Pause,
    Resume,
    Sample,
    Save,
    SetMaxIters,
    Snapshot,
    Stop,
    process_monitor,
    train,
)
from nanogpt.training import async_checkpoint as saving
from nanogpt.training.distributed import World, _wait_for_all, join_process_group
from nanogpt.training.estimate import memory
from nanogpt.training.optimizer_step import OptimizerStep
from nanogpt.training.runtime import check_gpus, check_memory, resolve_runtime
from nanogpt.training.sharding import local_bytes, shard
from tests.forked import Forked

pytestmark = pytest.mark.slow

SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 8, "bias": True}
SYSTEM = {"device": "cpu", "compile": "false", "threads": 1}


def config(**changes):
    shape = {name: value for name, value in SHAPE.items() if name != "bias" or "architecture" not in changes}
    tiny = shape | {"vocab_size": 11, "batch_size": 4, "max_iters": 6, "eval_interval": 100, "eval_iters": 1}
    return resolve(flags=tiny | {"dtype": "float32", "learning_rate": 0.002} | SYSTEM | changes).config


def tokens():
    """Return 3000 ids with something to learn: each follows from the two before."""
    ids = [1, 2]
    while len(ids) < 3000:
        ids.append((3 * ids[-1] + ids[-2] + len(ids) % 2) % 11)
    return dict.fromkeys(("train", "val"), np.array(ids, np.uint16))


def new_store():
    """Return a store as torchrun has it."""
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def on_processes(size, target, output, *arguments, store=None, restarts=0):
    """Call `target` in `size` processes of one group, as torchrun starts them; return their exit codes."""
    store = store or new_store()
    group = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    group |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": str(restarts)}
    group["TORCHELASTIC_RUN_ID"] = f"launch {store.port}"
    ranks = [
        Forked(target, *arguments, output=output, environment=group | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(size)
    ]
    try:
        return [process.wait(300) for process in ranks]
    except TimeoutError:
        codes = [process.poll() for process in ranks]
        for process in ranks:
            process.kill()
        raise AssertionError(f"exit codes {codes}: {output.read_text()}") from None


def rank():
    return int(os.environ.get("RANK", "0"))


def write_losses(file, changes):
    """Train, and write what a process of the training reports to `file`, with its rank."""
    values: dict[str, tuple[float, ...]] = {}
    for event in train(config(**changes), tokens()):
        if isinstance(event, Step):
            values[str(event.step)] = (event.loss,)
        if isinstance(event, Evaluated):
            values[f"val {event.step}"] = event.val_loss, event.train_loss, event.tokens
    Path(f"{file}.{rank()}").write_text(json.dumps(values))


@pytest.fixture
def losses(tmp_path):
    """Return a function that trains in `size` processes and returns what each of them reports."""

    def trained(size, **changes):
        if size == 1:
            write_losses(tmp_path / "losses", changes)
        else:
            output = tmp_path / "output"
            codes = on_processes(size, write_losses, output, str(tmp_path / "losses"), changes)
            assert codes == [0] * size, output.read_text()
        return [json.loads((tmp_path / f"losses.{rank}").read_text()) for rank in range(size)]

    return trained


# Eight sequences: in three processes 2, 3 and 3 of them, in micro-batches of at most two.
@pytest.mark.parametrize("size", [2, 3])
def test_several_processes_take_the_steps_that_one_takes_with_the_whole_batch(losses, size):
    changes = {"batch_size": 2, "gradient_accumulation_steps": 4, "max_iters": 50, "eval_interval": 20, "eval_iters": 4}
    (alone,) = losses(1, **changes)
    assert len(alone) == 50 + 4  # evaluated at 0, 20, 40 and 50
    assert alone["50"][0] < alone["1"][0] - 0.1
    for reported in losses(size, **changes):
        assert reported == {key: pytest.approx(value, abs=1e-5) for key, value in alone.items()}


def test_a_backend_with_flat_gradients_and_a_measured_noise_average_them_too(losses):
    changes = {"dtype": "bfloat16", "gradient_accumulation_steps": 2, "noise_interval": 2}
    (alone,) = losses(1, **changes)
    # bfloat16 rounds sums of other sequences otherwise: 8 bits
    for reported in losses(2, **changes):
        assert reported == {key: pytest.approx(value, rel=2**-6) for key, value in alone.items()}
    (alone,) = losses(1, **changes | {"dtype": "float32"})
    for reported in losses(2, **changes | {"dtype": "float32"}):
        assert reported == {key: pytest.approx(value, abs=1e-5) for key, value in alone.items()}


@pytest.mark.parametrize("rows", range(1, 30))
def test_the_processes_share_the_sequences_of_a_step_almost_evenly(rows):
    for size in range(1, rows + 1):
        for batch_size in (1, 2, 3, 8):
            shares = [World(rank, size).micro_batches(rows, batch_size) for rank in range(size)]
            assert [row for share in shares for part in share for row in part] == list(range(rows))
            counts = [sum(map(len, share)) for share in shares]
            assert max(counts) - min(counts) <= 1
            assert max(len(part) for share in shares for part in share) <= batch_size
    assert World().micro_batches(12, 4) == [range(4), range(4, 8), range(8, 12)]


def train_with_too_few_sequences():
    try:
        list(train(config(batch_size=1), tokens()))
    except UserError as error:
        print("LINE", error, flush=True)


def test_more_processes_than_sequences_are_refused_with_the_number_that_works(tmp_path):
    output = tmp_path / "output"
    on_processes(2, train_with_too_few_sequences, output)
    assert "LINE batch_size=1: a step has 1 sequence, too few for 2 processes; start at most 1" in (output.read_text())


def steer_from_the_first():
    """Send commands from the main process; every process has to apply them at the same step."""
    commands, acknowledged = CommandQueue(), []
    prompts = []

    def sample(model, prompt, seed):
        prompts.append(prompt)
        return prompt

    for event in train(config(max_iters=500), tokens(), commands=commands, sample=sample):
        if isinstance(event, Step) and event.step == 3 and rank() == 0:
            commands.put(SetMaxIters(400))
            commands.put(Sample("„ä\n"))
        if isinstance(event, Step) and event.step == 9 and rank() == 0:
            commands.put(Stop(save=False))
        if isinstance(event, Acknowledged):
            acknowledged.append((event.step, event.command, event.max_iters))
    assert acknowledged == [(3, "SetMaxIters", 400), (3, "Sample", None), (9, "Stop", None)], acknowledged
    assert isinstance(event, Finished)
    assert event.reason == "stopped"
    assert prompts == (["„ä\n"] if rank() == 0 else [])


def test_commands_reach_all_processes_at_one_step(tmp_path):
    output = tmp_path / "output"
    assert on_processes(2, steer_from_the_first, output) == [0, 0], output.read_text()


def stop_while_evaluating():
    commands, evaluated = CommandQueue(), 0
    for event in train(config(eval_iters=0, batch_size=3), tokens(), commands=commands):
        if rank() == 0:
            commands.put(Stop(save=False))
        evaluated += isinstance(event, Evaluated)
    assert isinstance(event, Finished)
    assert event.reason == "stopped"
    assert evaluated == 0


def test_an_evaluation_in_several_processes_can_be_stopped(tmp_path):
    output = tmp_path / "output"
    assert on_processes(3, stop_while_evaluating, output) == [0, 0, 0], output.read_text()


def wait_for_a_last_checkpoint():
    saving.RETRY_S = 0.3
    refusals = iter([True] * 6 + [False])

    def save(snapshot, is_best):
        if next(refusals):
            time.sleep(0.5)
            raise OSError("the disk is full")
        return "saved"

    *_, last = train(config(max_iters=3), tokens(), save=save)
    assert isinstance(last, Finished), last
    assert last.reason == "max_iters", last
    assert rank() != 0 or next(refusals, None) is None


def test_all_wait_for_a_last_checkpoint_that_the_disk_refuses_at_first(tmp_path):
    output = tmp_path / "output"
    assert on_processes(2, wait_for_a_last_checkpoint, output) == [0, 0], output.read_text()


def go_back(run, changes):
    """Step 4 has a loss of NaN at the first learning rate; the second process is slow to read the checkpoint."""
    step, has_read, starts = OptimizerStep.run, run / "has read", list[int]()

    def bad(self):
        if self.progress.step == 3 and self.progress.learning_rate_scale == 1.0:
            return math.nan, 1.0, 1.0
        return step(self)

    def save(snapshot, is_best):
        if snapshot.progress.learning_rate_scale != 1.0:
            assert has_read.exists()
        return str(checkpoints.write(run, snapshot))

    def find(latest):
        time.sleep(0.5 * rank())
        found = checkpoints.roll_back_to(run, latest)
        if rank() == 1:
            has_read.touch()
        return found

    OptimizerStep.run = bad  # type: ignore
    settings = config(on_divergence="rollback", checkpoint_interval=2, dropout=0.1, **changes)
    for event in train(settings, tokens(), save=save, find_checkpoint=find):
        if isinstance(event, Started):
            starts.append(event.step)
            drawn = torch.rand(()).item()
    assert isinstance(event, Finished)
    assert (event.reason, event.step, starts) == ("max_iters", 6, [0, 2])
    (run / f"drawn.{rank()}").write_text(str(drawn))


@pytest.mark.parametrize("changes", [{}, {"sharding": "fsdp"}])
def test_all_have_read_the_checkpoint_of_a_rollback_before_it_is_replaced(tmp_path, changes):
    output = tmp_path / "output"
    assert on_processes(2, go_back, output, tmp_path, changes) == [0, 0], output.read_text()
    assert (tmp_path / "drawn.0").read_text() != (tmp_path / "drawn.1").read_text()


def sample_after_a_failed_checkpoint():
    """The checkpoint of step 1 fails when that of step 2 is due, and only the main process knows it."""
    saving.RETRY_S = 0.1
    reached, refusals = threading.Event(), iter([True])

    def save(snapshot, is_best):
        if next(refusals, False):
            assert reached.wait(60)
            raise OSError("the disk is full")
        return "saved"

    changes = {"sharding": "fsdp", "max_iters": 3, "checkpoint_interval": 1, "sample_interval": 1}
    for event in train(config(**changes), tokens(), save=save, sample=lambda model, prompt, seed: prompt):
        if isinstance(event, Step) and event.step == 2:
            reached.set()
    assert isinstance(event, Finished)
    assert event.reason == "max_iters"


def test_sharded_processes_agree_on_a_sample_after_a_checkpoint_that_the_disk_refuses(tmp_path):
    output = tmp_path / "output"
    assert on_processes(2, sample_after_a_failed_checkpoint, output) == [0, 0], output.read_text()


def save_twice_in_a_pause():
    commands, answers = CommandQueue(), []
    for event in train(config(sharding="fsdp", max_iters=9), tokens(), commands=commands, save=lambda *_: "saved"):
        if isinstance(event, Step) and event.step == 3 and rank() == 0:
            commands.put(Pause())
            commands.put(Save())
        if isinstance(event, Saved) and event.step == 3:
            commands.put(Save())
            commands.put(SetMaxIters(5))
            commands.put(Resume())
        if isinstance(event, Acknowledged) and event.command == "Save":
            answers.append(event.text)
    assert isinstance(event, Finished)
    assert (event.reason, event.step) == ("max_iters", 5), event
    assert rank() != 0 or answers == ["saving a checkpoint", "already saved"], answers


def test_sharded_processes_save_together_also_a_step_that_is_saved(tmp_path):
    output = tmp_path / "output"
    assert on_processes(2, save_twice_in_a_pause, output) == [0, 0], output.read_text()


SECOND = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
AGENT = {"TORCHELASTIC_USE_AGENT_STORE": "True"}


@pytest.mark.parametrize(
    ("environment", "backend", "said"),
    [
        ({"RANK": "first"}, "auto", "RANK='first'"),
        ({"RANK": "0"}, "auto", "WORLD_SIZE=''"),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, "nccl", "backend=nccl is for NVIDIA GPUs"),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, "auto", "MASTER_PORT=''"),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_PORT": "1"}, "auto", "no MASTER_ADDR"),
        ({**SECOND, "NANOGPT_JOIN_TIMEOUT": "soon"}, "auto", "NANOGPT_JOIN_TIMEOUT='soon': set a number of seconds"),
        ({**SECOND, "NANOGPT_JOIN_TIMEOUT": "0"}, "auto", "rank 0 cannot be reached at 127.0.0.1:1 for 0 s; start all"),
        ({**SECOND, "NANOGPT_JOIN_TIMEOUT": "0", **AGENT}, "auto", "the launcher cannot be reached at 127.0.0.1:1 for"),
        ({**SECOND, "RANK": "2"}, "auto", "RANK=2 and WORLD_SIZE=2, but ranks are below the number of processes"),
        ({**SECOND, "RANK": "-1"}, "auto", "RANK='-1'"),
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


class LateStore:
    """A store in which the other process appears just after the limit."""

    checks = 0

    def set(self, key, value):
        pass

    def check(self, keys):
        self.checks += 1
        return keys != ["failed"] and self.checks > 2

    def compare_set(self, key, expected, desired):
        return desired.encode()


def test_a_process_that_starts_just_after_the_limit_is_not_missing(monkeypatch):
    monkeypatch.setenv("NANOGPT_JOIN_TIMEOUT", "0")
    _wait_for_all(LateStore(), World(1, 2))  # type: ignore[arg-type]


def join(meeting=None):
    """Join the process group; with the folder `meeting` once two processes are there: the limit counts from then."""
    if meeting is not None:
        (meeting / os.environ["RANK"]).touch()
        while len(list(meeting.iterdir())) < 2:
            time.sleep(0.01)
    return exit_code(lambda: join_process_group("gloo", "cpu"))


def exit_code(work):
    """Call `work` and return the exit code of its process, which prints the line that a person reads."""
    try:
        work()
    except ReportedError:
        return 1
    except UserError as error:
        print("LINE", error, flush=True)
        return 2
    return 0


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("has_agent", [True, False])
def test_processes_that_do_not_start_are_named_after_a_limit(tmp_path, has_agent):
    store = new_store() if has_agent else None
    group = {"WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "NANOGPT_JOIN_TIMEOUT": "2"}
    group |= {"MASTER_PORT": str(store.port if store else free_port())}
    if has_agent:
        group["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    output, meeting = tmp_path / "output", tmp_path / "meeting"
    meeting.mkdir()
    started = [
        Forked(join, meeting, output=output, environment=group | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in (0, 2)
    ]
    assert sorted(process.wait(60) for process in started) == [1, 2], output.read_text()
    assert output.read_text() == (
        "LINE ranks 1, 3 of 4 have not started within 2 s; start all processes together, best with --processes or "
        "torchrun (NANOGPT_JOIN_TIMEOUT sets another limit)\n"
    )


def test_a_process_that_is_killed_while_it_waits_for_others_is_noticed(tmp_path):
    store, output = new_store(), tmp_path / "output"
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    group |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "NANOGPT_JOIN_TIMEOUT": "3"}
    patient = group | {"RANK": "1", "LOCAL_RANK": "1", "NANOGPT_JOIN_TIMEOUT": "60"}
    killed = Forked(join, output=output, environment=patient)
    store.wait(["0/0/started/1"], timedelta(seconds=60))
    killed.kill()
    assert killed.wait(60) == -signal.SIGKILL
    assert Forked(join, output=output, environment=group | {"RANK": "0", "LOCAL_RANK": "0"}).wait(60) == 2
    assert "LINE rank 1 has not answered within 3 s; " in output.read_text()


FLAGS = SHAPE | SYSTEM | {"dataset": "small", "batch_size": 2, "gradient_accumulation_steps": 3, "dtype": "float32"}
FLAGS |= {"max_iters": 14, "eval_interval": 5, "eval_iters": 2, "dropout": 0.1, "checkpoint_interval": 3}


def train_a_part(folder, fails_at, how, changes=None):
    """Train or resume the run until its rank 1 (or the only one) fails; write every window with its step."""
    process_monitor.SILENT_S, run = 4.0 if how == "stopped" else 20.0, Path(folder)
    takes = Batches.windows

    def windows(batches, rows):
        step = batches.position // 6
        if step == fails_at and (rank() == 1 or how == "alone") and rows[0] > 0:
            if how == "memory":
                raise MemoryError
            while how == "alone" and not ((last := runs.latest(run)) and last.step == step // 3 * 3):
                time.sleep(0.01)  # it is written meanwhile
            os.kill(os.getpid(), signal.SIGSTOP if how == "stopped" else signal.SIGKILL)
        with run.with_suffix(f".{rank()}").open("a") as file:
            file.write(f"{step} {[batches.position + row for row in rows]} {takes(batches, rows).tolist()}\n")
        return takes(batches, rows)

    Batches.windows = windows  # type: ignore[method-assign]
    flags = {name: str(value).lower() for name, value in (FLAGS | (changes or {})).items()}

    def work():
        for event in (
            runs.resume(run) if is_run(run) and how != "restarted" else runs.start(resolve(flags=flags).config, run)
        ):
            if isinstance(event, Saved) and rank() == 0:
                print("SAVED", event.step, flush=True)

    return exit_code(work)


def windows_seen(run, since):
    """Return step → window number → tokens of what the processes have read, and how much of their files was read.

    since: how much of each file to leave out.
    """
    seen: dict[int, dict[int, list[int]]] = {}
    read: dict[Path, int] = {}
    for file in run.parent.glob(f"{run.name}.?"):
        lines = file.read_text().splitlines()
        read[file] = len(lines)
        for line in lines[since.get(file, 0) :]:
            step, rest = line.split(" ", 1)
            numbers, values = rest.split("] ", 1)
            for number, window in zip(json.loads(numbers + "]"), json.loads(values), strict=True):
                assert number not in seen.setdefault(int(step), {}), "a window is read twice"
                seen[int(step)][number] = window
    return seen, read


def test_killed_and_resumed_in_other_numbers_of_processes_each_window_is_seen_once(text_file, tmp_path):
    list(prepare(textfile_recipe([text_file], name="small")))
    whole, cut, output = tmp_path / "whole", tmp_path / "cut", tmp_path / "output"
    assert Forked(train_a_part, str(whole), -1, "", output=output).wait(120) == 0, output.read_text()
    expected, _ = windows_seen(whole, {})
    assert sorted(expected) == list(range(14))
    assert all(len(windows) == 6 for windows in expected.values())

    seen: dict[int, dict[int, list[int]]] = {}
    read: dict[Path, int] = {}
    assert Forked(train_a_part, str(cut), 4, "alone", output=output).wait(120) == -signal.SIGKILL
    saved = 3  # by its interval; after that, by the main process in the step in which the other one fails
    for size, fails_at, how in ((3, 7, "killed"), (2, 9, "stopped"), (2, 11, "memory"), (2, -1, "")):
        part, read = windows_seen(cut, read)
        last = runs.latest(cut)
        assert last is not None
        assert last.step == saved
        seen |= {step: windows for step, windows in part.items() if step < saved}
        output.unlink()
        began = time.monotonic()
        codes = on_processes(size, train_a_part, output, str(cut), fails_at, how)
        if fails_at < 0:
            assert codes == [0] * size, output.read_text()
            continue
        assert time.monotonic() - began < 30 + 60  # that of a busy machine
        assert codes[0] == 2
        (line,) = [line for line in output.read_text().splitlines() if line.startswith("LINE")]
        reason = {
            "killed": "rank 1 was killed or has crashed",
            "stopped": "rank 1 has not responded for 4 s",
            "memory": "rank 1 of 2: out of memory: lower batch_size",
        }[how]
        assert reason in line
        assert "Traceback" not in output.read_text()
        saved = fails_at
    part, _ = windows_seen(cut, read)
    seen |= part
    assert seen == expected


def test_torchrun_restarts_a_run_from_its_checkpoint_but_no_other_run(text_file, tmp_path):
    list(prepare(textfile_recipe([text_file], name="small")))
    run, output, store = tmp_path / "run", tmp_path / "output", new_store()
    assert on_processes(2, train_a_part, output, str(run), 4, "restarted", store=store)[0] == 2
    assert on_processes(2, train_a_part, output, str(run), -1, "restarted", store=store, restarts=1) == [0, 0]
    assert [event.step for event in runs.read_events(run) if isinstance(event, Started)] == [0, 4]
    output.unlink()
    assert on_processes(1, train_a_part, output, str(run), -1, "restarted", restarts=1) == [2]
    assert "already has a run" in output.read_text()


def test_a_process_that_makes_no_progress_ends(tmp_path):
    output = tmp_path / "output"
    codes = on_processes(2, hang_at_step_5, output)
    assert codes == [2, 1], output.read_text()
    assert "LINE training ended: a step takes much longer than any before" in output.read_text()


def hang_at_step_5():
    saved: list[Snapshot] = []

    def save(snapshot, is_best):
        saved.append(snapshot)
        return "saved"

    try:
        for event in train(config(max_iters=50), tokens(), save=save):
            if isinstance(event, Step) and event.step == 5:
                process_monitor.STALL_S, process_monitor.STALL_FACTOR = 1.5, 1
                if rank() == 1:
                    Batches.windows = lambda *_: time.sleep(1000)  # type: ignore
    except UserError as error:
        print("LINE", error, flush=True)
        assert [snapshot.progress.step for snapshot in saved] == [5]
        assert saved[0].position == 5 * 4
        return 2
    return 0


def bytes_held(file):
    """Write how many bytes this process has for parameters and optimizer state after a step, and for those of all."""
    world, settings = join_process_group("gloo", "cpu"), config(n_embd=64, optimizer="adamw")
    model = settings.model.build()
    shard(model, world, "cpu", compiled=False)
    optimizer = settings.optimizer.build(model, torch.float32)
    for part in (range(2), range(2, 4)):
        ids = torch.from_numpy(Batches(tokens()["train"], 8, 4, 1).windows(part))
        model(ids[:, :-1], ids[:, 1:])[1].backward()
    optimizer.step()
    held = [*model.parameters(), *(each for state in optimizer.state.values() for each in state.values())]
    Path(f"{file}.{world.rank}").write_text(json.dumps([local_bytes(held), 12 * model.n_parameters()]))


def test_each_of_two_sharded_processes_holds_half_of_parameters_and_optimizer_state(tmp_path):
    output = tmp_path / "output"
    assert on_processes(2, bytes_held, output, str(tmp_path / "bytes")) == [0, 0], output.read_text()
    for each in range(2):
        held, whole = json.loads((tmp_path / f"bytes.{each}").read_text())
        # 26 tensors have a step counter of 4 bytes; the 11 rows of the vocabulary are 6 and 5
        assert held == pytest.approx(whole / 2, abs=26 * 4 + 64 * 12)


def test_a_single_process_says_that_it_has_nothing_to_divide():
    started, *_ = train(config(sharding="fsdp", max_iters=1), tokens())
    assert isinstance(started, Started)
    assert started.choices["sharding"].startswith("none: a single process has nothing to divide")


def test_more_processes_than_gpus_are_refused_by_all_of_them(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    for each in range(3):
        with pytest.raises(UserError, match="processes=3: each needs a GPU, and this machine has 2; start at most 2"):
            check_gpus(World(each, 3, each))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    check_gpus(World(1, 2, 1))


@pytest.mark.parametrize(
    ("recorded", "size", "chosen"),
    [("cuda", 2, "cuda:1"), ("cuda:0", 2, "cuda:1"), ("cuda:0", 1, "cuda:0"), ("cuda", 1, "cuda"), ("auto", 1, "cuda")],
)
def test_each_process_has_its_own_gpu_whatever_number_was_recorded(monkeypatch, recorded, size, chosen):
    used: list[str] = []

    def set_device(device: str) -> None:
        assert torch.device(device).index is not None, "as torch requires it"
        used.append(device)

    world = World(size - 1, size, size - 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", set_device)
    monkeypatch.setattr(torch.cuda, "get_arch_list", list)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda precision: None)
    monkeypatch.setattr("nanogpt.training.runtime.join_process_group", lambda backend, device: world)
    resolved = resolve_runtime(config(device=recorded))
    assert resolved.device == chosen
    assert used == ([chosen] if ":" in chosen else []), "without a number it is the current one"


def test_the_memory_of_a_cpu_is_for_all_processes_of_its_machine(monkeypatch):
    needed = memory(config(), processes=2).total
    monkeypatch.setattr("nanogpt.hardware.total_memory", lambda device: 1.5 * needed)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")  # the other one is on another machine
    check_memory(config(), "float32", "cpu", World(0, 2))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UserError, match="in 2 processes, and cpu has"):
        check_memory(config(), "float32", "cpu", World(0, 2))


@pytest.mark.parametrize("size", [2, 3])
def test_sharded_processes_take_the_steps_that_one_takes(losses, size):
    changes = {"batch_size": 2, "gradient_accumulation_steps": 4, "max_iters": 50, "eval_interval": 20, "eval_iters": 3}
    (alone,) = losses(1, **changes)
    assert len(alone) == 50 + 4
    for reported in losses(size, **changes, sharding="fsdp"):
        assert reported == {key: pytest.approx(value, abs=1e-5) for key, value in alone.items()}


def test_models_within_a_model_are_sharded_by_their_own_blocks(losses):
    changes = {"architecture": "ensemble", "batch_size": 2, "max_iters": 5, "eval_interval": 2, "eval_iters": 2}
    (alone,) = losses(1, **changes)
    for reported in losses(2, **changes, sharding="fsdp"):
        assert reported == {key: pytest.approx(value, abs=1e-5) for key, value in alone.items()}


def test_a_sharded_run_resumes_in_one_process_and_back(text_file, tmp_path):
    list(prepare(textfile_recipe([text_file], name="small")))
    whole, cut, output = tmp_path / "whole", tmp_path / "cut", tmp_path / "output"
    changes = {"sharding": "fsdp", "dropout": 0.0, "sample_interval": 4, "sample_tokens": 5}
    assert Forked(train_a_part, str(whole), -1, "", changes, output=output).wait(120) == 0, output.read_text()
    assert on_processes(2, train_a_part, output, str(cut), 5, "killed", changes)[0] == 2, output.read_text()
    assert "rank 1 was killed" in output.read_text()
    assert Forked(train_a_part, str(cut), 8, "alone", changes, output=output).wait(120) == -signal.SIGKILL
    assert on_processes(2, train_a_part, output, str(cut), -1, "", changes) == [0, 0], output.read_text()
    reported = [
        {
            (event.step, type(event)): getattr(event, "loss", None)
            for event in runs.history(run)
            if isinstance(event, Step | Sampled)
        }
        for run in (whole, cut)
    ]
    assert reported[0].keys() == reported[1].keys()
    for key, loss in reported[0].items():
        assert reported[1][key] == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize(("batch_size", "steps", "is_refused"), [(1, 3, True), (1, 4, False), (2, 3, False)])
def test_sharded_processes_need_equally_many_micro_batches(monkeypatch, batch_size, steps, is_refused):
    monkeypatch.setattr("nanogpt.training.runtime.join_process_group", lambda backend, device: World(0, 2))
    asked = config(sharding="fsdp", batch_size=batch_size, gradient_accumulation_steps=steps)
    with pytest.raises(UserError, match="must be a multiple of the 2 processes") if is_refused else nullcontext():
        resolve_runtime(asked)
