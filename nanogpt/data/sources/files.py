"""Local files with text, and folders of them."""

import os
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from nanogpt.data import formats
from nanogpt.data.sources import base
from nanogpt.data.sources._listing import walk
from nanogpt.data.sources.base import Shard, local_shards
from nanogpt.errors import UserError
from nanogpt.events import Encoding, Event, Notice, Skipped

MAX_NAMES = 3  # skipped files that a notice names for each reason
REPORT_INTERVAL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(base.Source):
    """The files in this order. A folder stands for the files with text below it, sorted, without hidden ones.

    `text_column` is that of tables; None: `text`, or else the only one of texts.
    """

    name: ClassVar[str] = "files"

    paths: tuple[Path, ...]
    text_column: str | None = None

    def validate(self) -> None:
        if not self.paths:
            raise UserError("paths is empty; name at least one file or folder")

    def files(self, encoding: str | None = None) -> Generator[Event, None, list[Path]]:
        return (yield from self._files(encoding, look_into_tables=True))

    def shards(self, encoding: str | None = None) -> Generator[Event, None, list[Shard]]:
        # A damaged table is an error when it is read: a whole shard must not be missing.
        return local_shards((yield from self._files(encoding, look_into_tables=False)))

    def _files(self, encoding: str | None, *, look_into_tables: bool) -> Generator[Event, None, list[Path]]:
        found: list[Path] = []
        for path in self.paths:
            if os.path.isdir(path):  # noqa: PTH112 (pathlib's raises without permission)
                found += yield from _text_files(path, encoding, self.text_column, look_into_tables)
            else:
                found.append(path)
        return found

    def available_offline(self) -> bool:
        return all(os.path.exists(path) for path in self.paths)  # noqa: PTH110 (pathlib's raises without permission)

    def describe(self) -> str:
        return ", ".join(map(str, self.paths))


def _text_files(
    folder: Path, encoding: str | None, text_column: str | None, look_into_tables: bool
) -> Generator[Event, None, list[Path]]:
    """Yield progress, return the text files below a folder, and report those that are skipped."""
    from nanogpt.data.text import UNREADABLE, exclusion_reason

    unlisted: list[Path] = []
    linked: list[Path] = []
    reasons: dict[Path, str] = {}
    reported = time.monotonic()
    for candidate in walk(folder, (".*",), unlisted, linked):
        is_looked_into = look_into_tables or not formats.find(candidate).has_columns
        reasons[candidate] = exclusion_reason(candidate, encoding, text_column) if is_looked_into else ""
        if time.monotonic() - reported > REPORT_INTERVAL_S:  # the caller may want to cancel: it may be a whole disk
            reported = time.monotonic()
            yield Encoding(phase="scan", done_bytes=0, total_bytes=0, tokens=0)
    reasons = dict(sorted(reasons.items()))
    texts = [candidate for candidate, reason in reasons.items() if not reason]
    reasons |= dict.fromkeys(unlisted, UNREADABLE) | dict.fromkeys(linked, "links to folders")
    skipped: dict[str, list[str]] = {}
    for path, reason in reasons.items():
        if reason:
            skipped.setdefault(reason, []).append(str(path.relative_to(folder)))
    described = ", ".join(f"{len(names):,} {reason} ({_few(names)})" for reason, names in skipped.items())
    if not texts:
        if folder in unlisted:
            raise UserError(f"{folder} cannot be read; check its permissions")
        raise UserError(f"no text files in {folder}: {described or 'it is empty'}")
    if skipped:
        yield Skipped(what="files", counts={reason: len(names) for reason, names in skipped.items()})
        yield Notice(
            level="info" if skipped.keys() <= {"empty", "not text"} else "warning",
            text=f"{folder}: skipped {sum(map(len, skipped.values())):,} of {len(reasons):,} files: {described}",
        )
    return texts


def _few(names: list[str]) -> str:
    return ", ".join(names[:MAX_NAMES]) + (", …" if len(names) > MAX_NAMES else "")
