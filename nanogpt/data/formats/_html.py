"""The visible text of an HTML document, by selectolax (its parser is lexbor, which follows the HTML standard)."""

import re
from pathlib import Path
from typing import Any

from nanogpt import extras
from nanogpt.errors import UserError

_HIDDEN = """audio canvas datalist embed head iframe math noembed noframes noscript object script select style svg
    template textarea title video"""
_BLOCKS = """address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption
    figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr html li main menu nav ol p pre section summary table tbody
    tfoot thead tr ul"""
_PARAGRAPHS = "blockquote dl figure h1 h2 h3 h4 h5 h6 hr ol p pre table ul"  # with a blank line around
_NO_END = """area base br body col colgroup dd dt embed head hr html img input li link meta option optgroup p param rp
    rt source tbody td tfoot th thead tr track wbr"""
HIDDEN, BLOCKS, PARAGRAPHS, WITHOUT_END = (
    frozenset(names.split()) for names in (_HIDDEN, _BLOCKS, _PARAGRAPHS, _NO_END)
)
DEEPEST = 5000  # elements in one another: the parser's time grows with the square of it
MOST_ATTRIBUTES = 5000  # of an element, for the same reason
_QUOTED = r"""=\s*+(?:"[^"]*+"|'[^']*+')"""
_VALUE = re.compile(_QUOTED)
_WHOLE_TAG = re.compile(rf"<[A-Za-z](?:[^>=]++|{_QUOTED}|=)*+")
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)")
_SPACES = re.compile(r"[ \t\n\r\f]+")


def visible_text(html: str, path: Path) -> str:
    """Return the text that a browser would show: without scripts and styles, one line for a block.

    Raise `UserError` if the page is nested too deeply or an element has too many attributes, and `MissingPackage` if
    the parser is not installed.
    """
    if html.count("<") > DEEPEST and _depth(html) > DEEPEST:
        raise UserError(f"{path} has a page with more than {DEEPEST:,} elements in one another: leave it out")
    if any(_attributes(tag[0]) > MOST_ATTRIBUTES for tag in _WHOLE_TAG.finditer(html)):
        raise UserError(f"{path} has an element with more than {MOST_ATTRIBUTES:,} attributes: leave it out")
    lexbor = extras.load("selectolax.lexbor", "documents", f"{path} has HTML pages and")
    root = lexbor.LexborHTMLParser(html).root
    out = _Lines()
    if root is not None:
        _walk(root, out)
    return out.text()


def _attributes(tag: str) -> int:
    """Return about how many attributes a tag has; 0 if it is too short for too many of them."""
    return len(re.findall(r"[\s/]+", _VALUE.sub("= ", tag))) if len(tag) > 2 * MOST_ATTRIBUTES else 0


def _depth(html: str) -> int:
    """Return about how many elements are in one another. Of those that need no end tag, none is counted."""
    depth = deepest = 0
    for tag in _TAG.finditer(html):
        if tag[2].lower() not in WITHOUT_END:
            depth = max(0, depth + (-1 if tag[1] else 1))
            deepest = max(deepest, depth)
    return deepest


def _walk(root: Any, out: "_Lines") -> None:
    """Add the text below an element. Without recursion: a page may be nested as deep as it likes."""
    node: Any = root
    open_tags: list[str] = []
    preformatted = 0
    while node is not None:
        tag = node.tag or ""
        child = None
        if tag == "-text":
            out.add(node.text_content or "", bool(preformatted))
        elif tag == "br":
            out.end_line(forced=True)
        elif tag not in HIDDEN and not tag.startswith("-") and "hidden" not in node.attributes:
            preformatted += tag == "pre"
            if tag in BLOCKS:
                out.end_line(tag in PARAGRAPHS)
            elif tag in ("td", "th"):
                out.add_tab()
            child = node.child
            if child is None:
                preformatted -= tag == "pre"
            else:
                open_tags.append(tag)
        following = child or node.next
        while following is None and open_tags:  # up, to the next one that has something after it
            tag = open_tags.pop()
            preformatted -= tag == "pre"
            if tag in BLOCKS:
                out.end_line(tag in PARAGRAPHS)
            node = node.parent
            following = node.next
        node = following


class _Lines:
    """Lines of text that grow piece by piece. White space is collapsed as a browser does."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._line: list[str] = []
        self._blank = False  # whether a blank line comes before the next text
        self._space = False  # whether a space comes before the next text in this line

    def add(self, text: str, preformatted: bool) -> None:
        """Add text to the line; preformatted text as it is."""
        if preformatted:
            self._put(text)
            return
        words = _SPACES.sub(" ", text)
        if not words.strip(" "):
            self._space = self._space or (bool(words) and bool(self._line))
            return
        if words.startswith(" ") and self._line:
            self._space = True
        self._put((" " if self._space else "") + words.strip(" "))
        self._space = words.endswith(" ")

    def add_tab(self) -> None:
        """Separate the next cell of a row."""
        if self._line:
            self._line.append("\t")
            self._space = False

    def end_line(self, paragraph: bool = False, *, forced: bool = False) -> None:
        """Begin a new line if there is text in this one, or `forced`; a `paragraph` has a blank line around it."""
        if self._line or (forced and self._lines):
            self._lines.append("".join(self._line).rstrip(" \t"))
        self._line, self._space = [], False
        self._blank = self._blank or paragraph

    def text(self) -> str:
        """Return all lines."""
        self.end_line()
        return "\n".join(self._lines).strip("\n") + ("\n" if self._lines else "")

    def _put(self, text: str) -> None:
        if not self._line and self._blank:
            if self._lines and self._lines[-1]:
                self._lines.append("")
            self._blank = False
        self._line.append(text)
