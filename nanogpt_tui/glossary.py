"""The glossary: terms found by name, alias or setting, or by searching.

The texts are in `glossary.toml`, by topic; `python -m nanogpt_tui.glossary > docs/glossary.md` writes them as a page.
"""

import tomllib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ANCHOR = ("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd", "Pc")  # Unicode categories that GitHub keeps in an anchor


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One term.

    `text` is one paragraph of plain text, `formula` is empty or lines of plain text, `settings` are the names of the
    settings that it explains, and `see` the names of other terms.
    """

    name: str
    topic: str
    text: str
    formula: str = ""
    aliases: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    see: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """All names by which it is found, its own first."""
        return (self.name, *self.aliases, *self.settings)


@cache
def terms() -> tuple[Term, ...]:
    """Return all terms in reading order: by topic, and in each topic simpler ones first."""
    topics = tomllib.loads(Path(__file__).with_name("glossary.toml").read_text(encoding="utf-8"))
    return tuple(_term(topic, entry) for topic, entries in topics.items() for entry in entries)


def topics() -> tuple[str, ...]:
    """Return all topics in reading order."""
    return tuple(dict.fromkeys(term.topic for term in terms()))


def lookup(name: str) -> Term | None:
    """Return the term of a name, alias or setting, or None. Case, hyphens, spaces and a plural s do not matter."""
    wanted = _key(name)
    return _index().get(wanted) or _index().get(wanted.removesuffix("s"))


def search(text: str) -> list[Term]:
    """Return the terms that match the typed text, best first: by name, by alias or setting, then by their texts.

    An empty text matches all terms, in reading order.
    """
    ranked = [(rank, term) for term in terms() if (rank := _rank(term, text)) is not None]
    return [term for _, term in sorted(ranked, key=lambda pair: pair[0])]


def markdown() -> str:
    """Return the whole glossary as a page of Markdown."""
    return "\n".join(_page()) + "\n"


def _term(topic: str, entry: dict[str, str | list[str]]) -> Term:
    lists = {name: tuple(value) for name, value in entry.items() if isinstance(value, list)}
    texts = {name: value for name, value in entry.items() if isinstance(value, str)}
    text, formula = " ".join(texts.pop("text").split()), texts.pop("formula", "").strip("\n")
    return Term(topic=topic, text=text, formula=formula, **texts, **lists)  # type: ignore[arg-type]


@cache
def _index() -> dict[str, Term]:
    return {_key(label): term for term in terms() for label in term.labels}


def _key(label: str) -> str:
    return "".join(filter(str.isalnum, label.casefold()))


def _rank(term: Term, text: str) -> int | None:
    """Return how well the term matches, 0 is best; None if it does not match."""
    wanted, (name, *others) = _key(text), map(_key, term.labels)
    if wanted == name or not text.strip():
        return 0
    if wanted in others:
        return 1
    if wanted and name.startswith(wanted):
        return 2
    if wanted and any(other.startswith(wanted) for other in others):
        return 3
    if wanted and any(wanted in label for label in (name, *others)):
        return 4
    everything = " ".join((*term.labels, term.text, term.formula)).casefold()
    return 5 if all(word in everything for word in text.casefold().split()) else None


def _page() -> Iterator[str]:
    yield "# Glossary\n"
    yield (
        "The terms of the field as this project uses them; the app explains the same words in place (`?`).\n"
        "Written by `python -m nanogpt_tui.glossary` from `nanogpt_tui/glossary.toml`: change them there.\n"
    )
    for topic in topics():
        yield f"- {_link(topic)}: " + " · ".join(_link(term.name) for term in terms() if term.topic == topic)
    yield ""
    topic = ""
    for term in terms():
        if term.topic != topic:
            topic = term.topic
            yield f"## {topic}\n"
        yield f"### {term.name}\n"
        yield f"{term.text}\n"
        if term.formula:
            yield f"```text\n{term.formula}\n```\n"
        notes = []
        if term.aliases:
            notes.append("Also: " + ", ".join(f"`{alias}`" for alias in term.aliases))
        if term.settings:
            notes.append("Settings: " + ", ".join(f"`{setting}`" for setting in term.settings))
        if term.see:
            notes.append("See: " + ", ".join(map(_link, term.see)))
        yield ". ".join(notes) + ".\n"


def _link(name: str) -> str:
    """Return a link to the term's heading, by the anchor that GitHub gives it."""
    kept = (letter for letter in name.casefold() if letter in " -_" or unicodedata.category(letter) in ANCHOR)
    anchor = "".join(kept)
    return f"[{name}](#{anchor.replace(' ', '-')})"


if __name__ == "__main__":
    print(markdown(), end="")
