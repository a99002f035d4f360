"""The command's frame: which command runs, what its options mean, how each error ends and in which exit code."""

import argparse
import errno
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nanogpt import __version__
from nanogpt.cli import COMMANDS, console, main
from nanogpt.cli.options import Parser, UsageError, underscored
from nanogpt.errors import UserError

# In which stdout is written when its buffer is flushed, also once more at the exit.
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@pytest.fixture
def command(monkeypatch):
    """Puts a command of the test's own in the place of `info`; its `raises` is raised when it runs."""
    module: Any = ModuleType("nanogpt.cli.info")
    module.raises = None

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("words", nargs="*")
        parser.add_argument("--val_ratio", type=float)
        parser.add_argument("--start", default="")

    def run(args: argparse.Namespace) -> int:
        module.args = args
        if module.raises:
            raise module.raises
        return 0

    module.add_arguments, module.run = add_arguments, run
    monkeypatch.setitem(sys.modules, "nanogpt.cli.info", module)
    return module


def process(*words, **how):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.run([sys.executable, "-m", "nanogpt", *words], text=True, check=False, **streams | how)


def test_without_a_command_a_newcomer_is_shown_where_to_start(capsys):
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert "New here?  `nanogpt quickstart`" in out
    assert all(f"  {name} " in out for name in COMMANDS)
    assert err == ""


def test_the_version_is_the_packages(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"nanogpt {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_its_options(name, capsys):
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: nanogpt {name}")


def test_an_unknown_command_suggests_the_nearest(capsys):
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "nanogpt: unknown command 'trian'. Did you mean train?\n"


def test_an_option_in_front_of_the_command_is_told_where_it_belongs(capsys):
    assert main(["--preset=baby", "train"]) == 2
    assert capsys.readouterr().err.startswith("nanogpt: unknown option --preset=baby; put the command first")


@pytest.mark.parametrize("spelling", ["--val-ratio=0.5", "--val_ratio=0.5", "--val-ratio 0.5"])
def test_dashes_and_underscores_are_alike(spelling, command):
    assert main(["info", *spelling.split()]) == 0
    assert command.args.val_ratio == 0.5


def test_values_keep_their_dashes(command):
    assert main(["info", "a-b", "--start=--well-a-day", "c-d", "--", "--e-f"]) == 0
    assert command.args.words == ["a-b", "c-d", "--e-f"]
    assert command.args.start == "--well-a-day"
    assert underscored(["--a-b=c-d", "e-f", "-g-h", "--a- b", "--", "--i-j"]) == [
        *["--a_b=c-d", "e-f", "-g-h", "--a- b", "--", "--i-j"]
    ]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--val_ration=1"], "unknown option --val_ration. Did you mean --val_ratio?"),
        (["--val=1"], "unknown option --val. Did you mean --val_ratio?"),  # no abbreviations
        (["--start", "--val_ration"], "unknown option --val_ration. Did you mean --val_ratio?"),
        (["-x"], "unknown option '-x'; `nanogpt info --help` shows what it takes"),
        (["--val_ratio"], "argument --val_ratio: expected one argument"),
        (["--val_ratio=half"], "argument --val_ratio: invalid float value: 'half'"),
    ],
)
def test_a_mistake_in_the_options_is_one_line(words, line, command, capsys):
    assert main(["info", *words]) == 2
    assert capsys.readouterr() == ("", f"nanogpt info: {line}\n")


def test_a_word_too_many_is_named(capsys):
    parser = Parser("runs", "")
    with pytest.raises(UsageError, match="unexpected argument 'extra'"):
        parser.parse(["extra"])


def test_an_error_of_the_person_is_one_harmless_line(command, capsys):
    command.raises = UserError("no file \x1b[31mred\x9b\u202e[bold]x[/bold]\nhere")
    assert main(["info"]) == 2
    assert capsys.readouterr().err == "nanogpt info: no file ␛[31mred\\x9b\\u202e[bold]x[/bold] here\n"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full; free some space, or"),
        (errno.EACCES, "permission denied; change its permissions, or"),
    ],
)
def test_a_full_disk_and_a_forbidden_folder_are_one_line(number, words, command, capsys):
    command.raises = OSError(number, os.strerror(number), "/some/where")
    assert main(["info"]) == 2
    assert capsys.readouterr().err.startswith(f"nanogpt info: /some/where: {words}")


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), ValueError("a bug")])
def test_a_fault_of_the_program_keeps_its_traceback(error, command):
    command.raises = error
    with pytest.raises(type(error)):
        main(["info"])


