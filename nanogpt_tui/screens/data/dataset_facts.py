"""The facts of a data set, as rows of the list and as text of the details. Reads files."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from textual.content import Content

from nanogpt.data.catalog import DatasetInfo, list_datasets
from nanogpt.data.names import prepared_names
from nanogpt.data.recipes import Recipe, load_recipe, recipe_paths
from nanogpt.data.store import open_dataset
from nanogpt.errors import UserError
from nanogpt.formatting import counted
from nanogpt.tokenizers import available_offline
from nanogpt_tui.progress import Progress
from nanogpt_tui.text import count, format_bytes, printable, safe_content, short

LABEL = 12  # cells of a label in the details


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A data set and where its text is from.

    `recipe`: it can be prepared from one; `downloads`: its text is downloaded, `download_bytes` of it if that is known;
    `install_command`: what installs the package that has the text; `deletable`: it is on disk, or a part of it.
    `corpus`: its text is many files from the network. `of_documents`: its splits are shares of documents, and
    `documents` is their number by split, once it is prepared. `own_recipe` continues the interrupted preparation of the
    user's own documents; `continued_recipe` that of a corpus, with its settings and local files if it has some.
    """

    info: DatasetInfo
    source: str
    recipe: bool
    downloads: bool = False
    download_bytes: int | None = None
    install_command: str = ""
    val_ratio: float | None = None
    test_ratio: float | None = None
    characters: int | None = None
    encoding: str = ""
    deletable: bool = False
    corpus: bool = False
    of_documents: bool = False
    documents: dict[str, int] = field(default_factory=dict)
    own_recipe: Recipe | None = None
    continued_recipe: Recipe | None = None

    @property
    def name(self) -> str:
        """The name of the data set."""
        return self.info.name

    @classmethod
    def of_recipe(cls, recipe: Recipe) -> "Entry":
        """Return the entry of an own text that is not on disk yet. Of the user's own files it reads none."""
        is_at_hand = not (recipe.source.is_corpus or recipe.source.downloads) or recipe.source.available_offline()
        info = DatasetInfo(
            name=recipe.name,
            title=recipe.title,
            licence=recipe.licence,
            tokenizer=recipe.tokenizer,
            offline=is_at_hand and available_offline(recipe.tokenizer),
        )
        return cls(
            info=info,
            source=recipe.source.describe(),
            recipe=True,
            downloads=recipe.source.downloads,
            download_bytes=recipe.source.download_bytes,
            val_ratio=recipe.val_ratio,
            test_ratio=recipe.test_ratio,
            corpus=recipe.source.is_corpus,
            of_documents=recipe.documents is not None,
        )

    def interrupted(self, size_bytes: int) -> "Entry":
        """Return the entry with a part of the data set on disk."""
        return replace(self, info=replace(self.info, unfinished=True, size_bytes=size_bytes), deletable=True)


def list_entries() -> list[Entry]:
    """Return the entries of all data sets, as they are on disk now."""
    recipes, on_disk = recipe_paths(), prepared_names()
    return [_entry(info, info.name in recipes, info.name in on_disk) for info in list_datasets()]


def _entry(info: DatasetInfo, has_recipe: bool, is_on_disk: bool) -> Entry:
    recipe: Recipe | None = None
    own: Recipe | None = None
    continued: Recipe | None = None
    is_interrupted = info.unfinished and not info.prepared
    if is_interrupted:
        from nanogpt.data.corpus.preparation import as_interrupted, interrupted_recipe

        own = interrupted_recipe(info.name)
        if own is not None and not has_recipe:
            return replace(Entry.of_recipe(own), own_recipe=own).interrupted(info.size_bytes)
    if has_recipe:
        try:
            recipe = load_recipe(info.name)
        except UserError:
            has_recipe = False  # `info.problem` has the error
    source = recipe.source if recipe is not None else None
    if is_interrupted and recipe is not None and (recipe.source.is_corpus or recipe.documents is not None):
        continued = as_interrupted(recipe)
        if own is not None:  # it is read from local files
            continued = replace(continued, source=own.source)
    meta = open_dataset(info.name).meta if info.prepared else None
    ratios = meta or recipe
    return Entry(
        info=info,
        source=source.describe() if source is not None else recorded_origin(meta.source) if meta is not None else "",
        recipe=has_recipe,
        downloads=source is not None and source.downloads,
        download_bytes=source.download_bytes if source is not None else None,
        install_command=source.install_command if source is not None else "",
        val_ratio=ratios.val_ratio if ratios is not None else None,
        test_ratio=ratios.test_ratio if ratios is not None else None,
        characters=meta.characters if meta is not None else None,
        encoding=str(meta.source.get("encoding", "")) if meta is not None else "",
        deletable=is_on_disk or info.unfinished,
        corpus=source is not None and source.is_corpus,
        of_documents=recipe is not None and recipe.documents is not None,
        documents=_documents(meta.source) if meta is not None else {},
        continued_recipe=continued,
    )


def _documents(source: dict[str, Any]) -> dict[str, int]:
    """Return the documents of each split, from the record of the source of a data set."""
    found = source.get("documents")
    numbers = found if isinstance(found, dict) else {}
    return {split: number for split, number in numbers.items() if isinstance(number, int)}


def recorded_origin(source: dict[str, Any]) -> str:
    """Return the origin of a prepared text, from the record of its source."""
    where = source.get("url") or source.get("path")
    files = source.get("files")
    return str(where) if where else counted(files, "file") if isinstance(files, int) else "files"


