"""Parquet tables, by pyarrow: one document is one value of the text column. Only that column is read."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

from nanogpt import extras
from nanogpt.data.formats import base
from nanogpt.data.formats._columns import choose_column, usable
from nanogpt.data.streams import Stream
from nanogpt.errors import UserError

ROWS = 256  # in memory at a time: web documents have some kB each
BUFFER_BYTES = 1 << 20  # of a column: without it a whole row group would be read at once


class Format(base.Format):
    """A damaged page ends the file with an error; a row without text is skipped."""

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
            for batch in table.iter_batches(batch_size=ROWS, columns=[column], use_threads=False):
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
