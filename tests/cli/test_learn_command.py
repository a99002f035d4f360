"""`nanogpt learn`: the list, a lesson on a real terminal and through a pipe, and what ends it."""

import codecs
import fcntl
import io
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nanogpt.cli import main
from nanogpt.learn import progress
from nanogpt.learn.lesson import lessons, own_folder
from tests import forked

CUT = """+++
title = "Small"
experiment = "cut_text"
[values]
merges = 5
characters = 2000
+++
A *short* page.

Try: a text."""
LONG = '+++\ntitle = "Long"\nexperiment = "learning_rates"\n[values]\nsteps = 1000\n+++\nA page.'


class Terminal:
    """A command on a pseudo-terminal, and all that it has written."""

    def __init__(self, process: forked.Forked, master: int) -> None:
        self.process, self._master, self.text = process, master, ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a read may end within a character

    def read(self, seconds: float) -> None:
        if select.select([self._master], [], [], seconds)[0]:
            try:
                self.text += self._decoder.decode(os.read(self._master, 65536))
            except OSError:  # the command has gone
                time.sleep(seconds)

    def until(self, wanted: str | Callable[[str], bool], timeout_s: float = 120) -> str:
        """What was written since the last call, once `wanted` is in it."""
        end = time.monotonic() + timeout_s
        while not (wanted(self.text) if callable(wanted) else wanted in self.text):
            assert time.monotonic() < end, f"{wanted!r} is not in:\n{self.text}"
            assert self.process.poll() is None or select.select([self._master], [], [], 0.2)[0], self.text
            self.read(0.2)
        shown, self.text = self.text, ""
        return shown

    def send(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait(self) -> int:
        while self.process.poll() is None:
            self.read(0.1)
        self.read(0.1)
        return self.process.wait(1)


@contextmanager
def on_terminal(*words: str, columns: int = 80, rows: int = 24) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = forked.nanogpt(words, terminal=os.ttyname(slave), environment={"TERM": "xterm"})
    opened = Terminal(process, master)
    try:
        yield opened
    finally:
        process.kill()
        os.close(slave)
        os.close(master)


@pytest.fixture
def piped(monkeypatch, capsys):
    def run(*words, typed="", code=0):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        assert main(["learn", *words]) == code
        return capsys.readouterr()

    return run


@pytest.fixture
def small(tmp_path: Path) -> str:
    path = tmp_path / "small.md"
    path.write_text(CUT)
    return str(path)


def test_the_list_has_all_lessons_and_what_is_done(piped, home):
    progress.mark_done("one_step")
    out, _ = piped()
    known = lessons().lessons
    rows = out.splitlines()
    assert [row[3:].split()[1] for row in rows[: len(known)]] == [lesson.name for lesson in known]
    assert [row.startswith("✓") for row in rows[: len(known)]] == [lesson.name == "one_step" for lesson in known]
    assert rows[-1] == f"1 of {len(known)} done. Next: nanogpt learn 1"
    listed = json.loads(piped("--json")[0])
    assert [each["name"] for each in listed if each["done"]] == ["one_step"]


def test_bad_lessons_and_progress_are_said_in_one_line_each(piped):
    own_folder().mkdir(parents=True)
    (own_folder() / "bad.md").write_text("+++\n\x1b[2J = 3\n+++\n")
    progress.progress_path().write_text("{")
    out, err = piped()
    assert len(err.splitlines()) == 2
    assert "bad.md" in err
    assert "lessons.json cannot be read" in err
    assert "\x1b" not in out + err
    assert "no lesson '99'" in piped("99", code=2)[1]
    assert "has no setting" in piped(str(bad_values(own_folder())), code=2)[1]


def bad_values(folder: Path) -> Path:
    path = folder / "values.md"
    path.write_text(CUT.replace("merges", "merge"))
    return path


def test_a_lesson_reads_lines_from_a_pipe_until_they_end(piped, small):
    out, _ = piped(small, typed="the cat\n")
    assert out.startswith("Small\n\nA short page.\n\nTry: a text.\n")
    assert "> the cat" in out
    assert "│t│h│e│·│c│a│t│" in out
    assert out.count("The same text") == 2  # the example's, and this one
    assert progress.load().done == frozenset()  # a file is no lesson of the list


def test_json_is_one_update_a_line(piped, small):
    lines = [json.loads(line) for line in piped(small, "--json", typed="a\n\nb\n")[0].splitlines()]
    assert lines[0]["lesson"]["title"] == "Small"
    assert lines[1]["update"] == "Working"
    assert {"question": "Type a text", "actions": []} in lines
    assert lines[-1] == {"done": True}
    assert [line for line in lines if line.get("update") == "Figures"][-1]["figures"][0] == {
        "figure": "Pieces",
        "title": "characters: 1 token",
        "pieces": ["a"],
        "ids": [lines[-3]["figures"][0]["ids"][0]],
    }  # an empty line ended it


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_line_without_end_gets_one_line(piped, small, monkeypatch, form):
    monkeypatch.setattr("nanogpt.cli.learn.LONGEST_LINE", 100)
    piped(small, *form, typed="x" * 98 + "\n")
    _, err = piped(small, *form, typed="x" * 100, code=2)
    assert "nanogpt learn: a line of the input has 100 characters or more: give a shorter one" in err


def test_bytes_that_are_no_text_do_not_end_a_lesson(small: str, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_bytes(b"\xff\x1b[2J\x00\n" * 3)
    script = f'exec "{sys.executable}" -m nanogpt learn "{small}" < "{given}"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stdout
    assert b"\x00" not in done.stdout


def test_ctrl_c_ends_an_experiment_that_computes(tmp_path: Path) -> None:
    path = tmp_path / "long.md"
    path.write_text(LONG)
    with on_terminal("learn", str(path)) as terminal:
        terminal.until(" of 1000, loss ")
        began = time.monotonic()
        terminal.send("\x03")
        shown = terminal.until("interrupted")
        assert terminal.wait() == 130
        assert "Traceback" not in shown + terminal.text
        assert time.monotonic() - began < 30


def walk_1(terminal: Terminal) -> None:
    terminal.until("Type a text (Enter alone: end)> ")
    terminal.send("Zürich\n")
    assert "│Z│\\xc3│\\xbc│r│i│c│h│" in terminal.until("Type a text (")
    terminal.send("\n")


def walk_2(terminal: Terminal) -> None:
    shown = terminal.until("Ctrl+D: end)> ")
    terminal.send("0\n")
    shown = terminal.until(lambda text: "Not “0”" in text and text.endswith("> "))
    for _ in range(12):
        assert "12: what comes next?" in shown
        terminal.send("\n")
        shown = terminal.until(lambda text: text.endswith("> "))
    assert "Bits per character" in shown
    assert "standard error" in shown
    terminal.send("q")


def walk_3(terminal: Terminal) -> None:
    shown = terminal.until("q: end> ")
    assert "The model reads" in shown
    terminal.send("s")
    assert "Step 1 moved each weight" in terminal.until("q: end> ")
    terminal.send("\x1b[C")  # an arrow is no key of the lesson
    terminal.send("t")
    assert "Step 11 moved each weight" in terminal.until("q: end> ")
    terminal.send("q")


def walk_4(terminal: Terminal) -> None:
    shown = terminal.until("Type a learning rate (Enter alone: end)> ")
    assert "The best of these rates is" in shown
    assert "too high" in shown
    assert "too low" in shown
    terminal.send("0.01\n")
    assert "Your rate, 0.01," in terminal.until("Type a learning rate (")
    terminal.send("\n")


def walk_5(terminal: Terminal) -> None:
    shown = terminal.until("Enter alone: end)> ")
    assert "Vowels and consonants have parted: " in shown
    terminal.send("a\n")
    assert "“a” is a vowel, and" in terminal.until("Enter alone: end)> ")
    terminal.send("\n")


@pytest.mark.parametrize(
    ("number", "walk", "columns", "rows"),
    [(1, walk_1, 80, 24), (2, walk_2, 120, 40), (3, walk_3, 80, 24), (4, walk_4, 120, 40), (5, walk_5, 80, 24)],
)
def test_a_lesson_can_be_done_on_a_terminal(
    number: int, walk: Callable[[Terminal], None], columns: int, rows: int
) -> None:
    with on_terminal("learn", str(number), columns=columns, rows=rows) as terminal:
        walk(terminal)
        shown = terminal.until(f"✓ Lesson {number} is done.")
        assert terminal.wait() == 0
        assert "Traceback" not in shown
    assert progress.load().done == {lessons().lessons[number - 1].name}


def test_a_lesson_that_is_left_is_not_done(small: str) -> None:
    with on_terminal("learn", "1") as terminal:
        terminal.until("Type a text (Enter alone: end)> ")
        terminal.send("\x04")
        terminal.until("Not done yet.")
        assert terminal.wait() == 0
    assert progress.load().done == frozenset()


def test_the_terminal_is_as_before_after_a_key_and_ctrl_c() -> None:
    with on_terminal("learn", "3") as terminal:
        before = termios.tcgetattr(terminal._master)
        terminal.until("q: end> ")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait() == 130
        assert termios.tcgetattr(terminal._master) == before