def state(entry: Entry, progress: Progress | None = None) -> tuple[str, str, str]:
    """Return a mark, its style and its meaning. `progress` is that of its preparation."""
    if progress is not None:
        return ("‖", "$warning", "preparing is paused") if progress.paused else ("◌", "$alive", "is being prepared")
    if entry.info.problem:
        return "×", "$error", "cannot be used"
    if entry.info.prepared:
        return "●", "$alive", "ready"
    if entry.info.unfinished:
        return "‖", "$warning", "preparing was interrupted; it can be continued"
    if entry.info.offline:
        return "○", "$foreground", "not prepared; works offline"
    return "⊘", "$quiet", "not prepared; needs the network"


def list_heading(width: int) -> Content:
    """Return the titles of the columns in `width` cells."""
    return Content.styled(_columns("  data set", "tokens", "vocab", "size", "tokenizer", width), "$quiet")


def list_row(entry: Entry, width: int, progress: Progress | None) -> Content:
    """Return a row of `width` cells. `progress` is that of its preparation, None if there is none."""
    mark, style, _ = state(entry, progress)
    info = entry.info
    tokens = count(sum(info.tokens.values())) if info.tokens else "–"
    if progress is not None:
        tokens = f"{progress.share:.0%}"
    vocab = f"{info.vocab_size:,}" if info.vocab_size else ""
    size = format_bytes(info.size_bytes) if info.size_bytes else ""
    line = _columns(printable(info.name), tokens, vocab, size, printable(info.tokenizer), width, indent=2)
    bright = "$foreground" if info.prepared or progress is not None else "$quiet"
    return Content.assemble((f"{mark} ", style), (line, bright))


def _columns(name: str, tokens: str, vocab: str, size: str, tokenizer: str, width: int, indent: int = 0) -> str:
    """Return as many columns as fit; the name takes the rest of the width."""
    width -= indent
    right = f" {tokens:>7}"
    if width >= 38:
        right += f" {vocab:>7}"
    if width >= 50:
        right += f" {size:>8}"
    if width >= 60:
        right += f"  {short(tokenizer, 11):<11}"
    room = max(4, width - len(right))
    return f"{short(name, room):<{room}}{right}"


def facts_text(entry: Entry, width: int, progress: Progress | None = None) -> Content:
    """Return all facts of a data set, one on each line of `width` cells. `progress` is that of its preparation."""
    info = entry.info
    lines = [safe_content(info.title or info.name, "bold $foreground")]
    if info.description:
        lines.append(safe_content(info.description, "$quiet"))
    mark, style, meaning = state(entry, progress)
    first, *further = textwrap.wrap(meaning, max(10, width - LABEL - 2))
    lines += [Content(), Content.assemble((f"{'state':<{LABEL}}", "$quiet"), (f"{mark} ", style), first)]
    lines += [Content(" " * (LABEL + 2) + line) for line in further]
    for label, value in _facts(entry):
        wrapped = textwrap.wrap(printable(value), max(10, width - LABEL)) or [""]
        for number, line in enumerate(wrapped):
            lines.append(Content.assemble((f"{'' if number else label:<{LABEL}}", "$quiet"), (line, "$foreground")))
    return Content("\n").join(lines)


def _facts(entry: Entry) -> Iterator[tuple[str, str]]:
    """Yield (label, value)."""
    info = entry.info
    if entry.source:
        yield "from", entry.source
    if entry.download_bytes and not info.prepared:
        yield "download", format_bytes(entry.download_bytes)
    yield "licence", info.licence or "unknown"
    vocabulary = f", {info.vocab_size:,} in its vocabulary" if info.vocab_size else ""
    yield "tokenizer", f"{info.tokenizer or 'unknown'}{vocabulary}"
    if info.tokens:
        total = sum(info.tokens.values())
        yield "tokens", f"{total:,}"
        yield "splits", "  ".join(f"{split} {tokens:,}" for split, tokens in info.tokens.items())
        if entry.characters:
            yield "characters", f"{entry.characters:,}, {entry.characters / total:.2f} per token"
        if entry.encoding not in ("", "utf-8"):
            yield "read as", entry.encoding
        if entry.documents:
            yield "documents", "  ".join(f"{split} {number:,}" for split, number in entry.documents.items())
        yield "on disk", format_bytes(info.size_bytes)
    elif entry.val_ratio is not None:
        test = f", test {100 * entry.test_ratio:g}%" if entry.test_ratio else ""
        of = " of the documents" if entry.of_documents else ""
        yield "splits", f"validation {100 * entry.val_ratio:g}%{test}{of}"
    if info.unfinished:
        yield "on disk", f"{format_bytes(info.size_bytes)} of a part"


def preparation_hint(entry: Entry) -> str:
    """Return how to prepare a data set, with {keys}; "" if it is prepared or cannot be."""
    info = entry.info
    if info.unfinished and not entry.recipe:
        return "prepare it with the settings and the name that it began with, and it continues where it stopped"
    if not entry.recipe or info.prepared or info.problem:
        return ""
    if info.unfinished:
        return "{data.prepare} continues preparing where it stopped"
    if entry.install_command and not entry.info.offline:
        return f"{{data.prepare}} prepares it once its package is installed:\n{printable(entry.install_command)}"
    if entry.downloads and not entry.info.offline:
        return "{data.prepare} downloads and prepares it; {data.give} uses a file that you downloaded elsewhere"
    if entry.corpus:
        return "{data.prepare} downloads and prepares it; {data.give} uses files that you downloaded elsewhere"
    return "{data.prepare} prepares it"
