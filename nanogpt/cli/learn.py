"""`nanogpt learn [LESSON]`: list the lessons, or read one and try its experiment."""

import argparse
import json
import os
import re
import select
import sys
from collections.abc import Iterator
from dataclasses import asdict
from textwrap import wrap
from typing import Any, Protocol

from nanogpt.cli import terminal
from nanogpt.cli.console import BAR_COLUMNS, live_line, print_message
from nanogpt.cli.figures import figure_lines
from nanogpt.cli.tables import print_table
from nanogpt.errors import UserError
from nanogpt.formatting import default_glyphs, printable
from nanogpt.learn import progress
from nanogpt.learn.experiment import Experiment
from nanogpt.learn.figures import Figures, Update, Working, to_json
from nanogpt.learn.lesson import Lesson, find_lesson, lessons
from nanogpt.paths import expanded

DESCRIPTION = """Short lessons, each with an experiment that runs here and now: nothing is precomputed. Without a lesson
they are listed. Your own Markdown files can be lessons too, in the folder `lessons` beside the app's settings. Answers
are read from standard input, so they can come from a pipe."""

END_KEYS = ("q", "\x04")  # \x04: Ctrl+D
SEQUENCE_S = 0.05  # within which the rest of a key's sequence follows
WIDEST = 88  # columns of text
LONGEST_LINE = 1 << 20  # characters of an answer from a pipe
PLAIN = str.maketrans({"“": '"', "”": '"', "’": "'", "…": "...", "–": "-", "−": "-", "±": "+-", "✓": "x", "·": "-"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("lesson", nargs="?", metavar="LESSON", help="its number, its name, or a file FILE.md")
    parser.add_argument("--json", action="store_true", help="the figures as lines of JSON")
    parser.add_argument("--data_dir", type=expanded, help="folder of the prepared data sets")


def run(args: argparse.Namespace) -> int:
    if args.lesson is None:
        list_lessons(args.json)
        return 0
    lesson = find_lesson(args.lesson)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: the models are too small for more
    if hasattr(sys.stdin, "reconfigure"):  # bytes that are not text must not end the lesson
        sys.stdin.reconfigure(errors="replace")
    play(lesson, lesson.create(args.data_dir), JsonView() if args.json else TextView())
    return 0


def list_lessons(as_json: bool) -> None:
    """Print all lessons, with which are done."""
    known, problems = lessons()
    done, problem = progress.load()
    for line in filter(None, (*problems, problem)):
        print_message(line)
    if as_json:
        listed = [{"number": each.number, "name": each.name, "title": each.title} for each in known]
        print(json.dumps([{**about, "done": about["name"] in done} for about in listed]))
        return
    mark = "✓" if is_unicode() else "x"
    print_table([(mark if each.name in done else " ", str(each.number), each.name, each.title) for each in known], {1})
    count = sum(each.name in done for each in known)
    following = next((each.number for each in known if each.name not in done), None)
    print(f"\n{count} of {len(known)} done." + (f" Next: nanogpt learn {following}" if following else ""))


def is_unicode() -> bool:
    """Return whether stdout shows the characters of charts."""
    return default_glyphs(os.environ, sys.stdout.encoding) != "ascii"


class View(Protocol):
    """How a lesson is shown, and where the learner's answers come from."""

    def page(self, lesson: Lesson) -> None:
        """Show the text of a lesson."""

    def show(self, updates: Iterator[Update]) -> None:
        """Run a part of an experiment to its end, and show what it yields."""

    def ask(self, experiment: Experiment[Any]) -> str | None:
        """Return the line that the learner typed, or the key; None at the end of the input."""

    def say(self, text: str) -> None:
        """Show a message about the lesson."""

    def end(self, lesson: Lesson, is_done: bool) -> None:
        """Say whether the lesson is done."""


def play(lesson: Lesson, experiment: Experiment[Any], view: View) -> None:
    """Show a lesson and run its experiment until the learner ends it. Remember that it is done as soon as it is."""
    view.page(lesson)
    view.show(experiment.start())
    is_saved = lesson.number == 0
    while True:
        if experiment.done and not is_saved:
            is_saved = True
            try:
                progress.mark_done(lesson.name)
            except UserError as error:
                view.say(str(error))
        line = view.ask(experiment)
        if line is None:
            break
        keys = {action.key: action.name for action in experiment.actions}
        key = line or "enter"
        try:
            if key in keys:
                view.show(experiment.act(keys[key]))
            elif experiment.question and line:
                view.show(experiment.answer(line))
            elif experiment.question or line in END_KEYS:
                break
            elif line:
                view.say(f"{line[:20]!r} is none of the keys: {', '.join([*keys, 'q'])}")
        except UserError as error:
            view.say(str(error))
    view.end(lesson, experiment.done)


def paragraph_lines(paragraph: str, width: int) -> Iterator[str]:
    """Yield a paragraph of Markdown as plain lines: emphasis without its marks, lists and code line by line."""
    lines = paragraph.splitlines()
    if any(line.startswith(("    ", "#", ">", "|", "```")) for line in lines):
        yield from (line[:width] for line in lines)
        return
    items = re.split(r"\n(?=(?:[-*]|\d+\.) )", paragraph)
    for item in items:
        plain = re.sub(r"(?<!\w)(\*{1,2})(\S(?:[^*]*\S)?)\1(?!\w)", r"\2", " ".join(item.split()))
        yield from wrap(plain, width, subsequent_indent="  " if len(items) > 1 else "")


def next_line() -> str | None:
    """Return the next line of stdin without its end; None after the last one. Raise `UserError` if it is too long."""
    line = sys.stdin.readline(LONGEST_LINE)
    if len(line) == LONGEST_LINE:
        raise UserError(f"a line of the input has {LONGEST_LINE:,} characters or more: give a shorter one")
    return line.removesuffix("\n") if line else None


def is_whole(typed: bytes) -> bool:
    """Return whether bytes are a whole character, or can never be one."""
    try:
        typed.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason != "unexpected end of data"
    return True


def skip_sequence(descriptor: int) -> None:
    """Read the rest of the sequence that a key such as an arrow sends: ESC [ … or ESC O, up to a letter or ~."""

    def next_byte() -> bytes:
        return os.read(descriptor, 1) if select.select([descriptor], [], [], SEQUENCE_S)[0] else b""

    if next_byte() in (b"[", b"O"):
        while (byte := next_byte()) and not b"@" <= byte <= b"~":
            pass


class TextView:
    """Text on stdout, progress on stderr, answers from stdin."""

    def __init__(self) -> None:
        size = terminal.size()
        self.width = min(WIDEST, max(20, size[0] - 1)) if size else WIDEST
        self.is_unicode = is_unicode()

    def print(self, line: str = "") -> None:
        """Print a line, in ASCII if the terminal needs it."""
        print(line if self.is_unicode else line.translate(PLAIN))

    def page(self, lesson: Lesson) -> None:
        self.print(f"Lesson {lesson.number}: {lesson.title}" if lesson.number else lesson.title)
        for paragraph in re.split(r"\n\s*\n", lesson.text):
            self.print()
            for line in paragraph_lines(paragraph, self.width):
                self.print(line)
        if lesson.task:
            self.print()
            for line in wrap(f"Try: {lesson.task}", self.width):
                self.print(line)
        self.print()
        sys.stdout.flush()

    def show(self, updates: Iterator[Update]) -> None:
        last: Figures | None = None
        with live_line() as show:
            for update in updates:
                if isinstance(update, Working):
                    full = round(BAR_COLUMNS * min(1.0, max(0.0, update.share)))
                    show(f"{'━' * full}{'╌' * (BAR_COLUMNS - full)} {update.share:4.0%}  {update.doing}")
                else:
                    last = update
            show("")
        for figure in last.figures if last else ():
            for line in figure_lines(figure, self.width, self.is_unicode):
                self.print(line)
            self.print()
        sys.stdout.flush()

    def ask(self, experiment: Experiment[Any]) -> str | None:
        actions = [f"{action.key}: {action.label}" for action in experiment.actions]
        if experiment.question:
            has_enter = any(action.key == "enter" for action in experiment.actions)
            ends = "Ctrl+D: end" if has_enter else "Enter alone: end"
            return self.read_line(f"{experiment.question} ({', '.join([*actions, ends])})> ")
        prompt = ", ".join([*actions, "q: end"]) + "> "
        return self.read_key(prompt) if sys.stdin.isatty() else self.read_line(prompt)

    def read_line(self, prompt: str) -> str | None:
        """Return the next line of stdin without its end; None after the last one."""
        if not sys.stdin.isatty():
            line = next_line()
            self.print(f"> {printable(line)[: self.width - 2]}" if line is not None else "")
            return line
        try:
            return input(printable(prompt))
        except EOFError:
            print(flush=True)
            return None

    def read_key(self, prompt: str) -> str | None:
        """Return the next key of the terminal as soon as it is pressed: a character, or "" for Enter."""
        try:
            import termios
            import tty
        except ImportError:  # Windows
            return self.read_line(prompt)
        print(printable(prompt), end="", flush=True)
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
        try:
            tty.setcbreak(descriptor, termios.TCSADRAIN)  # what was typed before is read too
            typed = os.read(descriptor, 1)
            while typed == b"\x1b":
                skip_sequence(descriptor)
                typed = os.read(descriptor, 1)
            while typed and not is_whole(typed) and len(typed) < 4:
                typed += os.read(descriptor, 1)
        finally:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        key = typed.decode("utf-8", "replace")
        print(key if key.isprintable() else "", flush=True)
        return None if key in ("", "\x04") else "" if key in "\r\n" else key

    def say(self, text: str) -> None:
        print_message(text)

    def end(self, lesson: Lesson, is_done: bool) -> None:
        if not is_done:
            self.print(f"Not done yet. Try: {lesson.task}" if lesson.task else "Not done yet.")
        elif lesson.number:
            known = lessons().lessons
            following = next((each for each in known if each.number == lesson.number + 1), None)
            more = f" Next: nanogpt learn {following.number} ({following.title})" if following else ""
            self.print(f"✓ Lesson {lesson.number} is done.{more}")


class JsonView:
    """Lines of JSON on stdout, answers from the lines of stdin."""

    def page(self, lesson: Lesson) -> None:
        print(json.dumps({"lesson": {**asdict(lesson), "values": dict(lesson.values)}}), flush=True)

    def show(self, updates: Iterator[Update]) -> None:
        for update in updates:
            print(to_json(update), flush=True)

    def ask(self, experiment: Experiment[Any]) -> str | None:
        actions = [asdict(action) for action in experiment.actions]
        print(json.dumps({"question": experiment.question, "actions": actions}), flush=True)
        return next_line()

    def say(self, text: str) -> None:
        print(json.dumps({"message": text}), flush=True)

    def end(self, lesson: Lesson, is_done: bool) -> None:
        print(json.dumps({"done": is_done}), flush=True)
