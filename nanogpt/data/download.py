"""Fetches one file: in pieces, resumed where it broke off, checked by its sha256. Knows nothing of what is in it."""

import re
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from nanogpt import paths
from nanogpt.data.recipes import UrlSource
from nanogpt.errors import UserError
from nanogpt.events import Downloading
from nanogpt.files import sha256, sync, why

SILENCE_S = 20
ATTEMPTS = 3
REPORT_INTERVAL_S = 0.1
BLOCK_BYTES = 1 << 17
WAYS_OUT = (
    "use a local copy (on the command line with --source FILE), set NANOGPT_CACHE_DIR to a folder that has it, "
    "or train on python_stdlib, which needs no network"
)


def cached(source: UrlSource) -> Path:
    """Where the file is kept once it is fetched."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", PurePosixPath(urlsplit(source.url).path).name) or "file"
    return paths.cache_dir() / "downloads" / f"{source.sha256[:16]}-{name}"


def download(source: UrlSource) -> Generator[Downloading, None, Path]:
    """Yields progress and returns the path of the whole, checked file; at once where it was fetched before.

    What a broken or abandoned download got stays beside it as `.part`, and the next one goes on from there. Raises
    UserError where the network fails or the file is another one.
    """
    path = cached(source)
    part = path.with_name(path.name + ".part")
    try:
        if path.is_file() and sha256(path) == source.sha256:
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, ATTEMPTS + 1):
            before = part.stat().st_size if part.exists() else 0
            try:
                yield from _append(source, part)
                break
            except (OSError, HTTPException) as error:
                grown = part.exists() and part.stat().st_size > before
                if attempt == ATTEMPTS or not grown or not _of_network(error):
                    raise
        if sha256(part) == source.sha256:
            sync(part)
            part.replace(path)
            return path
        size = part.stat().st_size
        part.unlink()
    except (OSError, HTTPException) as error:
        if isinstance(error, OSError) and not _of_network(error):
            raise UserError(
                f"cannot save the download in {path.parent}: {why(error)}; or set NANOGPT_CACHE_DIR to another folder"
            ) from error
        reason = getattr(error, "reason", error)
        raise UserError(f"{source.url} could not be fetched ({reason}): {WAYS_OUT}") from error
    raise UserError(f"{source.url} is not the expected file (its {size:,} bytes have another sha256): {WAYS_OUT}")


def _append(source: UrlSource, part: Path) -> Generator[Downloading, None, None]:
    """One request for what is still missing."""
    done = part.stat().st_size if part.exists() else 0
    if source.bytes is not None and done >= source.bytes:
        if done == source.bytes:
            return
        part.unlink()
        done = 0
    request = urllib.request.Request(source.url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=SILENCE_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not done:
            raise
        part.unlink()  # what we have is longer than the file, or there is nothing left: begin again
        response, done = urllib.request.urlopen(source.url, timeout=SILENCE_S), 0
    with response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
        done = done if resumed else 0
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if length.isdecimal() else source.bytes
        reported = 0.0
        with part.open("r+b" if resumed else "wb") as file:
            file.seek(done)
            while block := response.read(BLOCK_BYTES):
                file.write(block)
                done += len(block)
                if time.monotonic() - reported > REPORT_INTERVAL_S:
                    reported = time.monotonic()
                    yield Downloading(source=source.url, done_bytes=done, total_bytes=total)
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")
    yield Downloading(source=source.url, done_bytes=done, total_bytes=total)


def _of_network(error: Exception) -> bool:
    """Whether an error is the network's, and not this machine's disk."""
    return not isinstance(error, OSError) or isinstance(error, urllib.error.URLError | ConnectionError | TimeoutError)
