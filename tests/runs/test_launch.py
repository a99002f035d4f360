"""Runs on disk: started, interrupted, resumed, started from others, refused."""

import errno
import json
import math
import os
import shutil
import signal
import time
import tomllib
import weakref
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from multiprocessing import Pipe

import pytest
import tomli_w
import torch

from nanogpt import files, processes, runs
from nanogpt.config import config_from_toml
from nanogpt.data import open_dataset, prepare, textfile_recipe
from nanogpt.errors import SettingError, UserError
from nanogpt.events import Evaluated, Finished, Health, LayerHealth, Notice, Sampled, Saved, Started, Step
from nanogpt.runs import checkpoints, recorder
from nanogpt.runs.detached import start_detached
from nanogpt.runs.folder import read_run_toml
from nanogpt.training import CommandQueue, SetMaxIters, Stop, train
from nanogpt.training import async_checkpoint as saving
from nanogpt.training.optimizer_step import OptimizerStep
from tests.forked import Forked
from tests.narrowing import expect


def trained(config, name="one", **more):
    folder = runs.new_folder("run", name=name)
    return folder, list(runs.start(config, folder, **more))


def interrupted(config, name, at_step):
    """A run that was closed at a step, as by an app that quits without a word."""
    folder = runs.new_folder("run", name=name)
    events = runs.start(config, folder)
    for event in events:
        if isinstance(event, Step) and event.step == at_step:
            events.close()
    return folder


def steps(events):
    return {event.step: event.loss for event in events if isinstance(event, Step)}


def weights(folder, step=12):
    return (folder / "checkpoints" / f"step-{step:08d}" / "model.safetensors").read_bytes()


def test_a_run_is_a_folder_of_plain_files(small):
    folder, events = trained(small())
    assert {item.name for item in folder.iterdir()} >= {
        "run.toml",
        "tokenizer.json",
        "events.jsonl",
        "status.json",
        "checkpoints",
    }
    assert isinstance(events[-1], Finished)
    about = runs.summary(folder)
    assert (about.state, about.step, about.max_iters, about.dataset) == ("finished", 12, 12, "small")
    assert about.best_val_loss == events[-1].best_val_loss


def test_run_toml_holds_the_choices_that_were_made_and_starts_the_same_run_again(small):
    folder, events = trained(small(device="auto", threads=0))
    tables = tomllib.loads((folder / "run.toml").read_text())
    assert tables["system"]["device"] != "auto"
    assert tables["system"]["threads"] > 0
    _, again = trained(config_from_toml(tables), name="again")
    assert steps(again) == steps(events)


@pytest.mark.parametrize(("processes", "recorded"), [(1, "cuda:0"), (2, "cuda")])
def test_the_device_of_several_processes_is_recorded_without_a_number(small, monkeypatch, processes, recorded):
    def on_gpus(config, tokens, **more):
        for event in train(config, tokens, **more):
            yield replace(event, device="cuda:0", processes=processes) if isinstance(event, Started) else event

    monkeypatch.setattr("nanogpt.runs.launch.train", on_gpus)
    folder, _ = trained(small(max_iters=1))
    assert read_run_toml(folder)["system"]["device"] == recorded


def test_the_recorded_events_are_the_events_that_were_seen(small):
    folder, events = trained(small(sample_interval=6, sample_tokens=5))
    assert list(runs.read_events(folder)) == events
    assert len([event for event in events if isinstance(event, Sampled)]) == 3


def test_the_best_and_the_latest_checkpoint_are_kept_and_those_asked_for(small):
    folder, events = trained(small(checkpoint_interval=5, max_iters=13))
    best = min((e.val_loss, e.step) for e in events if isinstance(e, Evaluated) and e.step > 0)[1]
    assert {checkpoint.step for checkpoint in runs.list_checkpoints(folder)} == {5, 10, 13, best}
    assert expect(runs.Checkpoint, runs.best(folder)).step == best
    assert expect(runs.Checkpoint, runs.latest(folder)).step == 13


def test_so_many_checkpoints_are_kept_as_were_asked_for_spread_over_the_run(small):
    folder, _ = trained(small(keep_checkpoints=4, max_iters=24, eval_interval=2, learning_rate=1e-2))
    steps = [checkpoint.step for checkpoint in runs.list_checkpoints(folder)]
    assert len(steps) == 4
    assert steps[-1] == 24
    assert expect(runs.Checkpoint, runs.best(folder)).step in steps
    # evenly they would be 6 apart; with the best one wherever it is, no gap is three times as large
    assert max(after - before for before, after in pairwise([0, *steps])) < 18


