"""Every text of both packages: words that nobody says in front of a screen stay out of them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for package in ("nanogpt", "nanogpt_tui") for path in (ROOT / package).rglob("*.py"))
# an old text, and what a colleague says
INSTEAD = {
    "what it comes to": "estimate",
    "an iteration": "per step",
    "start apart": "start in background",
    "nothing runs": "idle",
    "begin with": "start from",
    "of your own": "your own",
    "present weights": "current weights",
    "present step": "current step",
    "could have come": "could have written instead",
    "the order round": "reverse the order",
    "all of these words": "matching",
    "trains on ": "still training",
    "train on in": "keep training in",
    "go on": "continue, resume",
    "goes on": "continues, resumes",
    "enter takes it": "enter selects",
    "mend": "fix",
    "obey": "apply",
    "letter ": "command",
    "by heart": "memorize",
    "anew": "again",
    "without a word": "without a message",
    "sign of life": "heartbeat",
    "but for ": "except for",
    "in force": "in use",
    "where the runs live": "folder of the runs",
}
ALLOWED = ("begin with https",)
OF_THE_ALPHABET = "learn"  # the folders whose letters are those of the alphabet


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The texts of a file that have a space in them, with their lines: no docstrings, no keys, no types."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.lineno, node.value.replace("letter ", "") if OF_THE_ALPHABET in path.parts else node.value


def odd(text: str) -> list[str]:
    for harmless in ALLOWED:
        text = text.replace(harmless, "")
    return [f"{old!r} (better: {new})" for old, new in INSTEAD.items() if old in text]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_say_what_a_colleague_would_say(path: Path) -> None:
    found = [f"line {line}: {text[:60]!r}: {what}" for line, text in texts(path) if " " in text for what in odd(text)]
    assert not found


@pytest.mark.parametrize("page", ["README.md", "nanogpt_tui/glossary.toml", "docs/glossary.md"])
def test_pages_say_what_a_colleague_would_say(page: str) -> None:
    found = [
        f"line {number}: {what}"
        for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), 1)
        for what in odd(line)
    ]
    assert not found
