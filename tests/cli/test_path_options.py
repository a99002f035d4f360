"""Where paths lead: `~` in every option and file, and a user without a home folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nanogpt import paths, runs
from nanogpt.cli import main
from nanogpt.errors import UserError


@pytest.fixture
def person(tmp_path, monkeypatch):
    """The home folder of the person, and another folder that they work in."""
    folder = tmp_path / "person"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(folder))
    return folder


def done(*words):
    assert main(list(words)) == 0, words


def test_a_tilde_is_the_home_folder_in_every_path_option(person, small, text, tmp_path, capsys, monkeypatch):
    done("train", *small, "--out_dir=~/run")
    assert runs.summary(person / "run").step == 6
    done("train", "--init_from=resume", "--out_dir=~/run", "--max_iters=7")
    done("train", *small, "--runs_dir=~/runs", "--name=other", "--init_from=~/run", "--max_iters=1")
    done("sample", "other", "--runs_dir=~/runs", "--max_new_tokens=1")
    done("export", "~/run", "~/exported")
    capsys.readouterr()
    main(["train", *small, "--init_from=~/exported", "--name=back", "--max_iters=1"])
    assert "no run" not in capsys.readouterr().err, "it is found; its tokenizer is another matter"
    (person / "text.txt").write_text(text)
    done("prepare", "textfile", "~/text.txt", "--output=mine", "--data_dir=~/data")
    done("train", *small, "--dataset=mine", "--data_dir=~/data", "--name=mine", "--max_iters=1")
    done("train", *small, "--dataset=~/data/mine", "--max_iters=1")
    assert runs.summary(paths.runs_dir() / "mine-gpt2").step == 1
    with monkeypatch.context() as inside:
        inside.chdir(person / "data" / "mine")
        done("train", *small, "--dataset=./", "--max_iters=1")
    assert runs.summary(paths.runs_dir() / "mine-gpt2-2").step == 1
    done("train", "--init_from=resume", "--name=mine-gpt2-2", "--max_iters=2")  # from another working directory
    (person / "start.txt").write_text("a")
    done("sample", "~/run", "--start=FILE:~/start.txt", "--max_new_tokens=1", "--unknown=replace")
    (person / "few.toml").write_text('max_iters = 2\ninit_from = "~/run"\n')
    done("train", *small, "~/few.toml", "--name=few")
    for command in (["runs"], ["info", "other"], ["watch", "other", "--once"]):
        done(*command, "--runs_dir=~/runs")
    done("datasets", "--data_dir=~/data")
    assert {each.name for each in person.iterdir()} == {
        "run",
        "runs",
        "exported",
        "text.txt",
        "data",
        "start.txt",
        "few.toml",
    }
    assert list(Path.cwd().iterdir()) == [], "no folder called ~"


def test_the_file_that_is_fetched_by_hand_may_be_at_home(person, capsys):
    (person / "input.txt").write_text("not tiny Shakespeare")
    assert main(["prepare", "shakespeare_char", "--source=~/input.txt"]) == 2
    assert f"{person}/input.txt is not the expected file" in capsys.readouterr().err


def test_a_name_that_begins_with_a_tilde_and_is_no_user_stays_as_it_is(person):
    assert paths.expanded("~nobody-of-that-name/x") == Path("~nobody-of-that-name/x")
    assert paths.expanded("a/~/b") == Path("a/~/b")


@pytest.fixture
def homeless(monkeypatch):
    """A user id without an entry in the password file, and without HOME."""

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)


def test_no_home_is_needed_where_the_variables_say_all(homeless, monkeypatch, home):
    assert paths.runs_dir() == home / "runs"
    monkeypatch.delenv("NANOGPT_HOME")
    for folder, name in ((paths.runs_dir, "runs"), (paths.datasets_dir, "data"), (paths.cache_dir, "cache")):
        assert folder() == home / name
    done("runs")
    for command in ("doctor", "datasets"):
        assert main([command]) in (0, 1)


def test_without_a_home_the_variables_are_named_in_one_line(homeless, monkeypatch, capsys):
    for name in ("HOME", "RUNS_DIR", "DATA_DIR", "CACHE_DIR", "CONFIG_DIR"):
        monkeypatch.delenv(f"NANOGPT_{name}")
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for command in (["runs"], ["sample"], ["datasets"], ["info"]):
        assert main(command) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert "NANOGPT_HOME" in err
    with pytest.raises(UserError, match="no home folder"):
        paths.expanded("~/run")


def test_a_command_says_so_too_and_the_app(homeless):
    """In a process of its own: nothing reads a home while it is imported."""
    hidden = "import os, pwd\nos.environ.pop('HOME', None)\npwd.getpwuid = lambda uid: {}[uid]\n"
    for module, words in (("nanogpt.cli", ["runs"]), ("nanogpt_tui", ["watch"])):
        call = f"{hidden}import sys\nfrom {module} import main\nsys.exit(main({json.dumps(words)}))"
        bare = {name: value for name, value in os.environ.items() if not name.startswith(("NANOGPT_", "XDG_"))}
        ended = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, env=bare)
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
        assert "NANOGPT_HOME" in ended.stderr
