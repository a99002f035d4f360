"""The text column of a table, and the texts in it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from nanogpt.errors import SettingError, nearest

MAX_NAMED = 12  # columns that a message names
NO_TEXT = "without text"
LONGEST = 1 << 25  # characters of a text, or of a line of JSON or CSV
TOO_LONG = f"longer than {LONGEST:,} characters"


def choose_column(path: Path, columns: Sequence[str], of_texts: Sequence[str], asked: str | None) -> str:
    """Return the text column: the one asked for, else `text`, else the only one of texts.

    columns: all of the table; of_texts: those with texts. Raise `SettingError` with the columns if there is none.
    """
    if asked is not None and asked in columns:
        return asked
    if asked is None and "text" in columns:
        return "text"
    if asked is None and len(of_texts) == 1:
        return of_texts[0]
    named = ", ".join(columns[:MAX_NAMED]) + (", …" if len(columns) > MAX_NAMED else "")
    if asked is not None:
        raise SettingError(
            "text_column", f"{path} has no column {asked!r}; its columns: {named}.{nearest(asked, list(columns))}"
        )
    several = "several columns of texts" if of_texts else "no column of texts"
    raise SettingError("text_column", f"{path} has {several}; name one with --text_column; its columns: {named}")


def usable(texts: Iterable[object], skipped: Counter[str]) -> Iterator[str]:
    """Yield the values that are texts, and count the others."""
    for text in texts:
        if not isinstance(text, str) or not text:
            skipped[NO_TEXT] += 1
        elif len(text) > LONGEST:
            skipped[TOO_LONG] += 1
        elif not text.isascii() and not _is_unicode(text):
            skipped["not Unicode"] += 1
        else:
            yield text


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