def test_an_interrupted_run_goes_on_bit_for_bit(small):
    whole, events = trained(small(dropout=0.1))
    folder = interrupted(small(dropout=0.1), "cut", at_step=7)
    assert runs.summary(folder).state == "stopped"
    rest = list(runs.resume(folder))
    assert steps(rest) == {step: loss for step, loss in steps(events).items() if step > 4}
    assert weights(folder) == weights(whole)
    # What was done twice is in the history once.
    assert steps(runs.history(folder)) == steps(events)
    assert [e.step for e in runs.history(folder) if isinstance(e, Step)] == list(range(1, 13))


def test_a_run_that_was_interrupted_before_its_first_checkpoint_starts_over_the_same(small):
    whole, _ = trained(small())
    folder = interrupted(small(), "cut", at_step=2)
    list(runs.resume(folder))
    assert weights(folder) == weights(whole)


def test_while_a_resumed_run_has_not_evaluated_again_its_losses_so_far_are_known(small):
    folder = interrupted(small(eval_interval=5), "one", at_step=7)
    before = runs.summary(folder)
    resumed = runs.resume(folder, {"eval_interval": 100})
    next(event for event in resumed if isinstance(event, Step))
    resumed.close()
    about = runs.summary(folder)
    assert (about.val_loss, about.best_val_loss) == (before.val_loss, before.best_val_loss) != (None, None)


def test_a_last_step_that_a_resume_was_given_holds_for_the_resume_after_it(small):
    folder, _ = trained(small())
    resumed = runs.resume(folder, {"max_iters": 15, "eval_interval": 100})
    next(event for event in resumed if isinstance(event, Step))
    resumed.close()  # before it has saved
    events = list(runs.resume(folder))
    assert expect(Finished, events[-1]).step == 15
    assert [event.step for event in events if isinstance(event, Evaluated)] == [15]


def test_a_restart_by_torchrun_keeps_what_a_command_changed_after_its_first_start(small, monkeypatch):
    folder, _ = trained(small())
    asked, commands = {"max_iters": 15}, CommandQueue()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a launch")
    for event in runs.resume(folder, asked, commands=commands):
        if isinstance(event, Step) and event.step == 14:
            commands.put(SetMaxIters(18))
            commands.put(Stop())
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert expect(Finished, list(runs.resume(folder, asked))[-1]).step == 18


def test_of_two_that_found_a_run_of_one_name_at_once_the_second_is_refused(small):
    folder = runs.new_folder("run", name="one")
    first, second = runs.start(small(), folder), runs.start(small(), folder)
    began = next(first)
    assert isinstance(began, Started)
    losses = steps(first)
    with pytest.raises(UserError, match="already has a run"):
        list(second)
    assert steps(runs.history(folder)) == losses


def test_of_two_detached_starts_of_one_name_at_once_the_second_is_refused(small, monkeypatch):
    folder, start_python = runs.new_folder("run", name="one"), processes.start_python
    first = runs.start(small(), folder)

    def start_second(*arguments, **options):
        next(first)  # writes its first status
        return start_python(*arguments, **options)

    monkeypatch.setattr(processes, "start_python", start_second)
    with pytest.raises(UserError, match="already has a run"):
        start_detached(small(), folder)
    assert steps(first).keys() == set(range(1, 13))


def test_a_prompt_of_samples_that_cannot_be_read_is_refused_before_training(small, home):
    with pytest.raises(SettingError, match="unknown character '日'"):
        trained(small(sample_start="日本"))
    assert not (home / "runs" / "one").exists()


def test_what_was_done_before_the_first_checkpoint_is_there_once(small):
    folder = interrupted(small(eval_interval=6, sample_interval=6), "one", at_step=3)
    for _ in range(2):
        resumed = runs.resume(folder)
        next(event for event in resumed if isinstance(event, Step))
        resumed.close()
    kinds = [type(event) for event in runs.history(folder)]
    assert (kinds.count(Evaluated), kinds.count(Sampled)) == (1, 1)


def test_a_sample_of_the_step_that_is_resumed_is_not_taken_again(small):
    folder, _ = trained(small(sample_interval=6))
    list(runs.resume(folder, {"max_iters": 18}))
    assert [event.step for event in runs.history(folder) if isinstance(event, Sampled)] == [0, 6, 12, 18]


