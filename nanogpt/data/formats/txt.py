"""Text as it is, such as prose, Markdown and source code: one document a file."""

from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

from nanogpt.data.decoding import decode_text
from nanogpt.data.formats import base
from nanogpt.data.streams import Stream
from nanogpt.errors import UserError

MAX_CHARACTERS = 1 << 28


class Format(base.Format):
    """The format of every file whose suffix no other format has. A document is as large as its file, up to a limit."""

    name: ClassVar[str] = "txt"
    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".md")
    is_text: ClassVar[bool] = True

    def documents(
        self, stream: Stream, *, text_column: str | None, encoding: str | None, skipped: Counter[str]
    ) -> Iterator[str]:
        parts, characters = [], 0
        for text in decode_text(stream, encoding):
            parts.append(text)
            characters += len(text)
            if characters > MAX_CHARACTERS:
                raise UserError(
                    f"{stream.path} is too large for one document of more than {MAX_CHARACTERS:,} characters; "
                    "use `nanogpt prepare textfile`, or split it"
                )
        if characters:
            yield "".join(parts)
        else:
            skipped["empty"] += 1
