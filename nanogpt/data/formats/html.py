"""HTML pages: one document a file, its visible text."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from io import BufferedReader, BytesIO
from typing import ClassVar

from nanogpt.data.decoding import decode_text
from nanogpt.data.encodings import codec_name
from nanogpt.data.formats import base
from nanogpt.data.formats._html import visible_text
from nanogpt.data.streams import Stream
from nanogpt.errors import UserError

MAX_BYTES = 1 << 26
_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?([A-Za-z0-9_.:-]+)""", re.IGNORECASE)
_WIDER = {"iso8859-1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"}


class Format(base.Format):
    """A page is read in the encoding that it names, if it is not UTF-8. Scripts and styles are no text."""

    name: ClassVar[str] = "html"
    suffixes: ClassVar[tuple[str, ...]] = (".html", ".htm", ".xhtml")

    def documents(
        self, stream: Stream, *, text_column: str | None, encoding: str | None, skipped: Counter[str]
    ) -> Iterator[str]:
        content = stream.content.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UserError(f"{stream.path} is larger than {MAX_BYTES >> 20} MB: that is no page; split it")
        page = Stream(stream.path, BufferedReader(BytesIO(content)), stream.stored)
        html = "".join(decode_text(page, encoding or _named_encoding(content)))
        stream.decoder = page.decoder
        text = visible_text(html, stream.path)
        if text:
            yield text
        else:
            skipped["without visible text"] += 1


def _named_encoding(content: bytes) -> str | None:
    """Return the encoding that a page names and can be decoded in, as browsers understand it; None if it is UTF-8."""
    with suppress(UnicodeDecodeError):
        content.decode()
        return None
    if named := _CHARSET.search(content[:4096]):
        with suppress(UserError, UnicodeDecodeError):
            codec = codec_name(named[1].decode())
            codec = _WIDER.get(codec, codec)
            content.decode(codec)
            return codec
    return None