def test_a_folder_that_is_being_removed_is_not_filled_again(small, monkeypatch):
    monkeypatch.setattr(recorder, "RETRY_S", 0.05)
    monkeypatch.setattr(recorder, "HEARTBEAT_S", 1000)  # its file would come and go while this test removes
    folder, commands, events = runs.new_folder("run", name="one"), CommandQueue(), []
    for event in runs.start(small(), folder, commands=commands):
        events.append(event)
        if isinstance(event, Step) and event.step == 7:
            (folder / "run.toml").unlink()
            for item in list(folder.iterdir()):
                if item.is_file():
                    item.unlink()
        if isinstance(event, Health) and event.state == "waiting":
            assert "is gone" in event.message
            assert not {"events.jsonl", "status.json"} & {item.name for item in folder.iterdir()}
            commands.put(Stop())
    assert expect(Finished, events[-1]).reason == "stopped"


def test_a_stop_command_saves_and_the_run_goes_on_from_there(small):
    whole, _ = trained(small())
    folder, commands = runs.new_folder("run", name="letter"), CommandQueue()
    for event in runs.start(small(), folder, commands=commands):
        if isinstance(event, Step) and event.step == 6:
            commands.put(Stop())
    assert runs.summary(folder).state == "stopped"
    assert expect(runs.Checkpoint, runs.latest(folder)).step == 6
    assert min(steps(runs.resume(folder))) == 7
    assert weights(folder) == weights(whole)


def test_a_last_step_that_a_command_changed_is_the_run_s_own_from_then_on(small):
    folder, commands = runs.new_folder("run", name="shorter"), CommandQueue()
    for event in runs.start(small(), folder, commands=commands):
        if isinstance(event, Step) and event.step == 5:
            commands.put(SetMaxIters(8))
    about = runs.summary(folder)
    assert (about.state, about.step, about.max_iters) == ("finished", 8, 8)


def resume_and_tell(folder, told):
    for event in runs.resume(folder):
        told.send(None)
        if isinstance(event, Step) and event.step == 60:
            signal.pause()  # until it is killed, also if that takes long


def test_loading_a_checkpoint_draws_no_random_numbers_that_a_training_beside_it_would_miss(small):
    folder, _ = trained(small())
    before = torch.get_rng_state()
    runs.load_model(str(folder), device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_that_the_training_removes_while_it_is_read_is_not_called_damaged(small, monkeypatch):
    folder, _ = trained(small())
    path, read = folder / "checkpoints" / "step-00000012", checkpoints._read_trainer

    def and_remove(checkpoint):
        trainer = read(checkpoint)
        shutil.rmtree(checkpoint)
        return trainer

    monkeypatch.setattr(checkpoints, "_read_trainer", and_remove)
    for _ in range(2):
        with pytest.raises(UserError, match="was removed while it was read"):
            checkpoints.read(path)


def test_killed_at_random_moments_a_run_ends_with_the_same_weights(small):
    config = {"max_iters": 60, "eval_interval": 3, "dropout": 0.1}
    whole, _ = trained(small(**config))
    folder = runs.new_folder("run", name="killed")
    interrupted(small(**config), "killed", at_step=1)
    for number in range(4):
        # Each time another number of events after the start, among them moments while a checkpoint is written.
        events, told = Pipe(duplex=False)
        process = Forked(resume_and_tell, folder, told)
        told.close()
        for _ in range(3 + 5 * number):
            events.recv()
        time.sleep(0.003 * number)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    saved = runs.latest(folder)
    assert min(steps(runs.resume(folder))) == (1 if saved is None else saved.step + 1)
    assert weights(folder, 60) == weights(whole, 60)
    assert steps(runs.history(folder)) == steps(runs.history(whole))


def test_a_complete_run_says_so_and_goes_on_with_more_iterations(small):
    folder, _ = trained(small())
    with pytest.raises(UserError, match=r"complete at step 12.*--max_iters"):
        list(runs.resume(folder))
    assert steps(runs.resume(folder, {"max_iters": 15})).keys() == {13, 14, 15}


def test_a_resumed_run_keeps_the_time_at_which_it_was_created(small):
    folder = interrupted(small(), "one", at_step=2)
    tables = read_run_toml(folder)
    tables["run"]["created"] = "2026-01-02T03:04:05+0000"
    (folder / "run.toml").write_text(tomli_w.dumps(tables))
    list(runs.resume(folder))
    assert read_run_toml(folder)["run"]["created"] == "2026-01-02T03:04:05+0000"


def test_a_resumed_run_keeps_its_shape(small):
    folder, _ = trained(small())
    with pytest.raises(SettingError, match="n_layer=2"):
        list(runs.resume(folder, {"n_layer": 2, "max_iters": 20}))


def test_a_resumed_run_notices_that_its_data_set_has_changed(small, text_file):
    folder = interrupted(small(), "one", at_step=5)
    text_file.write_text(text_file.read_text() * 2)
    list(prepare(textfile_recipe([text_file], name="small"), force=True))
    with pytest.raises(UserError, match="not the one that one was trained on"):
        list(runs.resume(folder))


def test_two_trainers_never_share_a_run(small):
    folder = runs.new_folder("run", name="shared")
    first = runs.start(small(), folder)
    for event in first:
        if isinstance(event, Saved):
            break
    assert runs.summary(folder).state == "running"
    with pytest.raises(UserError, match="another process"):
        list(runs.resume(folder))
    list(first)
    assert runs.summary(folder).state == "finished"


def test_a_checkpoint_that_comes_while_a_run_is_being_resumed_is_not_lost(small, monkeypatch):
    """The trainer before saves its last checkpoint after the resume has read one, and before it has the lock."""
    folder = interrupted(small(), "one", at_step=7)
    recorded, read = (folder / "events.jsonl").read_bytes(), checkpoints.read

    def read_while_another_saves(path):
        snapshot = read(path)
        checkpoints.write(folder, replace(snapshot, progress=replace(snapshot.progress, step=7)))
        return snapshot

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "read", read_while_another_saves)
        with pytest.raises(UserError, match="one saved step 7 while it was being resumed: resume it again"):
            list(runs.resume(folder))
    assert (folder / "events.jsonl").read_bytes() == recorded
    assert min(steps(runs.resume(folder))) == 8


