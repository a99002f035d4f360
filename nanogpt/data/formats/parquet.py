"""Parquet tables, by pyarrow: one document is one value of the text column. Only that column is read."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO, ClassVar

from nanogpt import extras
from nanogpt.data.formats import base
from nanogpt.data.formats._columns import choose_column, usable
from nanogpt.data.streams import Stream
from nanogpt.errors import UserError

ROWS = 256  # in memory at a time: web documents have some kB each
BATCH_BYTES = 1 << 26  # of texts in memory at a time: fewer rows if they may be longer
BUFFER_BYTES = 1 << 20  # of a column: without it a whole row group would be read at once


class Format(base.Format):
    """A damaged page ends the file with an error; a row without text, or with too long a one, is skipped."""

    name: ClassVar[str] = "parquet"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)
    has_columns: ClassVar[bool] = True

    def documents(
        self, stream: Stream, *, text_column: str | None, encoding: str | None, skipped: Counter[str]
    ) -> Iterator[str]:
        """Yield the documents; a Parquet table is UTF-8, whatever `encoding` is."""
        path = stream.path
        parquet = extras.load("pyarrow.parquet", "corpora", f"{path} is a Parquet table and")
        arrow = extras.load("pyarrow", "corpora", str(path))
        try:
            table = parquet.ParquetFile(stream.stored, buffer_size=BUFFER_BYTES, pre_buffer=False)
            schema = table.schema_arrow
            of_texts = [field.name for field in schema if _is_text(arrow.types, field.type)]
            column = choose_column(path, schema.names, of_texts, text_column)
            if column not in of_texts:
                raise UserError(f"{path}: column {column!r} has no texts but {schema.field(column).type} values")
            for group in range(table.num_row_groups):
                rows = _rows_at_once(table.metadata.row_group(group), column, stream.stored)
                for batch in table.iter_batches(rows, [group], [column], use_threads=False):
                    yield from usable(_values(batch.column(0), skipped), skipped)
        except (arrow.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # of the system: pyarrow's have no number
                raise
            reason = str(error).splitlines()[0]
            raise UserError(f"{path} is a damaged Parquet table ({reason}): copy or download it again") from error


def _is_text(types: Any, kind: Any) -> bool:
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _rows_at_once(group: Any, column: str, file: BinaryIO) -> int:
    """Return how many rows of a row group have texts of about `BATCH_BYTES`.

    A value that occurs often is stored once, in a dictionary: each row may be as long as all of that.
    """
    chunks = (group.column(number) for number in range(group.num_columns))
    chunk = next(each for each in chunks if each.path_in_schema == column)
    size: int = chunk.total_uncompressed_size // max(1, group.num_rows)
    if chunk.has_dictionary_page:
        file.seek(max(0, chunk.dictionary_page_offset))
        page_bytes = _page_bytes(file.read(16))
        size = max(size, chunk.total_uncompressed_size if page_bytes is None else page_bytes)
    return min(max(1, BATCH_BYTES // max(1, size)), ROWS)


def _page_bytes(header: bytes) -> int | None:
    """Return the uncompressed size of a page that begins so: its second field, in Thrift's compact protocol.

    None if it does not begin as a page header does.
    """
    found = re.match(rb"\x15[\x00-\x7f]\x15([\x80-\xff]{0,4}[\x00-\x7f])", header, re.DOTALL)
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(found[1])) >> 1 if found else None


def _values(column: Any, skipped: Counter[str]) -> Iterator[object]:
    """Yield the values of a column. One that is not UTF-8 is counted, and the others are yielded."""
    try:
        yield from column.to_pylist()
    except UnicodeDecodeError:
        for value in column:
            try:
                text = value.as_py()
            except UnicodeDecodeError:
                skipped["not UTF-8"] += 1
            else:
                yield text
