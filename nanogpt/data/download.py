"""Downloads of one file: in blocks, resumed after an interruption, checked by the file's SHA-256."""

import time
import urllib.error
import urllib.request
from collections.abc import Generator
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from nanogpt.errors import UserError
from nanogpt.events import Downloading
from nanogpt.files import sha256 as file_sha256
from nanogpt.files import sync, why

TIMEOUT_S = 20
ATTEMPTS = 3
REPORT_INTERVAL_S = 0.1
BLOCK_BYTES = 1 << 17
ALTERNATIVES = (
    "use a local copy (on the command line with --source FILE), set NANOGPT_CACHE_DIR to a folder that has it, "
    "or train on python_stdlib, which needs no network"
)


def download(url: str, path: Path, *, sha256: str, size: int | None = None) -> Generator[Downloading, None, None]:
    """Download a file to `path` and yield progress; do nothing if `path` already has the file.

    size: in bytes, if it is known. What an interrupted download received stays beside `path` as `.part`, and the next
    one continues from there. Raise `UserError` if the network fails or the file has another SHA-256.
    """
    part = path.with_name(path.name + ".part")
    try:
        if path.is_file() and file_sha256(path) == sha256:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, ATTEMPTS + 1):
            before = part.stat().st_size if part.exists() else 0
            try:
                yield from _append(url, part, size)
                break
            except (OSError, HTTPException) as error:
                progressed = part.exists() and part.stat().st_size > before
                if attempt == ATTEMPTS or not progressed or not _is_network_error(error):
                    raise
        if file_sha256(part) == sha256:
            sync(part)
            part.replace(path)
            return
        received = part.stat().st_size
        part.unlink()
    except (OSError, HTTPException) as error:
        if isinstance(error, OSError) and not _is_network_error(error):
            raise UserError(
                f"cannot save the download in {path.parent}: {why(error)}; or set NANOGPT_CACHE_DIR to another folder"
            ) from error
        reason = getattr(error, "reason", error)
        raise UserError(f"{url} could not be downloaded ({reason}): {ALTERNATIVES}") from error
    raise UserError(f"{url} is not the expected file (its {received:,} bytes have another sha256): {ALTERNATIVES}")


def _append(url: str, part: Path, size: int | None) -> Generator[Downloading, None, None]:
    """Request the bytes that `part` lacks, once."""
    done = part.stat().st_size if part.exists() else 0
    if size is not None and done >= size:
        if done == size:
            return
        part.unlink()
        done = 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not done:
            raise
        part.unlink()  # it is at least as long as the file: start again
        response, done = urllib.request.urlopen(url, timeout=TIMEOUT_S), 0
    with response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
        done = done if resumed else 0
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if length.isdecimal() else size
        reported = 0.0
        with part.open("r+b" if resumed else "wb") as file:
            file.seek(done)
            while block := response.read(BLOCK_BYTES):
                file.write(block)
                done += len(block)
                if time.monotonic() - reported > REPORT_INTERVAL_S:
                    reported = time.monotonic()
                    yield Downloading(source=url, done_bytes=done, total_bytes=total)
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")
    yield Downloading(source=url, done_bytes=done, total_bytes=total)


def _is_network_error(error: Exception) -> bool:
    """Return whether an error comes from the network and not from this machine's disk."""
    return not isinstance(error, OSError) or isinstance(error, urllib.error.URLError | ConnectionError | TimeoutError)