def test_a_training_does_not_keep_the_tensors_that_it_began_with(small, monkeypatch):
    folder = interrupted(small(), "one", at_step=7)
    read = checkpoints.read
    found: list[weakref.ref[torch.Tensor]] = []

    def read_and_watch(path, **more):
        snapshot = read(path, **more)
        found.extend(map(weakref.ref, snapshot.model.values()))  # the optimizer keeps those of its state, uncopied
        return snapshot

    monkeypatch.setattr(checkpoints, "read", read_and_watch)
    for events in (runs.resume(folder), runs.start(small(init_from="one"), runs.new_folder("run", name="two"))):
        next(event for event in events if isinstance(event, Step))
        assert found
        assert not [tensor for tensor in found if tensor() is not None]
        found.clear()
        events.close()


def test_a_run_that_another_machine_trains_on_a_shared_disk_is_refused_until_it_is_silent(small):
    folder = interrupted(small(), "one", at_step=6)
    path = folder / "status.json"
    status = json.loads(path.read_text())
    path.write_text(json.dumps(status | {"state": "running", "host": "elsewhere", "updated": time.time()}))
    with pytest.raises(UserError, match="training on 'elsewhere'"):
        list(runs.resume(folder))
    long_ago = time.time() - 1000
    path.write_text(json.dumps(status | {"state": "running", "host": "elsewhere", "updated": long_ago}))
    os.utime(path, (long_ago, long_ago))
    list(runs.resume(folder))
    assert runs.summary(folder).state == "finished"


def test_a_name_that_is_taken_is_refused_and_a_default_name_counts_on(small):
    folder, _ = trained(small())
    with pytest.raises(UserError, match="already"):
        trained(small())
    assert runs.new_folder("one").name == "one-2"
    assert runs.summary(folder).state == "finished"


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a\nb", "x" * 61, "scratch", "resume"])
def test_a_name_that_is_no_folder_name_or_another_start_is_refused(name):
    with pytest.raises(UserError, match="cannot name a run"):
        runs.new_folder("run", name=name)


def test_a_run_without_a_given_name_does_not_get_that_of_another_start(home):
    assert runs.new_folder("resume") == home / "runs" / "resume-2"


def test_a_path_that_is_not_utf_8_is_refused_before_training(small, tmp_path):
    folder = tmp_path / "runs\udcff"
    with pytest.raises(UserError, match=r"runs\\udcff/one' is not UTF-8"):
        list(runs.start(small(), folder / "one"))
    assert not folder.exists()


def test_the_longest_name_of_a_run_fits_a_folder(home):
    name = "\U00010400" * 60  # four bytes each
    assert runs.new_folder("run", name=name).name == name


def test_training_from_the_weights_of_another_run_starts_where_that_one_was(small):
    _, events = trained(small(max_iters=60, learning_rate=1e-2, eval_interval=60))
    _, after = trained(small(init_from="one", eval_interval=12), name="two")
    first = next(event for event in after if isinstance(event, Evaluated))
    assert first.step == 0
    assert first.val_loss == pytest.approx(events[-1].val_loss, abs=1e-6)


