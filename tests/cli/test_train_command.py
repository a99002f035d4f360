"""`nanogpt train`, `runs`, `info`, `bench`, `config` and `quickstart` as a person uses them."""

import json
import os
import signal
import time
import tomllib
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest

from nanogpt import runs
from nanogpt.cli import main, training_display
from nanogpt.cli.console import print_message
from nanogpt.cli.runs import run_option
from nanogpt.cli.train import detached, finish
from nanogpt.cli.training_display import show
from nanogpt.config import preset_names, settings
from nanogpt.events import Acknowledged, Downloading, Finished, Notice
from nanogpt.runs import quickstart
from nanogpt.runs.folder import run_config, runs_folder
from nanogpt.training import CommandQueue, Stop
from tests import forked
from tests.made_events import started, stepped
from tests.narrowing import expect

FINISHED = Finished(step=3, reason="max_iters", train_loss=None, val_loss=None, best_val_loss=None, elapsed_s=1.0)


def test_training_ends_with_a_sample_on_stdout_and_everything_else_on_stderr(small, capsys):
    assert main(["train", *small, "--name=one"]) == 0
    out, err = capsys.readouterr()
    assert len(out.strip("\n")) >= 15
    assert "val loss" in err
    assert "nanogpt sample one" in err
    assert "step 6: saved" in err
    assert "\r" not in err, "no line is rewritten where there is no terminal"


def test_the_commands_that_are_printed_quote_the_name_and_the_sample_keeps_its_line_ends(
    small, text_file, tmp_path, monkeypatch, capsys
):
    assert main(["prepare", "textfile", str(text_file), "--tokenizer=byte", "--output=bytes"]) == 0
    own = ["--dataset=bytes", "--name=my run", "--max_iters=1", "--sample_start=a\r\nb\rc"]
    assert main(["train", *small, *own]) == 0
    out, err = capsys.readouterr()
    assert "a\r\nb␍c" in out
    assert "nanogpt sample 'my run'\n" in err
    assert detached(runs.find("my run"), 5) == 0
    out, err = capsys.readouterr()
    assert out == "my run\n"
    assert "nanogpt watch 'my run'  Stop: nanogpt ctl 'my run' stop" in err
    assert run_option(runs.find("my run")) == "--name='my run'"
    monkeypatch.setenv("NANOGPT_RUNS_DIR", str(tmp_path / "other"))
    assert run_option(tmp_path / "my run") == f"--out_dir='{tmp_path}/my run'"


def test_names_can_be_typed_with_dashes_and_values_apart(small, capsys):
    assert main(["train", *small, "--name", "one", "--max-iters", "2", "--learning-rate", "1e-2"]) == 0
    assert run_config(runs.find("one")).optimizer.learning_rate == 0.01
    assert runs.summary(runs.find("one")).step == 2


def test_a_run_is_named_after_data_set_and_preset_unless_it_is_given_a_name(small, capsys):
    for _ in range(2):
        assert main(["train", "--preset=macbook", *small]) == 0
    assert {summary.name for summary in runs.list_runs()} == {"small-macbook", "small-macbook-2"}


def test_out_dir_puts_the_run_where_nanogpt_s_users_expect_it(small, tmp_path, capsys):
    folder = tmp_path / "out-small"
    assert main(["train", *small, f"--out_dir={folder}"]) == 0
    assert (folder / "run.toml").exists()
    capsys.readouterr()
    assert main(["sample", str(folder), "--max_new_tokens=5"]) == 0
    assert main(["train", "--init_from=resume", f"--out_dir={folder}", "--max_iters=8"]) == 0
    assert runs.summary(folder).step == 8


def test_a_file_of_settings_is_read_and_flags_win_over_it(small, tmp_path, capsys):
    assert main(["config", "--toml", *small]) == 0
    file = tmp_path / "mine.toml"
    file.write_text(capsys.readouterr().out)
    assert main(["train", str(file), "--max_iters=2", "--name=one"]) == 0
    assert runs.summary(runs.find("one")).max_iters == 2