def test_ctrl_c_ends_in_130(command, capsys):
    command.raises = KeyboardInterrupt()
    assert main(["info"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_reader_that_has_gone_ends_the_command_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = process("--help", stdout=writer, env=BUFFERED)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_an_output_that_a_full_disk_refuses_is_one_line():
    with Path("/dev/full").open("w") as full:
        done = process("--version", stdout=full, env=BUFFERED)
    message = "nanogpt: the disk is full; free some space, or choose another place\n"
    assert (done.returncode, done.stderr) == (2, message)


def test_a_terminal_without_unicode_is_no_reason_to_fail():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "200"}
    assert process("config", env=environment).returncode == 0


def test_a_bar_is_plain_lines_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(console, "PLAIN_INTERVAL_S", 0.0)
    monkeypatch.setattr(console, "BAR_DELAY_S", -1.0)
    with console.bar("copying") as update:
        update(1_000_000, None, "a resumed one")
        update(2_000_000, 4_000_000, "half\x1b")
    first, second = capsys.readouterr().err.splitlines()
    assert first == "copying  1.0 MB  0.0 MB/s  a resumed one"  # what was there before is not counted in the rate
    assert second.startswith("copying  ━━━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌   50% of 4.0 MB  ")
    assert second.endswith(" left  half␛")


def test_short_work_shows_no_bar(capsys):
    with console.bar("copying") as update:
        update(1, 2)
    assert capsys.readouterr().err == ""


def test_a_live_line_is_a_plain_line_now_and_then_where_there_is_no_terminal(capsys):
    with console.live_line() as show:
        for step in range(1, 4):
            show(f"step {step}")
    assert capsys.readouterr().err == "step 1\nstep 3\n"  # the first and, as always, the last


def terminal_screen(script, columns):
    """The lines of a terminal with so many columns, after `script` has run in it."""
    import pyte

    fd, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (12, columns))
    environment = {**os.environ, "TERM": "xterm"}
    command = [sys.executable, "-c", script]
    child = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    screen = pyte.Screen(columns, 12)
    stream = pyte.ByteStream(screen)
    try:
        while data := os.read(fd, 4096):
            stream.feed(data)
    except OSError:  # Linux says so when the last writer has gone
        pass
    os.close(fd)
    assert child.wait(60) == 0
    return [line.rstrip() for line in screen.display if line.strip()]


def test_on_a_terminal_a_live_line_rewrites_itself_and_never_wraps():
    script = """
import time
from nanogpt.cli.console import live_line, print_message
with live_line() as show:
    show('x' * 500)
    time.sleep(0.1)
    show('漢' * 500)
    show('')
    print_message('saved')
    show('a long one')
    time.sleep(0.1)
    show('short')
"""
    assert terminal_screen(script, columns=31) == ["saved", "short"]


def test_on_a_terminal_a_bar_leaves_nothing_behind():
    script = """
from nanogpt.cli import console
console.BAR_DELAY_S = -1
with console.bar('[bold]copying') as update:
    update(1, 2, '[red]now')
    update(2, 2)
console.print_message('done')
"""
    assert terminal_screen(script, columns=40) == ["done"]


@pytest.mark.parametrize(("words", "code"), [(["runs"], 0), (["doctor"], 0), (["ctl", "nobody", "pause"], 2)])
def test_closed_standard_streams_change_nothing_but_what_is_heard(words, code):
    closed = f'exec "{sys.executable}" -m nanogpt {" ".join(words)} <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", closed], check=False).returncode == code


def test_ctrl_c_while_torch_is_imported_ends_it_whatever_swallows_the_exception():
    code = """
import os, signal, sys
from types import ModuleType, SimpleNamespace
from nanogpt.cli import _interruptible_imports
sys.modules["torch"] = ModuleType("torch")
sys.modules["torch"].__spec__ = SimpleNamespace(_initializing=True)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
with _interruptible_imports():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "\nnanogpt: interrupted\n")


def test_a_name_too_long_for_a_file_is_one_line(home, capsys):
    for words in (["sample", "x" * 300], ["info", "x" * 300], ["prepare", "textfile", "x" * 300]):
        assert main(words) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_one_run_whose_status_cannot_be_read_does_not_hide_the_others(home, capsys):
    for name, status in (("list", "[]"), ("words", '{"step": "x"}'), ("deep", "[" * 100_000)):
        (home / "runs" / name).mkdir(parents=True)
        (home / "runs" / name / "run.toml").write_text("")
        (home / "runs" / name / "status.json").write_text(status)
    assert main(["runs"]) == 0
    out = capsys.readouterr().out
    assert all(f"{name} " in out for name in ("list", "words", "deep"))
    assert out.count("failed") == 3
