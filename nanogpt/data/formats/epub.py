"""EPUB books: one document a file, the visible text of its chapters in the order of the spine.

A book is an archive of XHTML pages (https://www.w3.org/TR/epub-33/). Its sizes are bounded, and an entity that the XML
of its table of contents declares is refused, so that a small file cannot fill the memory.
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterator
from lzma import LZMAError
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import ClassVar
from urllib.parse import unquote
from xml.parsers import expat
from zipfile import BadZipFile, ZipFile

from nanogpt.data.formats import base
from nanogpt.data.formats._html import visible_text
from nanogpt.data.streams import Stream
from nanogpt.errors import UserError

MAX_CHAPTER, MAX_BOOK = 1 << 25, 1 << 26  # bytes, unpacked
MAX_LIST, MAX_ELEMENTS = 1 << 23, 1 << 16  # bytes of the XML file of a book's parts, and the parts in it
CHAPTER_END = "\n"
# As HTML, <title/> would be open, and the rest of the page a title.
_EMPTY = re.compile(r"<(title|script|style|textarea|iframe|noscript)\b([^<>]*)/>", re.IGNORECASE)
_PARTS = ("rootfile", "item", "itemref", "CipherReference")
_PAGES = ("application/xhtml+xml", "text/html", "text/x-oeb1-document")


class Format(base.Format):
    """A chapter that is missing is skipped; an encrypted one ends the book with an error."""

    name: ClassVar[str] = "epub"
    suffixes: ClassVar[tuple[str, ...]] = (".epub",)

    def documents(
        self, stream: Stream, *, text_column: str | None, encoding: str | None, skipped: Counter[str]
    ) -> Iterator[str]:
        try:
            with ZipFile(stream.stored) as archive:
                texts = list(_chapters(_Book(stream.path, archive), skipped))
        except (BadZipFile, zlib.error, LZMAError, EOFError, ValueError, RuntimeError) as error:
            raise UserError(f"{stream.path} is a damaged EPUB book ({error}): copy or download it again") from error
        if texts:
            yield CHAPTER_END.join(texts)
        else:
            skipped["without visible text"] += 1


class _Book:
    """The archive of a book, of which a bounded number of bytes is read."""

    def __init__(self, path: Path, archive: ZipFile) -> None:
        self.path = path
        self._archive = archive
        self._left = MAX_BOOK

    def read(self, name: str, most: int) -> bytes:
        """Return the content of a file in the archive. Raise KeyError if it is missing, `UserError` if larger."""
        with self._archive.open(name) as file:
            content = file.read(min(most, self._left) + 1)
        if len(content) > min(most, self._left):
            bound = MAX_BOOK if most > self._left else most
            raise UserError(f"{self.path} unpacks to more than {bound >> 20} MB of text: that is no book; leave it out")
        self._left -= len(content)
        return content

    def elements(self, name: str) -> list[tuple[str, dict[str, str]]]:
        """Return the parts that an XML file in the archive lists: names without a namespace, and attributes.

        Raise `UserError` if it is missing, damaged, too large or declares entities.
        """
        found: list[tuple[str, dict[str, str]]] = []

        def start(tag: str, attributes: dict[str, str]) -> None:
            if (name := tag.rpartition(":")[2]) in _PARTS:
                found.append((name, attributes))
            if len(found) > MAX_ELEMENTS:
                raise UserError(f"{self.path} lists more than {MAX_ELEMENTS:,} parts: that is no book; leave it out")

        parser = expat.ParserCreate()
        parser.StartElementHandler = start
        parser.EntityDeclHandler = self._refuse_entity
        try:
            parser.Parse(self.read(name, MAX_LIST), True)
        except (LookupError, ValueError, expat.ExpatError) as error:  # two of them for an encoding that expat lacks
            raise UserError(
                f"{self.path} is a damaged EPUB book ({name}: {error}): copy or download it again"
            ) from error
        return found

    def _refuse_entity(self, *_: object) -> None:
        raise UserError(f"{self.path} declares entities in its XML, which no EPUB book needs: leave it out")


def _chapters(book: _Book, skipped: Counter[str]) -> Iterator[str]:
    """Yield the visible texts of the pages of a book, each once, in the order of its spine."""
    container = book.elements("META-INF/container.xml")
    package = next((attributes.get("full-path", "") for tag, attributes in container if tag == "rootfile"), "")
    elements = book.elements(package)
    pages = {
        attributes.get("id"): normpath(join(dirname(package), unquote(attributes.get("href", ""))))
        for tag, attributes in elements
        if tag == "item" and attributes.get("media-type") in _PAGES
    }
    encrypted = _encrypted(book)
    spine = [pages.get(attributes.get("idref")) for tag, attributes in elements if tag == "itemref"]
    seen = set[str]()
    for page in spine:
        if page in seen:  # the standard forbids it, and a small book could fill the memory with it
            continue
        seen |= {page} if page else set()
        if page in encrypted:
            raise UserError(f"{book.path} is encrypted (DRM): give a copy that is not")
        try:
            content = book.read(page, MAX_CHAPTER) if page else b""
        except KeyError:
            content = b""
        if not content:
            skipped["missing chapters"] += 1
            continue
        html = _EMPTY.sub(r"<\1\2></\1>", _decode(content))
        if text := visible_text(html, book.path):
            yield text


def _encrypted(book: _Book) -> set[str]:
    """Return the names of the encrypted files of a book; fonts may be."""
    try:
        elements = book.elements("META-INF/encryption.xml")
    except UserError:
        return set()
    return {unquote(attributes.get("URI", "")) for tag, attributes in elements if tag == "CipherReference"}


def _decode(content: bytes) -> str:
    """Return the text of a page: UTF-8 or, with a byte order mark, UTF-16, as the standard demands."""
    codec = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return content.decode(codec, "replace")