def test_a_run_from_the_weights_of_another_has_no_losses_before_its_first_evaluation(small):
    trained(small())
    folder = runs.new_folder("run", name="tuned")
    with closing(runs.start(small(init_from="one", eval_interval=100), folder)) as events:
        next(event for event in events if isinstance(event, Step))
        about = runs.summary(folder)
    assert (about.val_loss, about.best_val_loss, about.ema_val_loss) == (None, None, None)


def test_other_weights_can_be_cropped_to_a_shorter_window(small):
    trained(small())
    folder, _ = trained(small(init_from="one", block_size=8), name="short")
    assert runs.load_model("short").model.config.block_size == 8
    assert tomllib.loads((folder / "run.toml").read_text())["model"]["block_size"] == 8


def test_weights_of_another_tokenizer_are_refused(small, tmp_path):
    trained(small())
    other = tmp_path / "other.txt"
    other.write_text("xyz " * 500)
    list(prepare(textfile_recipe([other], name="other")))
    with pytest.raises(SettingError, match="tokenizer"):
        trained(small(init_from="one", dataset="other"), name="two")


def test_eval_only_measures_a_run_and_writes_nothing(small, home):
    folder, events = trained(small(eval_iters=0))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    evaluated = [e for e in runs.resume(folder, {"eval_only": True}) if isinstance(e, Evaluated)]
    assert evaluated[0].val_loss == pytest.approx(events[-1].val_loss, abs=1e-6)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    list(runs.start(small(eval_only=True), home / "runs" / "none"))
    assert not (home / "runs" / "none").exists()


def test_a_data_set_that_is_neither_prepared_nor_a_recipe_is_named_and_leaves_no_run(small, home):
    with pytest.raises(UserError, match="shakespear"):
        trained(small(dataset="shakespear_char"))
    assert not (home / "runs").exists()


def test_a_vocabulary_smaller_than_the_tokenizer_s_is_refused(small):
    with pytest.raises(SettingError, match="vocab_size=3"):
        trained(small(vocab_size=3))


def test_an_id_outside_the_vocabulary_is_found_before_training_wherever_it_stands(small, home):
    dataset = open_dataset("small")
    for split in ("train", "val"):
        path = dataset.path / f"{split}.bin"
        content = path.read_bytes()
        path.write_bytes(content[:-2] + b"\x00\xf0")  # the last id is 0xf000, little-endian
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
        with pytest.raises(UserError, match=rf"{split}\.bin has the token id 61,440.*prepare it again"):
            trained(small(max_iters=1, eval_interval=10))
        assert not (home / "runs" / "one").exists()
        path.write_bytes(content)


def test_a_padded_vocabulary_trains_and_samples(small):
    trained(small(vocab_size=128))
    assert runs.load_model("one").model.config.vocab_size == 128


def test_a_training_that_cannot_start_leaves_no_folder_behind(small, home):
    with pytest.raises(UserError, match="block_size"):
        trained(small(block_size=100_000))
    assert not (home / "runs" / "one").exists()


def test_a_place_where_no_folder_can_be_made_is_one_line(small, home):
    home.mkdir(exist_ok=True)
    (home / "runs").write_text("a file is in the way")
    with pytest.raises(UserError, match="cannot write in"):
        trained(small())


class Disk:
    """Refuses the files of a name while it is full."""

    def __init__(self, monkeypatch, name):
        self.is_full = False

        def refusing(real):
            def write(path, *rest):
                if self.is_full and path.name == name:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
                return real(path, *rest)

            return write

        monkeypatch.setattr(files, "sync", refusing(files.sync))
        monkeypatch.setattr(recorder, "write_atomically", refusing(files.write_atomically))
        for module in (saving, recorder):
            monkeypatch.setattr(module, "RETRY_S", 0.05)


@pytest.mark.parametrize(("name", "saved"), [("optimizer.safetensors", {4}), ("status.json", {4, 6, 8})])
def test_a_full_disk_makes_training_wait_and_it_goes_on_when_there_is_space(small, monkeypatch, name, saved):
    disk = Disk(monkeypatch, name)
    folder = runs.new_folder("run", name="full")
    events, at_health = [], []
    for event in runs.start(small(checkpoint_interval=2), folder):
        events.append(event)
        if isinstance(event, Saved) and event.step == 4:
            disk.is_full = True
        if isinstance(event, Health) and event.state == "waiting":
            at_health.append(runs.summary(folder).state)
            assert expect(runs.Checkpoint, runs.latest(folder)).step in saved
            disk.is_full = False
    assert "the disk is full" in next(e.message for e in events if isinstance(e, Health) and e.state == "waiting")
    assert [e.state for e in events if isinstance(e, Health)][:2] == ["waiting", "going on"]
    assert at_health == ["paused" if name != "status.json" else "running"], "as far as it can be written"
    assert list(runs.read_events(folder)) == events, "nothing is lost"
    whole, _ = trained(small(checkpoint_interval=2), name="whole")
    assert weights(folder) == weights(whole)


