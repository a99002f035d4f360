"""`nanogpt doctor`: what it finds, what it calls bad, and how it asks a real terminal."""

import errno
import json
import os
import pty
import select
import shutil
import sys
import tempfile
from dataclasses import asdict

import pytest

from nanogpt import formatting
from nanogpt.cli import doctor, main, terminal
from nanogpt_tui import settings


def findings(capsys):
    code = main(["doctor", "--json"])
    told = json.loads(capsys.readouterr().out)
    return code, told["fit"], {finding["name"]: finding for finding in told["findings"]}


def test_on_a_machine_that_is_well_everything_has_a_line_and_the_exit_code_is_0(capsys):
    code, fit, found = findings(capsys)
    assert (code, fit) == (0, True)
    names = {"terminal", "characters", "python", "torch", "cpu", "number format", "torch.compile"}
    assert names | {"runs", "data sets", "cache"} <= found.keys()
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(found)
    assert all(line[0] in "✓!✗" for line in lines)


def test_a_folder_that_cannot_be_written_is_bad_and_says_which_variable_moves_it(capsys, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NANOGPT_RUNS_DIR", str(tmp_path / "file"))
    code, fit, found = findings(capsys)
    assert (code, fit) == (1, False)
    assert found["runs"]["level"] == "bad"
    assert "NANOGPT_RUNS_DIR" in found["runs"]["mend"]


@pytest.mark.usefixtures("unprivileged")
def test_a_folder_that_one_may_not_look_into_is_bad(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir(mode=0)
    monkeypatch.setenv("NANOGPT_RUNS_DIR", str(tmp_path / "closed" / "runs"))
    found = next(finding for finding in doctor.folders() if finding.name == "runs")
    assert (found.level, found.mend) == ("bad", "set NANOGPT_RUNS_DIR to a writable folder")
    assert "permission denied" in found.text


def test_a_disk_that_is_almost_full_is_bad_and_one_with_little_space_is_poor(capsys, monkeypatch):
    for free, level in ((1e8, "bad"), (1e9, "poor"), (1e10, "good")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: type("Usage", (), {"free": int(free)}))
        assert {finding.level for finding in doctor.folders()} == {level}


def test_a_full_disk_wants_space_and_no_other_folder(capsys, monkeypatch):
    def refuse(dir):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert {(finding.level, finding.mend) for finding in doctor.folders()} == {("bad", "free some space")}


def test_what_the_app_is_set_to_is_told_and_a_file_that_cannot_be_read_is_bad(capsys):
    assert asdict(settings.Settings()) | doctor.APP == asdict(settings.Settings())
    settings.save(settings.Settings(notifications="osc9"))
    code, _, found = findings(capsys)
    assert code == 0
    assert "ssh_mode=auto, notifications=osc9, glyphs=braille" in found["app"]["text"]
    settings.path().write_text("ssh_mode = ")
    code, _, found = findings(capsys)
    assert (code, found["app"]["level"]) == (1, "bad")
    assert str(settings.path()) in found["app"]["text"]


def test_a_dumb_terminal_is_asked_nothing_that_it_would_show(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("it was asked"))
    assert terminal.synchronises_output() is None


def test_apples_terminal_is_not_asked_because_it_would_show_a_part_of_the_query(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("TERM_PROGRAM", "Apple_Terminal")
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("it was asked"))
    assert terminal.synchronises_output() is False


def test_a_torch_that_cannot_be_imported_is_bad_and_the_rest_is_still_looked_at(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, found = findings(capsys)
    assert code == 1
    assert found["torch"]["level"] == "bad"
    assert "runs" in found


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, 1 << 24),
        ({"TERM": "xterm-256color"}, 256),
        ({"TERM": "linux"}, 16),
        ({"TERM": "dumb"}, 0),
        ({}, 0),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, 0),
    ],
)
def test_colours_are_what_the_environment_says(environment, count):
    assert terminal.colours(environment) == count