def test_the_line_of_progress_knows_a_last_step_that_was_changed(capsys, monkeypatch):
    monkeypatch.setattr(training_display, "live_line", lambda: nullcontext(print_message))
    told = Acknowledged(step=1, command="SetMaxIters", text="last iteration 5,000", max_iters=5000)
    show(iter([started(max_iters=1500), stepped(1), told, stepped(2)]))
    err = capsys.readouterr().err
    assert "step     1/1,500" in err
    assert "step     2/5,000" in err


def test_a_training_is_shown_also_if_the_preparation_before_it_has_failed(capsys):
    begun = Downloading(source="http://host/text", done_bytes=1, total_bytes=9)
    instead = Notice(level="warning", text="it could not be downloaded; training on another text instead")
    assert show(iter([begun, instead, started(max_iters=3), stepped(1), FINISHED])) == FINISHED
    err = capsys.readouterr().err
    assert "on another text instead\n" in err
    assert "for 3 iterations" in err


def test_the_length_of_a_training_is_told_in_plain_figures(capsys):
    show(iter([started(max_iters=1625), started(max_iters=1)]))  # 1,625 · 8 tokens of 100 are 130 epochs
    err = capsys.readouterr().err
    assert "8 tokens per iteration, for 1,625 iterations (130 epochs)" in err
    assert "for 1 iteration (0.080 epochs)" in err
    assert "1 thread\n" in err


def test_a_resume_does_not_say_that_something_was_asked_for(small, capsys):
    automatic = [word for word in small if not word.startswith(("--dtype", "--compile"))]
    assert main(["train", *automatic, "--name=one"]) == 0
    assert "  dtype: " in capsys.readouterr().err
    assert main(["train", "--init_from=resume", "--name=one", "--max_iters=7"]) == 0
    err = capsys.readouterr().err
    assert "as asked" not in err
    assert "dtype:" not in err


