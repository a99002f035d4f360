"""The text of the lessons: the learner's own data set if one is prepared, else text that every Python has.

Tiny Shakespeare is preferred, because most people begin with it. Without a data set it is the prose of Python's own
documentation (`pydoc_data.topics`), and if an installation lacks that, Python's own source.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nanogpt.data.names import prepared_names
from nanogpt.errors import UserError

PREFERRED = ("shakespeare_char", "shakespeare", "shakespeare_byte", "shakespeare_plays", "tinystories")
LONGEST = 400_000  # characters
SHORTEST = 20_000  # a data set with less text is not used
UNREADABLE = 0.01  # share of U+FFFD from which a data set does not count as text
_TYPOGRAPHIC = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "..."})


@dataclass(frozen=True, slots=True)
class LessonText:
    """A text of at most `LONGEST` characters, and where it is from, as it is said in a sentence."""

    text: str
    origin: str


def lesson_text(data_dir: Path | None = None) -> LessonText:
    """Return the text of the lessons. data_dir: the folder of the prepared data sets; None: the default one."""
    for name in _by_preference(prepared_names(data_dir)):
        if (text := _dataset_text(name, data_dir)) is not None:
            return LessonText(text, f"your data set {name}")
    return python_text()


def python_text() -> LessonText:
    """Return text that comes with Python: English prose in ASCII, or source code if the prose is not installed."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return LessonText("".join(_parts_up_to(_sources(), LONGEST)), "Python's own source code")
    return LessonText(_prose(topics.values()), "Python's own documentation")


def _by_preference(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (PREFERRED.index(name) if name in PREFERRED else len(PREFERRED), name))


def _dataset_text(name: str, data_dir: Path | None) -> str | None:
    """Return the beginning of a data set's training split; None if it is unusable, short or not text."""
    from nanogpt.data.split_text import split_text
    from nanogpt.data.store import open_dataset

    with suppress(UserError, OSError):
        text = "".join(_parts_up_to(split_text(open_dataset(name, data_dir), "train"), LONGEST))
        if len(text) >= SHORTEST and text.count("\N{REPLACEMENT CHARACTER}") < UNREADABLE * len(text):
            return text
    return None


def _parts_up_to(parts: Iterable[str], most: int) -> Iterator[str]:
    """Yield the first `most` characters of a text in parts."""
    for part in parts:
        yield part[:most]
        most -= len(part)
        if most <= 0:
            return


def _prose(topics: Iterable[str]) -> str:
    """Return the paragraphs of plain prose, each once, one line each."""
    paragraphs = dict[str, None]()
    for topic in topics:
        for paragraph in re.split(r"\n\s*\n", topic):
            is_plain = paragraph[:1].isupper() and "\n   " not in paragraph and not re.search(r"\*\*\*|===", paragraph)
            if is_plain and len(paragraph) >= 120 and paragraph.rstrip().endswith((".", ":")):
                line = " ".join(paragraph.translate(_TYPOGRAPHIC).split())
                paragraphs[line.encode("ascii", "ignore").decode()] = None
    return "\n\n".join(paragraphs)[:LONGEST]


def _sources() -> Iterator[str]:
    """Yield the text of Python's source files in the order of the data set python_stdlib."""
    from nanogpt.data.recipes import load_recipe
    from nanogpt.tokenizers.base import completed

    for path in islice(completed(load_recipe("python_stdlib").source.files()), 1000):
        with suppress(OSError):
            yield path.read_text(encoding="ascii", errors="ignore")
