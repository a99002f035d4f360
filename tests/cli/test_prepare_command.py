"""`nanogpt prepare` and `nanogpt datasets`, as a person calls them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nanogpt.cli import main


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HOME", "CACHE_DIR", "CONFIG_DIR"):
        monkeypatch.setenv(f"NANOGPT_{name}", str(tmp_path / name))
    for name in ("RUNS_DIR", "DATA_DIR"):
        monkeypatch.delenv(f"NANOGPT_{name}", raising=False)
    (tmp_path / "story.txt").write_text("Once upon a time. " * 50)
    return tmp_path


def test_a_text_file_is_prepared_and_summed_up_on_stdout(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "textfile", str(home / "story.txt"), "--val-ratio", "0.2", "--output=tale"]) == 0
    out, _ = capsys.readouterr()
    path = home / "HOME" / "datasets" / "tale"
    assert out == f"{path}: train 720 + val 180 tokens, char, vocabulary of 13\n"


def test_the_text_column_of_a_table_is_prepared(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "table.csv").write_text("title,body\n" + "".join(f"t{number},words here\n" for number in range(99)))
    assert main(["prepare", "textfile", str(home / "table.csv"), "--text_column=body"]) == 0
    assert "table: train 979 + val 109 tokens" in capsys.readouterr().out  # 99 texts of 10 characters, 98 line ends


def test_an_interrupt_while_a_pipe_is_read_leaves_nothing(home: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "nanogpt", "prepare", "textfile", "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "NANOGPT_HOME": str(home / "HOME")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert child.stdin
    child.stdin.write(b"some text " * 1000)
    child.stdin.flush()
    folder = home / "HOME" / "datasets"
    while not (folder.exists() and any(path.stat().st_size for path in folder.glob(".stdin~*"))):
        assert child.poll() is None
        time.sleep(0.001)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert (child.returncode, b"Traceback" in err) == (130, False)
    assert list(folder.iterdir()) == []


def test_the_summary_can_be_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "textfile", str(home / "story.txt"), "--tokenizer=byte", "--test_ratio=0.1", "--json"]) == 0
    prepared = json.loads(capsys.readouterr().out)
    assert prepared["tokens"] == {"train": 720, "val": 90, "test": 90}
    assert (prepared["event"], prepared["name"], prepared["vocab_size"]) == ("Prepared", "story", 256)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nope"], "no data set 'nope'"),
        (["textfile"], "no text given"),
        (["textfile", "absent.txt"], "absent.txt cannot be read"),
        (["shakespeare_char", "extra"], "unexpected 'extra'"),
        (["python_stdlib", "--source=x"], "downloads nothing"),
        (["textfile", "story.txt", "--val_ratio=nan"], "val_ratio=nan"),
        (["textfile", "story.txt", "--val_ratio=much"], "val_ratio"),
        (["textfile", "story.txt", "--tokenizer=gtp2"], "Did you mean gpt2"),
        (["textfile", "story.txt", "--output=a/b"], "cannot name a data set"),
        (["textfile", "story.txt", "--outptu=x"], "Did you mean --output"),
        (["shakespeare_char", "--text_column=x"], "--text_column is for data sets of documents"),
        (["textfile", "table.csv"], "name one with --text_column; its columns: a, b"),
        (["textfile", "table.csv", "--text_column=c"], "table.csv has no column 'c'; its columns: a, b"),
        (["textfile", "foreign.txt"], "encoding is not certain: set it with --encoding=NAME (gb18030 reads “道可道”"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], complaint: str
) -> None:
    monkeypatch.chdir(home)
    (home / "table.csv").write_text("a,b\nx,y\n")
    (home / "foreign.txt").write_bytes("道可道".encode("gbk"))
    assert main(["prepare", *words]) == 2
    out, err = capsys.readouterr()
    assert complaint in err
    assert err.count("\n") == 1
    assert out == ""
    assert not (home / "HOME").exists()


def test_a_name_cannot_steer_the_terminal(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "evil\x1b[2J.txt").write_text("x")
    assert main(["prepare", "textfile", str(home / "evil\x1b[2J.txt")]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_token_files_are_prepared_and_summed_up(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "bytes").mkdir()
    for name in ("train.bin", "val.bin"):
        (home / "bytes" / name).write_bytes(b"a\0b\0")  # raw uint16, as nanoGPT writes them
    assert main(["prepare", "tokens", str(home / "bytes"), "--tokenizer=byte"]) == 0
    out, _ = capsys.readouterr()
    assert out == f"{home / 'HOME' / 'datasets' / 'bytes'}: train 2 + val 2 tokens, byte, vocabulary of 256\n"
    for option in ("--val_ratio=0.5", "--encoding=utf-8", "--shard_tokens=9", "--source=x", "--test_ratio=0"):
        assert main(["prepare", "tokens", str(home / "bytes"), "--tokenizer=byte", option]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert f"{option.split('=')[0]} is for a text" in err


def test_an_interrupt_leaves_nothing_half_written(home: Path) -> None:
    big = home / "big.txt"
    big.write_text("Once upon a time there was. " * 1_500_000)  # some seconds of work for gpt2
    child = subprocess.Popen(
        [sys.executable, "-m", "nanogpt", "prepare", "textfile", str(big), "--tokenizer=gpt2"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NANOGPT_HOME": str(home / "HOME")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    folder = home / "HOME" / "datasets"
    while not (folder.exists() and list(folder.glob(".big~*"))):
        assert child.poll() is None
        time.sleep(0.001)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert list(folder.iterdir()) == []


def test_data_sets_are_listed_as_a_table_and_as_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["prepare", "textfile", str(home / "story.txt")])
    capsys.readouterr()
    assert main(["datasets"]) == 0
    out = capsys.readouterr().out
    story = next(line for line in out.splitlines() if line.startswith("story"))
    assert story.split()[1:6] == ["yes", "yes", "char", "13", "900"]
    assert main(["datasets", "--json"]) == 0
    listed = {info["name"]: info for info in json.loads(capsys.readouterr().out)}
    assert listed["story"]["tokens"] == {"train": 810, "val": 90}
    assert listed["shakespeare"]["prepared"] is False