def test_info_names_the_settings_that_are_not_the_defaults_and_were_not_chosen_for_the_machine(small, capsys):
    assert main(["train", *small, "--name=one"]) == 0
    capsys.readouterr()
    assert main(["info", "one"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("settings"))
    assert {"n_layer=1", "n_head=2", "n_embd=16"} <= set(line.split())
    assert not [name for name in ("device", "dtype", "compile", "threads", "vocab_size") if f"{name}=" in line]


def test_a_run_goes_on_with_the_file_that_it_was_begun_with(small, tmp_path, capsys):
    assert main(["config", "--toml", *small]) == 0
    file = tmp_path / "mine.toml"
    file.write_text('preset = "macbook"\n' + capsys.readouterr().out)
    assert main(["train", str(file), "--name=one"]) == 0
    assert main(["train", str(file), "--init_from=resume", "--name=one", "--max_iters=8"]) == 0
    assert runs.summary(runs.find("one")).step == 8


def test_what_a_file_says_otherwise_than_the_run_did_is_a_change(small, tmp_path, capsys):
    assert main(["train", *small, "--name=one"]) == 0
    file = tmp_path / "other.toml"
    file.write_text("max_iters = 8\n")
    assert main(["train", str(file), "--init_from=resume", "--name=one"]) == 0
    assert runs.summary(runs.find("one")).step == 8
    capsys.readouterr()
    assert main(["train", "--preset=baby", "--init_from=resume", "--name=one", "--max_iters=9"]) == 2
    assert "a resumed run keeps its shape" in capsys.readouterr().err
    assert main(["train", "--preset=speedrun", "--init_from=resume", "--name=one"]) == 2  # with settings it has not
    err = capsys.readouterr().err
    assert "a resumed run keeps its shape" in err
    assert err.count("\n") == 1


def test_a_setting_of_a_component_of_the_run_is_changed_without_naming_the_component(small, capsys):
    assert main(["train", *small, "--schedule=wsd", "--name=one"]) == 0
    assert main(["train", "--init_from=resume", "--name=one", "--final_lr=0.1", "--max_iters=8"]) == 0
    values = run_config(runs.find("one")).values()
    assert (values["schedule"], values["final_lr"], runs.summary(runs.find("one")).step) == ("wsd", 0.1, 8)


def test_a_resume_that_is_refused_leaves_the_run_as_it_was(small, capsys):
    assert main(["train", *small, "--name=one"]) == 0
    status = runs.find("one") / "status.json"
    before = status.read_bytes()
    words = ["train", "--init_from=resume", "--name=one", "--max_iters=9", "--device=cuda:7"]
    assert main(words) == 2
    assert main([*words, "--detach"]) == 2
    assert "cuda" in capsys.readouterr().err
    assert status.read_bytes() == before


def test_resuming_without_a_name_takes_the_newest_run(small, capsys):
    assert main(["train", *small, "--name=one"]) == 0
    assert main(["train", "--init_from=resume", "--max_iters=9"]) == 0
    assert runs.summary(runs.find("one")).step == 9


def test_eval_only_prints_the_losses_and_leaves_no_run(small, capsys):
    assert main(["train", *small, "--eval_only"]) == 0
    assert capsys.readouterr().out.startswith("train loss ")
    assert runs.list_runs() == []


def test_a_training_that_ends_in_nan_has_exit_code_1(small, capsys):
    words = ["--learning_rate=1000", "--min_lr=1000", "--decay_lr=false", "--grad_clip=0", "--weight_decay=1000"]
    assert main(["train", *small, *words, "--max_iters=500", "--name=bad"]) == 1
    assert "lower learning_rate" in capsys.readouterr().err.lower()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--n_embd=100", "--n_head=3"], "n_embd=100 is not divisible by n_head=3"),
        (["--learning_rate=nan"], "learning_rate=nan: has to be a finite number"),
        (["--dropout=1.5"], "dropout=1.5: has to be at least 0 and below 1"),
        (["--nlayer=3"], "unknown option --nlayer. Did you mean --n_layer?"),
        (["--dataset=smal"], "smal"),
        (["--preset=macbok"], "Did you mean macbook?"),
        (["--block_size=90000"], "lower block_size to at most"),
        (["--init_from=nobody"], "no run 'nobody'"),
        (["--name=a/b"], "cannot name a run"),
        (["--checkpoint_interval=1e300"], "checkpoint_interval=1e300: has to be at least 0 and at most 1,000,000"),
        (["--name=a", "--out_dir=b"], "give only one"),
        (["old_config.py"], "TOML or JSON"),
        (["--device=cuda:7"], "device"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_exit_code_2(small, capsys, words, said):
    assert main(["train", *small, *words]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert err.count("\n") == 1
    assert out == ""
    assert runs.list_runs() == []


def test_info_has_the_figures_that_scripts_want(small, capsys):
    main(["train", *small, "--name=one"])
    capsys.readouterr()
    assert main(["info", "one", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    names = "name state step train_loss val_loss best_val_loss tokens_per_second mfu n_parameters checkpoints"
    assert set(names.split()) <= about.keys()
    assert (about["name"], about["state"], about["step"]) == ("one", "finished", 6)
    assert [checkpoint["step"] for checkpoint in about["checkpoints"]][-1] == 6
    assert about["config"]["model"]["n_embd"] == 16
    assert main(["info"]) == 0
    assert "finished" in capsys.readouterr().out


def test_runs_is_a_table_and_json(small, capsys):
    main(["train", *small, "--name=one"])
    capsys.readouterr()
    assert main(["runs"]) == 0
    assert "one" in capsys.readouterr().out
    assert main(["runs", "--json"]) == 0
    assert [run["name"] for run in json.loads(capsys.readouterr().out)] == ["one"]


def test_config_says_where_each_value_comes_from(tmp_path, capsys):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"preset": "baby", "max_iters": 77}))
    assert main(["config", "--json", str(file), "--dropout=0.1"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known.keys() == settings().keys()
    assert [known[name]["source"] for name in ("n_layer", "max_iters", "dropout", "seed")] == [
        "preset baby",
        str(file),
        "flag",
        "default",
    ]


def test_config_lists_the_presets_and_says_why_one_cannot_be_used(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("NANOGPT_CONFIG_DIR", str(tmp_path))
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "broken.toml").write_text("n_layer = ")
    (tmp_path / "presets" / "._hidden.toml").write_text("n_layer = ")
    assert main(["config", "--presets"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in preset_names())
    assert "broken.toml: Invalid value" in listed
    assert "hidden" not in listed


def test_the_lists_of_config_are_json_too(capsys):
    assert main(["config", "--presets", "--json"]) == 0
    presets = {each["preset"]: each["help"] for each in json.loads(capsys.readouterr().out)}
    assert list(presets) == list(preset_names())
    assert "two modern blocks" in presets["shakespeare-small"]
    assert main(["config", "--components", "--json"]) == 0
    assert {"kind": "optimizer", "name": "muon"}.items() <= next(
        each for each in json.loads(capsys.readouterr().out) if each["name"] == "muon"
    ).items()


@pytest.mark.parametrize("command", ["config", "bench"])
def test_settings_of_a_run_that_would_be_resumed_are_not_taken_for_defaults(command, capsys):
    assert main([command, "--init_from=resume"]) == 2
    assert "takes the settings of a run: `nanogpt info RUN` shows them" in capsys.readouterr().err


def test_config_as_toml_is_a_file_that_means_the_same(tmp_path, capsys):
    assert main(["config", "--toml", "--preset=baby"]) == 0
    tables = tomllib.loads(capsys.readouterr().out)
    assert tables["model"]["n_layer"] == 6


def test_quickstart_without_a_network_says_why_and_trains_on_python_itself(capsys, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # the discard port, where nobody listens
    assert main(["quickstart", "--max_iters=3", "--name=first"]) == 0
    out, err = capsys.readouterr()
    assert "could not be downloaded" in err
    assert quickstart.OFFLINE in err
    assert len(out) > 100
    assert runs.summary(runs.find("first")).dataset == quickstart.OFFLINE


@pytest.fixture
def start(tmp_path):
    """Starts a command in a process; returns the process and the lines that it writes."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ExitStack() as opened:

        def start(words):
            process = forked.nanogpt(words, output=pipe)
            opened.callback(process.kill)
            return process, opened.enter_context(pipe.open(encoding="utf-8"))

        yield start


def wait_for(lines, said):
    for line in lines:
        if said in line:
            return
    raise AssertionError(f"ended without saying {said!r}")


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_resume(small, start):
    process, lines = start(["train", *small, "--max_iters=1000000", "--name=one", "--eval_interval=500"])
    wait_for(lines, "step 500: saved")
    process.send_signal(signal.SIGINT)
    assert "nanogpt train --init_from=resume --name=one" in lines.read()
    assert process.wait(60) == 0
    about = runs.summary(runs.find("one"))
    assert about.state == "stopped"
    assert expect(runs.Checkpoint, runs.latest(runs.find("one"))).step == about.step >= 500
    assert main(["train", "--init_from=resume", "--name=one", f"--max_iters={about.step + 2}"]) == 0


def test_a_second_ctrl_c_leaves_at_once(small, start):
    process, lines = start(["train", *small, "--gradient_accumulation_steps=1000000", "--name=one"])
    wait_for(lines, "step 0")
    process.send_signal(signal.SIGINT)
    wait_for(lines, "press Ctrl+C again")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130


C, TERM = signal.SIGINT, signal.SIGTERM
AT_ONCE, LATER = 1e9, -1.0  # limits in which a second signal is not, or is another one


@pytest.mark.parametrize(
    ("rank", "received", "repeat_s", "code"),
    [
        (None, [C, C], AT_ONCE, 130),
        (None, [TERM, TERM], AT_ONCE, 143),
        ("0", [C, C], AT_ONCE, None),  # sent to all processes, and passed on
        ("0", [C, C], LATER, 130),
        ("1", [C, C], LATER, 130),
        ("0", [TERM, TERM], LATER, None),
        ("0", [C, TERM], LATER, None),  # another process has failed while this one saves
        ("0", [TERM, C], LATER, None),
        ("0", [TERM, C, C], LATER, 130),
    ],
)
def test_a_repeated_signal_exits_only_if_a_person_sent_it_again(rank, received, repeat_s, code, monkeypatch, capfd):
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    monkeypatch.setattr(training_display, "REPEAT_S", repeat_s)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    commands = CommandQueue()
    with training_display.interruptible(commands):
        for number in received:
            signal.raise_signal(number)
    assert exits == ([code] if code else [])
    assert commands.take() == [Stop()]
    is_told = rank is None or (rank == "0" and C in received)
    assert capfd.readouterr().err.count("press Ctrl+C again") == is_told


def test_ctrl_c_while_the_data_is_prepared_leaves_nothing_half_written(home, tmp_path, text, start):
    large = tmp_path / "large.txt"
    with large.open("w") as file:
        for _ in range(3000):
            file.write(text)
    process, lines = start(["prepare", "textfile", str(large), "--output=large", "--tokenizer=char"])
    folder = Path(home) / "data"
    while process.poll() is None and not list(folder.glob(".*")):
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    lines.read()
    assert process.wait(60) in (0, 130)
    assert [item.name for item in folder.iterdir()] == (["large"] if process.returncode == 0 else [])


def test_a_run_whose_folder_was_removed_is_not_said_to_go_on(tmp_path, capsys):
    gone = tmp_path / "gone"
    end = Finished(step=7, reason="stopped", train_loss=1.0, val_loss=None, best_val_loss=None, elapsed_s=1.0)
    assert finish(end, gone) == 0
    assert capsys.readouterr().err == f"stopped at step 7; its folder {gone} is gone\n"
    assert finish(end, gone, eval_only=True) == 0
    assert capsys.readouterr().err == "stopped; nothing was evaluated\n"


def test_processes_are_started_with_the_settings_and_the_folder(small, capsys, monkeypatch):
    started_with = []

    def replace_by_launcher(processes, threads, arguments):
        started_with.append((processes, threads, arguments))
        raise SystemExit(0)

    monkeypatch.setattr("nanogpt.cli.train.replace_by_launcher", replace_by_launcher)
    with pytest.raises(SystemExit):
        main(["train", *small, "--name=many", "--processes=3", "--threads=2"])
    ((processes, threads, arguments),) = started_with
    assert (processes, threads) == (3, 2)
    assert {"--processes=3", f"--out_dir={runs_folder() / 'many'}", "--bias=false"} <= set(arguments)
    assert main(["train", *small, "--name=many"]) == 0
    with pytest.raises(SystemExit):
        main(["train", "--init_from=resume", "--name=many", "--processes=2", "--max_iters=9"])
    assert set(started_with[1][2]) == {
        "--processes=2", "--max_iters=9", "--threads=0", "--init_from=resume", f"--out_dir={runs_folder() / 'many'}"
    }, "one process had all the threads"  # fmt: skip
    for words in ([*small, "--name=other"], ["--init_from=resume", "--name=many"]):
        assert main(["train", *words, "--processes=5"]) == 2
        assert "processes=5: a step has 4 sequences, and each process needs one" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "0")
    assert main(["train", *small]) == 2
    assert "add --name=NAME" in capsys.readouterr().err


def test_a_relative_folder_is_resumed_and_not_the_run_of_that_name(small, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *small, "--name=one", "--max_iters=3"]) == 0
    assert main(["train", *small, "--out_dir=one", "--max_iters=3"]) == 0
    capsys.readouterr()
    assert main(["train", "--init_from=resume", "--out_dir=one", "--max_iters=4"]) == 0
    assert f"in {tmp_path / 'one'}\n" in capsys.readouterr().err
    assert runs.find("one") == runs_folder() / "one"
    assert runs.find("./one") == tmp_path / "one"
    assert expect(runs.Checkpoint, runs.latest(runs.find("one"))).step == 3


def test_a_run_without_a_checkpoint_is_said_to_start_again_and_the_folder_of_the_data_is_named(small, capsys):
    assert main(["train", *small, "--name=one", "--max_iters=2"]) == 0
    folder, data = runs.find("one"), Path("my data")
    end = Finished(step=2, reason="stopped", train_loss=1.0, val_loss=None, best_val_loss=None, elapsed_s=1.0)
    capsys.readouterr()
    assert finish(end, folder, data_dir=data) == 0
    command = "nanogpt train --init_from=resume --name=one --data_dir='my data'"
    assert capsys.readouterr().err == f"stopped at step 2; resume with: {command}\n"
    other = folder.with_name("two")
    other.mkdir()
    (other / "run.toml").touch()
    assert finish(end, other) == 0
    assert "it has no checkpoint; start again at step 0 with: nanogpt train" in capsys.readouterr().err
