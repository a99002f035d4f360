"""The first reading of the files of a text: their sizes, encodings and characters, and notices of what was found."""

import hashlib
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from nanogpt.data.background import run_in_background
from nanogpt.data.encodings import ADVICE, display_name
from nanogpt.data.text import SEPARATOR, Alphabet, TextFile, list_counts, scan
from nanogpt.errors import UserError
from nanogpt.events import Encoding, Event, Notice, Skipped
from nanogpt.formatting import counted

REPORT_INTERVAL_S = 0.05
MAX_NAMES = 3  # files that a notice names


def scan_files(
    candidates: list[Path],
    encoding: str | None = None,
    text_column: str | None = None,
    names: Mapping[Path, str] = MappingProxyType({}),
) -> Generator[Event, None, tuple[list[TextFile], int, str, str]]:
    """Read all files once; return (files, total bytes, distinct characters, SHA-256 of the whole text).

    Yield progress and notices. `names` are those of files that have another one in messages. Raise `UserError` if a
    file is not text or the text is empty.
    """
    alphabet, digest = Alphabet(), hashlib.sha256()
    total = sum(map(_size_or_zero, candidates))
    files: list[TextFile] = []
    done, reported = 0, 0.0
    with run_in_background() as hashing:
        hash_ = partial(hashing, digest.update)
        for path in candidates:
            if files:
                hash_(SEPARATOR.encode())  # equal hashes mean equal texts, whatever the division into files
            reading = scan(path, alphabet, hash_, encoding=encoding, text_column=text_column)
            while True:
                try:
                    done += next(reading)
                except StopIteration as end:
                    files.append(end.value)
                    break
                except UserError as error:
                    if path in names:
                        raise UserError(str(error).replace(str(path), names[path])) from error
                    raise
                if time.monotonic() - reported > REPORT_INTERVAL_S:
                    reported = time.monotonic()
                    yield Encoding(phase="scan", done_bytes=done, total_bytes=total, tokens=0)
    yield Encoding(phase="scan", done_bytes=done, total_bytes=done, tokens=0)
    if not any(file.characters for file in files):
        first, others = names.get(candidates[0], candidates[0]), " and the other files" if len(candidates) > 1 else ""
        raise UserError(f"{first}{others} is empty; give some text")
    yield from _report_encodings(files, names)
    yield from _report_skipped(files, names)
    if len(files) > 1:
        alphabet.add(SEPARATOR.encode())
    return files, sum(file.text_bytes for file in files), alphabet.characters(), digest.hexdigest()


def _size_or_zero(path: Path) -> int:
    """Return the size of a file in bytes for the progress; 0 if it cannot be read."""
    try:
        return path.stat().st_size
    except OSError:  # reading it reports the reason
        return 0


def _report_encodings(files: list[TextFile], names: Mapping[Path, str]) -> Iterator[Notice]:
    """Report files that are not UTF-8, with the encoding they are read as and an excerpt by which a user can judge."""
    for codec in sorted({file.codec for file in files} - {"utf-8"}):
        of_it = [file for file in files if file.codec == codec]
        example = next((file for file in of_it if file.excerpt), of_it[0])
        name = names.get(example.path, str(example.path))
        asked = example.encoding is not None
        yield encoding_notice(name, len(of_it), codec, example.excerpt, detected=example.detected, asked=asked)


def encoding_notice(name: str, count: int, codec: str, excerpt: str, *, detected: bool, asked: bool) -> Notice:
    """Return the notice that files, one of which has this name, are read in an encoding other than UTF-8.

    detected, asked: whether the encoding was found in the text, or was given.
    """
    what, is_ = (name, "is") if count == 1 else (f"{count:,} files, such as {name},", "are")
    looks = f": “{' '.join(excerpt.split())}”" if excerpt else ""
    if detected:
        text = f"{what} {is_} read as {display_name(codec)}, detected{looks}; if that is wrong, {ADVICE}"
        return Notice(level="info", text=text)
    if codec == "cp1252" and not asked:
        text = f"{what} {is_} not UTF-8 and {is_} read as Windows-1252{looks}; if that is wrong, {ADVICE}"
        return Notice(level="warning", text=text)
    return Notice(level="info", text=f"{what} read as {display_name(codec)}{looks}")


def _report_skipped(files: list[TextFile], names: Mapping[Path, str]) -> Iterator[Event]:
    """Report the documents that were left out, by reason, and the files that have most of them."""
    counts = sum((Counter(file.skipped) for file in files), Counter[str]())
    if counts:
        most = sorted((file for file in files if file.skipped), key=lambda file: -sum(file.skipped.values()))
        examples = ", ".join(names.get(file.path, str(file.path)) for file in most[:MAX_NAMES])
        more = ", …" if len(most) > MAX_NAMES else ""
        text = f"skipped {counted(sum(counts.values()), 'document')}: {list_counts(counts)} (in {examples}{more})"
        yield Skipped(what="documents", counts=dict(counts))
        yield Notice(level="warning", text=text)
