"""Pages of the glossary: its topics, a topic's terms, a term, what a search finds. Words that lead on are links."""

import re

from textual.content import Content, Span
from textual.style import Style

from nanogpt_tui import glossary
from nanogpt_tui.text import printable

SENTENCE_END = re.compile(r"(?<=[.)]) (?=[A-Z])")
FOUND = 12  # terms of a search that are shown


def page(text: str) -> Content:
    """Return what the glossary says of `text`: a topic, a term with all it has, or the first words of whatever a search
    finds; nothing for nothing."""
    if not text:
        return Content()
    topic = next((each for each in glossary.topics() if each.casefold() == text.casefold()), None)
    if topic is not None:
        return _heads([term for term in glossary.terms() if term.topic == topic])
    term = glossary.lookup(text)
    if term is not None:
        return _term(term)
    found = glossary.search(text)[:FOUND]
    return _heads(found) if found else Content.styled(f"nothing about {printable(text)!r}", "$quiet")


def topics() -> Content:
    """Return a line of links to all topics."""
    return Content.assemble(("glossary  ", "$quiet"), _list(glossary.topics(), " · "))


def links(content: Content) -> list[tuple[Span, str]]:
    """Return the links in their order: where each stands, and what it leads to."""
    found = [
        (span, span.style.meta["open"])
        for span in content.spans
        if isinstance(span.style, Style) and "open" in span.style.meta
    ]
    return sorted(found, key=lambda link: link[0].start)


def _link(name: str) -> Content:
    return Content.styled(name, "bold $accent").stylize(Style.from_meta({"open": name}))


def _list(names: tuple[str, ...], between: str = ", ") -> Content:
    return Content(between).join(map(_link, names))


def _heads(terms: list[glossary.Term]) -> Content:
    """Each term with the first sentence of its text."""
    return Content("\n").join(
        Content.assemble(_link(each.name), f"  {SENTENCE_END.split(each.text, 1)[0]}") for each in terms
    )


def _term(term: glossary.Term) -> Content:
    parts = [
        Content.assemble((term.name, "bold $accent"), (f"  {', '.join(term.aliases)}", "$quiet")),
        Content(term.text),
    ]
    if term.formula:
        parts += [Content(), Content.styled(term.formula, "$accent")]
    parts.append(Content())
    if term.settings:
        parts.append(Content.styled(f"settings: {', '.join(term.settings)}", "$quiet"))
    if term.see:
        parts.append(Content.assemble(("see also: ", "$quiet"), _list(term.see)))
    parts.append(Content.assemble(("topic: ", "$quiet"), _link(term.topic)))
    return Content("\n").join(parts)