def test_while_the_disk_is_full_training_can_be_stopped_and_the_last_checkpoint_stays_whole(small, monkeypatch):
    disk = Disk(monkeypatch, "model.safetensors")
    folder, commands = runs.new_folder("run", name="full"), CommandQueue()
    events = []
    for event in runs.start(small(checkpoint_interval=2), folder, commands=commands):
        events.append(event)
        if isinstance(event, Saved) and event.step == 4:
            disk.is_full = True
        if isinstance(event, Health) and event.state == "waiting":
            commands.put(Stop())
    assert expect(Finished, events[-1]).reason == "stopped"
    assert expect(Finished, events[-1]).step >= 6, "it goes on while the checkpoint of step 6 is written beside"
    assert "stopped without one" in expect(Notice, events[-2]).text
    assert expect(runs.Checkpoint, runs.latest(folder)).step == 4
    assert not list((folder / "checkpoints").glob("*.partial"))
    disk.is_full = False
    whole, _ = trained(small(checkpoint_interval=2), name="whole")
    list(runs.resume(folder))
    assert weights(folder) == weights(whole)


def test_a_run_folder_that_vanishes_makes_training_wait_until_it_is_back(small, monkeypatch):
    monkeypatch.setattr(saving, "RETRY_S", 0.05)
    monkeypatch.setattr(recorder, "RETRY_S", 0.05)
    folder = runs.new_folder("run", name="one")
    away = folder.with_name("elsewhere")
    events = []
    for event in runs.start(small(), folder):
        events.append(event)
        if isinstance(event, Step) and event.step == 7:
            folder.rename(away)
        if isinstance(event, Health) and event.state == "waiting":
            assert "is gone" in event.message
            assert not folder.exists(), "it is not made anew"
            away.rename(folder)
    assert expect(Finished, events[-1]).reason == "max_iters"
    assert list(runs.read_events(folder)) == events
    assert expect(runs.Checkpoint, runs.latest(folder)).step == 12


def test_a_copy_that_takes_the_folder_s_place_gets_every_event_from_then_on(small):
    folder = runs.new_folder("run", name="one")
    away = folder.with_name("elsewhere")
    events = []
    for event in runs.start(small(), folder):
        events.append(event)
        if isinstance(event, Step) and event.step == 7:
            folder.rename(away)
            shutil.copytree(away, folder)
    assert list(runs.read_events(folder)) == events
    assert len(list(runs.read_events(away))) < len(events)


def test_what_is_recorded_where_the_events_cannot_be_is_kept_until_they_can(small, monkeypatch):
    monkeypatch.setattr(recorder, "RETRY_S", 0.05)
    folder = runs.new_folder("run", name="one")
    recorded = folder / "events.jsonl"
    events = []
    for event in runs.start(small(), folder):
        events.append(event)
        if isinstance(event, Step) and event.step == 7:
            recorded.rename(folder / "elsewhere")
            recorded.mkdir()
        if isinstance(event, Health) and event.state == "waiting":
            recorded.rmdir()
            (folder / "elsewhere").rename(recorded)
    assert [event.state for event in events if isinstance(event, Health)][:2] == ["waiting", "going on"]
    assert list(runs.read_events(folder)) == events


def test_a_training_whose_folder_was_removed_can_be_stopped(small, monkeypatch):
    monkeypatch.setattr(saving, "RETRY_S", 0.05)
    monkeypatch.setattr(recorder, "RETRY_S", 0.05)
    folder, commands, events = runs.new_folder("run", name="one"), CommandQueue(), []
    for event in runs.start(small(), folder, commands=commands):
        events.append(event)
        if isinstance(event, Step) and event.step == 7:
            while folder.exists():  # a checkpoint may be written meanwhile
                shutil.rmtree(folder, ignore_errors=True)
        if isinstance(event, Health) and event.state == "waiting":
            commands.put(Stop())
    assert expect(Finished, events[-1]).reason == "stopped"
    assert not folder.exists(), "it is not made anew"


