"""Lessons: Markdown files whose head in TOML names an experiment and its settings. Nothing in them is executed.

    +++
    title = "One training step"
    experiment = "training_step"
    [values]
    learning_rate = 0.1
    +++
    The text, in plain words.

    Try: press s.

The lessons of the program are `lessons/NN_name.md`; a learner's own are in `lessons/` of the configuration folder.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nanogpt import paths
from nanogpt.data.toml_tables import check_table
from nanogpt.errors import UserError, nearest
from nanogpt.files import read_text, why
from nanogpt.formatting import printable
from nanogpt.learn.experiment import Experiment, check_values, create

FOLDER = Path(__file__).parent / "lessons"
FILES = "[!.]*.md"  # not those of an editor or a file system, .#mine.md and ._mine.md
TASK = "Try:"  # begins the last paragraph, which says what to do
_HEAD = re.compile(r"\A\+\+\+[ \t]*\n(.*?)^\+\+\+[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_NAME = re.compile(r"\A(?:\d+_)?(.+)\Z", re.DOTALL)
LONGEST_TITLE = 60  # characters
LARGEST = 1 << 16  # bytes of a file: the app lays the whole text out at once


@dataclass(frozen=True, slots=True)
class Lesson:
    """A lesson. `number` counts from 1; 0 for a file that is not among the lessons, whose progress is not kept.

    `text` is Markdown in printable characters without the task; `task` says what to do, without the word "Try:".
    `values` are the settings of the experiment, checked.
    """

    number: int
    name: str
    title: str
    text: str
    task: str
    experiment: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def create(self, data_dir: Path | None = None) -> Experiment[Any]:
        """Return the lesson's experiment. data_dir: the folder of the prepared data sets; None: the default one."""
        return create(self.experiment, self.values, data_dir)


class Catalog(NamedTuple):
    """All lessons in order, and one line for each file that is not a usable lesson."""

    lessons: tuple[Lesson, ...]
    problems: tuple[str, ...]


def own_folder() -> Path:
    """Return the folder of the learner's own lessons."""
    return paths.config_dir() / "lessons"


def lessons() -> Catalog:
    """Return the lessons that come with the program in order, then the learner's own, by file name."""
    found = [read_lesson(path, number) for number, path in enumerate(sorted(FOLDER.glob(FILES)), 1)]
    taken, problems = {lesson.name for lesson in found}, list[str]()
    for path in sorted(own_folder().glob(FILES)):
        try:
            lesson = read_lesson(path, len(found) + 1)
            if lesson.name in taken:
                raise UserError(f"lesson {path}: another lesson is called {lesson.name}; rename the file")
        except UserError as error:
            problems.append(str(error))
            continue
        taken.add(lesson.name)
        found.append(lesson)
    return Catalog(tuple(found), tuple(problems))


def find_lesson(which: str) -> Lesson:
    """Return a lesson by its number, its name, or the path of its file. Raise `UserError` if there is none."""
    if which.endswith(".md"):
        return read_lesson(paths.expanded(which))
    known, _ = lessons()
    for lesson in known:
        if which in (str(lesson.number), lesson.name):
            return lesson
    names = [lesson.name for lesson in known]
    raise UserError(f"no lesson {which!r}; `nanogpt learn` lists the {len(known)} lessons.{nearest(which, names)}")


def read_lesson(path: Path, number: int = 0) -> Lesson:
    """Return the lesson in a file. Raise `UserError` in one line if it cannot be read or is not a usable lesson."""
    where = f"lesson {path}"
    try:
        content = read_text(path, LARGEST).replace("\r\n", "\n")
        head = _HEAD.match(content)
        if head is None:
            raise UserError(f"{where}: its first lines must be a head in TOML between two lines +++")
        table = tomllib.loads(head[1])
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{where} cannot be read: {why(error)}") from error
    types = {"title": str, "experiment": str, "values": dict}
    top = check_table(table, types, where, required=("title", "experiment"))
    title = " ".join(printable(top["title"]).split())
    if not 0 < len(title) <= LONGEST_TITLE:
        raise UserError(f"{where}: the title must have 1 to {LONGEST_TITLE} characters; it has {len(title)}")
    try:
        values = check_values(top["experiment"], top.get("values", {}))
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    text, task = _split_task(printable(content[head.end() :]).strip())
    named = _NAME.match(path.stem)
    return Lesson(number, named[1] if named else path.stem, title, text, task, top["experiment"], values)


def _split_task(text: str) -> tuple[str, str]:
    """Return the text without its last paragraph, and that paragraph, if it begins with `TASK`."""
    before, separator, last = text.rpartition("\n\n")
    if not last.startswith(TASK):
        return text, ""
    return before.strip() if separator else "", last.removeprefix(TASK).strip()