@pytest.mark.parametrize(("encoding", "speaks"), [("utf-8", True), ("UTF8", True), ("latin-1", False), (None, False)])
def test_only_an_encoding_of_unicode_has_the_characters_of_charts(encoding, speaks):
    assert formatting.supports_unicode(encoding) is speaks
    assert formatting.default_glyphs({"TERM": "xterm"}, encoding) == ("braille" if speaks else "ascii")


@pytest.mark.parametrize("console", ["linux", "screen.linux"])
def test_a_console_is_drawn_on_in_the_characters_that_its_font_has(capsys, monkeypatch, console):
    monkeypatch.setenv("TERM", console)
    _, _, found = findings(capsys)
    assert "the app draws in ASCII" in found["characters"]["text"]
    assert "glyphs=ascii" in found["app"]["text"]
    assert settings.load().glyphs == "ascii"
    settings.path().parent.mkdir(parents=True, exist_ok=True)
    settings.path().write_text('glyphs = "block"\n', encoding="utf-8")  # whose font has more
    assert settings.load().glyphs == "block"
    assert "glyphs=block" in findings(capsys)[2]["app"]["text"]
    monkeypatch.setenv("TERM", "xterm-256color")
    assert settings.Settings().glyphs == "braille"


@pytest.mark.parametrize(
    ("size", "level", "text"),
    [
        ((80, 24), "good", "80 columns, 24 rows"),
        ((79, 24), "poor", "the app shows only the training"),
        ((40, 10), "poor", "the app shows only the training"),
        ((40, 9), "poor", "the app shows nothing"),
        ((0, 0), "good", "the size is unknown"),
    ],
)
def test_a_small_terminal_is_told_what_the_app_shows_there(capsys, monkeypatch, size, level, text):
    from nanogpt_tui.screens.train import compact as compact

    assert (doctor.FULL_SIZE, doctor.MIN_SIZE) == (compact.FULL_SIZE, compact.MIN_SIZE)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(terminal, "size", lambda: size)
    _, _, found = findings(capsys)
    assert found["terminal"]["level"] == level
    assert text in found["terminal"]["text"]


def test_a_dumb_terminal_is_told_that_the_app_does_not_start(capsys, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(terminal, "size", lambda: (80, 24))
    assert "the app does not start" in findings(capsys)[2]["terminal"]["text"]


def test_a_job_in_the_background_asks_the_terminal_nothing_as_it_would_be_stopped():
    script = (
        "import os; from nanogpt.cli import terminal; child = os.fork()\n"
        "if child == 0: os.setpgid(0, 0); os._exit(terminal.synchronises_output() is not None)\n"
        "print('ended with', os.waitpid(child, os.WUNTRACED)[1])"
    )
    pid, master = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-c", script], os.environ | {"TERM": "xterm", "TERM_PROGRAM": ""})
    seen = b""
    while b"ended with" not in seen or not seen.endswith(b"\n"):
        assert select.select([master], [], [], 60)[0], seen
        seen += os.read(master, 4096)
    assert b"ended with 0" in seen
    os.waitpid(pid, 0)
    os.close(master)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"\x1b[?2026;2$y\x1b[?62;22c", "yes"),
        (b"\x1b[?2026;0$y\x1b[?62c", "no"),
        (b"\x1b[?1;2c", "no"),
        (b"", "unknown"),
    ],
)
def test_a_terminal_is_asked_whether_it_synchronises_and_left_as_it_was(answer, said):
    script = (
        "from nanogpt.cli import terminal; print(terminal.size());"
        f"terminal.ANSWER_S = {60 if answer else 0.1};"
        "print({True: 'yes', False: 'no', None: 'unknown'}[terminal.synchronises_output()]); print('typed:', input())"
    )
    pid, master = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-c", script], os.environ | {"TERM": "xterm", "TERM_PROGRAM": ""})
    seen = b""
    answered = said_hello = False
    while b"typed: hello" not in seen:
        assert select.select([master], [], [], 60)[0], seen
        seen += os.read(master, 4096)
        if not answered and terminal.SYNCHRONIZED_QUERY in seen:
            os.write(master, answer)
            answered = True
        if answered and not said_hello and said.encode() + b"\r\n" in seen:
            os.write(master, b"hello\n")
            said_hello = True
    os.waitpid(pid, 0)
    os.close(master)