def test_a_loss_that_ends_in_nan_goes_back_with_half_the_learning_rate_where_it_is_asked_to(small, monkeypatch):
    real = train

    def poisoned(config, tokens, **more):
        """Step 7 has a loss of NaN until the learning rate is a quarter."""
        step = OptimizerStep.run

        def bad(self):
            if self.progress.step == 6 and self.progress.learning_rate_scale > 0.25:
                return float("nan"), 1.0, 1.0
            return step(self)

        monkeypatch.setattr(OptimizerStep, "run", bad)
        return real(config, tokens, **more)

    monkeypatch.setattr("nanogpt.runs.launch.train", poisoned)
    folder, events = trained(small(on_divergence="rollback"))
    assert [e.step for e in events if isinstance(e, Started)] == [0, 4, 4]
    assert [e.step for e in events if isinstance(e, Step)] == [1, 2, 3, 4, 5, 6, 5, 6, *range(5, 13)]
    assert expect(Finished, events[-1]).reason == "max_iters"
    assert [e.step for e in runs.history(folder) if isinstance(e, Step)] == list(range(1, 13))


def test_the_lower_learning_rate_of_a_rollback_outlives_a_kill_before_the_next_checkpoint(small, monkeypatch):
    step = OptimizerStep.run

    def bad(self):
        """Step 7 has a loss of NaN at the first learning rate."""
        if self.progress.step == 6 and self.progress.learning_rate_scale == 1.0:
            return math.nan, 1.0, 1.0
        return step(self)

    monkeypatch.setattr(OptimizerStep, "run", bad)
    folder, starts = runs.new_folder("run", name="one"), 0
    with closing(runs.start(small(on_divergence="rollback"), folder)) as events:
        for event in events:
            starts += isinstance(event, Started)
            if starts == 2:
                break
    last = expect(runs.Checkpoint, runs.latest(folder))
    assert (last.step, checkpoints.progress(last.path)["learning_rate_scale"]) == (4, 0.5)
    resumed = list(runs.resume(folder))
    assert [event.step for event in resumed if isinstance(event, Started)] == [4], "without another rollback"
    assert expect(Finished, resumed[-1]).reason == "max_iters"


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_going_back_passes_over_a_checkpoint_of_weights_that_have_gone_wrong_already(small, monkeypatch, kind):
    step = OptimizerStep.run

    def bad(self):
        if self.progress.step == 8 and self.progress.learning_rate_scale == 1.0:
            return (math.nan, 1.0, 1.0) if kind == "loss" else (1.0, math.inf, 1.0)
        return step(self)

    monkeypatch.setattr(OptimizerStep, "run", bad)
    _, events = trained(small(on_divergence="rollback", checkpoint_interval=4))
    assert [e.step for e in events if isinstance(e, Started)] == [0, 4], "that of step 8 gives NaN whatever the rate"
    assert expect(Finished, events[-1]).reason == "max_iters"


@pytest.mark.parametrize(
    ("losses", "bests"),
    [
        ([3.0, 2.0, math.nan, 2.5], [3.0, 2.0, 2.0, 2.0]),
        ([math.nan, 2.0, 3.0, 2.5], [math.nan, 2.0, 2.0, 2.0]),
    ],
)
def test_a_validation_loss_of_nan_is_never_the_best(small, monkeypatch, losses, bests):
    from nanogpt.training import loop

    measured = iter([loss for loss in losses for _split in ("val", "train")])

    def evaluate(*_args, **_more):
        yield
        return next(measured), 4

    monkeypatch.setattr(loop, "evaluate", evaluate)
    folder, events = trained(small(always_save_checkpoint=True))
    evaluations = [event for event in events if isinstance(event, Evaluated)]
    assert [event.best_val_loss for event in evaluations] == pytest.approx(bests, nan_ok=True)
    assert [event.is_best for event in evaluations] == [math.isfinite(losses[0]), True, False, False]
    assert expect(runs.Checkpoint, runs.best(folder)).step == 4
    assert expect(runs.Checkpoint, runs.latest(folder)).step == 12


def test_going_back_ends_after_three_times_and_removes_what_came_after(small):
    config = small(
        learning_rate=1000,
        min_lr=1000,
        decay_lr=False,
        warmup_iters=0,
        grad_clip=0,
        weight_decay=1000,
        max_iters=500,
        on_divergence="rollback",
        checkpoint_interval=1,
    )
    folder, events = trained(config)
    assert expect(Finished, events[-1]).reason == "nan"
    assert [e.state for e in events if isinstance(e, Health) and e.state in ("rollback", "nan")] == [
        *["rollback"] * 3,
        "nan",
    ]
    assert expect(runs.Checkpoint, runs.latest(folder)).step <= expect(Finished, events[-1]).step


