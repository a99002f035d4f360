"""Tables of comma-separated values (RFC 4180), by the standard library: one document is one value of the text column.

The first row names the columns. Values are separated by commas, semicolons, tabs or bars, whichever give the first row
the most columns.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import ClassVar

from nanogpt.data.decoding import decode_text
from nanogpt.data.formats import base
from nanogpt.data.formats._columns import LONGEST, choose_column, usable
from nanogpt.data.streams import Stream
from nanogpt.errors import UserError

LONGEST_LINE = LONGEST  # and of a field of several lines
DELIMITERS = ",;\t|"
ROWS = 100  # that are looked at to tell texts from numbers
_LINE_END = re.compile(r"\r\n|\r|\n")


class Format(base.Format):
    """A row with stray quotes, too few values or no text is skipped."""

    name: ClassVar[str] = "csv"
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")
    has_columns: ClassVar[bool] = True

    def documents(
        self, stream: Stream, *, text_column: str | None, encoding: str | None, skipped: Counter[str]
    ) -> Iterator[str]:
        csv.field_size_limit(LONGEST_LINE)
        lines = _lines(stream, encoding)
        first = next(lines, "")
        delimiter = max(DELIMITERS, key=lambda each: len(next(csv.reader([first], delimiter=each), ())))
        rows = _rows(chain([first], lines), delimiter, skipped)
        columns = next(rows, [])
        beginning = list(islice(rows, ROWS))
        of_texts = [
            name
            for place, name in enumerate(columns)
            if not all(_is_number(row[place]) for row in beginning if len(row) > place)
        ]
        if not beginning:
            return
        place = columns.index(choose_column(stream.path, columns, of_texts, text_column))
        yield from usable(_values(chain(beginning, rows), place, skipped), skipped)


def _values(rows: Iterable[list[str]], place: int, skipped: Counter[str]) -> Iterator[str]:
    for row in rows:
        if len(row) > place:
            yield row[place]
        else:
            skipped["with too few values"] += 1


def _rows(lines: Iterator[str], delimiter: str, skipped: Counter[str]) -> Iterator[list[str]]:
    """Yield the rows that are not blank. One that breaks the rules of quotes is counted."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        before = reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            skipped["not CSV"] += max(1, reader.line_num - before)  # all lines after a quote that is not closed
        else:
            if row:
                yield row


def _lines(stream: Stream, encoding: str | None) -> Iterator[str]:
    """Yield the lines with their ends: CR LF, LF or CR."""
    parts: list[str] = []  # of a line that is not complete
    length = 0
    for text in decode_text(stream, encoding):
        parts.append(text)
        length += len(text)
        if "\n" not in text and "\r" not in text:
            if length > LONGEST_LINE:
                raise UserError(f"{stream.path} has a line of more than {LONGEST_LINE:,} characters; is it a table?")
            continue
        joined = "".join(parts)
        begin = 0
        for end in _LINE_END.finditer(joined, 0, len(joined) - joined.endswith("\r")):  # an LF may follow it
            yield joined[begin : end.end()]
            begin = end.end()
        parts = [joined[begin:]]
        length = len(parts[0])
    if any(parts):
        yield "".join(parts)


def _is_number(value: str) -> bool:
    try:
        float(value or 0)
    except ValueError:
        return False
    return True
