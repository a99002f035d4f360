"""JSON lines (https://jsonlines.org): one document is the text column of one line's object, or a line's text."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from io import TextIOWrapper
from typing import ClassVar

from nanogpt.data.encodings import detect_encoding, display_name
from nanogpt.data.formats import base
from nanogpt.data.formats._columns import LONGEST, choose_column, usable
from nanogpt.data.streams import Stream
from nanogpt.errors import UserError

LONGEST_LINE = LONGEST  # a longer one is skipped


class Format(base.Format):
    """A line that is not JSON, too long, or without a text is skipped."""

    name: ClassVar[str] = "jsonl"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")
    has_columns: ClassVar[bool] = True

    def documents(
        self, stream: Stream, *, text_column: str | None, encoding: str | None, skipped: Counter[str]
    ) -> Iterator[str]:
        """Yield the documents; JSON lines are UTF-8 unless there is a byte order mark or `encoding` says otherwise."""
        yield from usable(_texts(stream, text_column, encoding, skipped), skipped)


def _texts(stream: Stream, text_column: str | None, encoding: str | None, skipped: Counter[str]) -> Iterator[object]:
    column, found = text_column, False
    columns: list[str] = []
    for line in _lines(stream, encoding, skipped):
        try:
            value = json.loads(line)
        except RecursionError:
            skipped["nested too deeply"] += 1
            continue
        except ValueError:
            skipped["not JSON"] += 1
            continue
        if isinstance(value, str):
            found = True
            yield value
        elif not isinstance(value, dict) or not value:
            skipped["not a JSON object"] += 1
        else:
            columns = columns or list(value)
            if column is None:
                of_texts = [name for name, each in value.items() if isinstance(each, str)]
                column = choose_column(stream.path, columns, of_texts, None)
            found = found or column in value
            yield value.get(column)
    if columns and not found:
        choose_column(stream.path, columns, (), text_column)


def _lines(stream: Stream, encoding: str | None, skipped: Counter[str]) -> Iterator[str]:
    codec, mark_bytes = detect_encoding(stream.content.peek(4), encoding)
    stream.content.read(mark_bytes)
    # A byte that is not in the encoding becomes a lone surrogate, and its document is counted as not Unicode.
    text = TextIOWrapper(stream.content, codec, "surrogateescape", newline="\n")
    try:
        while line := text.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE and not line.endswith("\n"):
                while (rest := text.readline(LONGEST_LINE)) and not rest.endswith("\n"):
                    pass
                skipped[f"longer than {LONGEST_LINE:,} characters"] += 1
            elif not line.isspace():
                yield line
    except UnicodeDecodeError as error:
        raise UserError(f"{stream.path} is not {display_name(codec)}: set another encoding") from error
    finally:
        with suppress(ValueError):  # the stream is closed already
            text.detach()  # it would close the stream, which its caller still asks how far it is