def test_nan_keeps_the_last_good_checkpoint_and_marks_the_run_failed(small):
    high = {"learning_rate": 1000, "min_lr": 1000, "decay_lr": False, "weight_decay": 1000}
    config = small(**high, grad_clip=0, max_iters=500, checkpoint_interval=1)
    folder, events = trained(config)
    assert expect(Finished, events[-1]).reason == "nan"
    about = runs.summary(folder)
    assert about.state == "failed"
    assert "learning_rate" in about.message
    kept = runs.list_checkpoints(folder)
    assert kept
    for checkpoint in kept:
        runs.load_model(str(checkpoint.path))


def test_the_layers_of_a_model_that_a_single_process_does_not_divide_are_measured(small):
    _, events = trained(small(sharding="fsdp", max_iters=1, health_interval=1))
    assert any(isinstance(event, LayerHealth) for event in events)


def test_out_of_memory_is_recorded_with_what_to_lower(small, monkeypatch):
    def exhausted(self):
        raise MemoryError

    monkeypatch.setattr(OptimizerStep, "run", exhausted)
    with pytest.raises(UserError, match="out of memory: lower batch_size"):
        trained(small())
    about = runs.summary(runs.find("one"))
    assert about.state == "failed"
    assert about.message.startswith("out of memory: lower batch_size")


def test_listing_puts_the_newest_first_and_an_unreadable_run_does_not_hide_the_others(small, home):
    trained(small(max_iters=1), name="old")
    trained(small(max_iters=1), name="new")
    (home / "runs" / "old" / "status.json").write_text("{")
    found = runs.list_runs()
    assert {summary.name: summary.state for summary in found} == {"new": "finished", "old": "failed"}
    assert "status.json" in next(summary.message for summary in found if summary.name == "old")


def test_status_json_is_strict_json_even_when_losses_are_not_finite(small):
    folder, _ = trained(small(max_iters=2))
    status = json.loads((folder / "status.json").read_text(), parse_constant=pytest.fail)
    assert status["step"] == 2


def test_a_run_whose_checkpoints_were_removed_does_not_start_over(small):
    folder, _ = trained(small())
    before = (folder / "events.jsonl").read_bytes()
    shutil.rmtree(folder / "checkpoints")
    for changes in ({"max_iters": 16}, {"eval_only": True}):
        with pytest.raises(UserError, match=r"saved at step 12, but .* has no checkpoint any more: put them back"):
            list(runs.resume(folder, changes))
    assert (folder / "events.jsonl").read_bytes() == before
    assert runs.summary(folder).state == "finished"


def test_a_run_that_never_saved_starts_again_and_says_so(small):
    folder = interrupted(small(), "one", at_step=2)  # the first checkpoint is due at step 4
    with pytest.raises(UserError, match="no checkpoint yet that could be evaluated"):
        list(runs.resume(folder, {"eval_only": True}))
    events = list(runs.resume(folder))
    assert [type(event) for event in events[:2]] == [Started, Notice]
    notice = expect(Notice, events[1])
    assert "one ended before it saved its first checkpoint: it starts again at step 0" in notice.text
    assert [event.text for event in runs.history(folder) if isinstance(event, Notice)] == [notice.text]
    assert runs.summary(folder).step == 12
    again = list(runs.resume(folder, {"max_iters": 16}))
    assert not any(isinstance(event, Notice) for event in again)


def test_resuming_watches_whether_a_trainer_elsewhere_lives_that_is_gone_by_its_clock(small, monkeypatch):
    folder = interrupted(small(), "one", at_step=6)
    late = time.time() - 86400

    def beat(state="running"):
        nonlocal late
        late += 1
        status = json.loads((folder / "status.json").read_text())
        status |= {"state": state, "host": "elsewhere", "updated": late}
        (folder / "status.json").write_text(json.dumps(status))
        os.utime(folder / "status.json", (late, late))

    beat()
    with monkeypatch.context() as patch:
        patch.setattr("nanogpt.runs.launch.time.sleep", lambda _: beat())
        with pytest.raises(UserError, match="training on 'elsewhere'"):
            list(runs.resume(folder))
    monkeypatch.setattr("nanogpt.runs.folder._last_heartbeats", {})
    monkeypatch.setattr("nanogpt.runs.folder.RECHECK_S", 0.01)
    assert isinstance(list(runs.resume(folder))[-1], Finished)
