"""Downloads of one file: in blocks, resumed after an interruption, checked by the file's SHA-256 if it is known."""

import errno
import ssl
import string
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import quote

from nanogpt.errors import UserError
from nanogpt.events import Downloading
from nanogpt.files import sha256 as file_sha256
from nanogpt.files import sync, why

TIMEOUT_S = 20
ATTEMPTS = 3
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
REPORT_INTERVAL_S = 0.1
BLOCK_BYTES = 1 << 17
# What the system says if its connection is lost, besides the subclasses of ConnectionError.
LOST = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET}
PART = ".part"  # the end of the name of a file that is not downloaded to its end
ALTERNATIVES = (
    "use a local copy (on the command line with --source FILE), set NANOGPT_CACHE_DIR to a folder that has it, "
    "or train on python_stdlib, which needs no network"
)


class WrongFile(UserError):
    """A complete download that has another SHA-256 than it should have."""


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None,
    size: int | None = None,
    headers: Mapping[str, str] | None = None,
    retries: int = 0,
    timeout_s: float = TIMEOUT_S,
    advice: str = ALTERNATIVES,
) -> Generator[Downloading, None, None]:
    """Download a file to `path` and yield progress; do nothing if `path` already has the file.

    sha256, size (in bytes): None if not known. headers: sent to the server of `url`, not to one that it redirects to.

    A connection that drops, or brings no bytes for `timeout_s`, is opened again, and the download continues. With
    `retries`, it is given up after this number of failures in a row that brought nothing, with growing waits between
    them; without, at the first of these.

    What an interrupted download received stays beside `path` as `.part`, and the next one continues from there if the
    file has a known SHA-256. Raise `UserError` if the network fails or the file has another SHA-256; it ends with
    `advice`.
    """
    part = path.with_name(path.name + PART)
    try:
        if path.is_file() and (sha256 is None or file_sha256(path) == sha256):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if sha256 is None:  # nothing could tell that the part is of another version
            part.unlink(missing_ok=True)
        attempts = failures = 0
        version: dict[str, str] = {}
        while True:
            before = part.stat().st_size if part.exists() else 0
            try:
                yield from _append(url, part, size, headers or {}, timeout_s, version)
                break
            except (OSError, HTTPException) as error:
                done = part.stat().st_size if part.exists() else 0
                attempts, failures = attempts + 1, 0 if done > before else failures + 1
                is_last = failures > retries or (not retries and attempts == ATTEMPTS)
                if is_last or not _is_network_error(error) or _is_refusal(error):
                    raise
                yield from _wait(failures, Downloading(source=url, done_bytes=done, total_bytes=size))
        if sha256 is None or file_sha256(part) == sha256:
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
        reason = " ".join(str(getattr(error, "reason", error)).split())  # of one line
        raise UserError(f"{url} could not be downloaded ({reason}): {advice}") from error
    raise WrongFile(f"{url} is not the expected file (its {received:,} bytes have another sha256): {advice}")


def _wait(failures: int, progress: Downloading) -> Generator[Downloading, None, None]:
    """Wait after some failures in a row, 1 s after the first and twice as long after each other one."""
    end = time.monotonic() + (min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (failures - 1)) if failures else 0)
    while time.monotonic() < end:
        time.sleep(REPORT_INTERVAL_S)
        yield progress


def _append(
    url: str, part: Path, size: int | None, headers: Mapping[str, str], timeout_s: float, version: dict[str, str]
) -> Generator[Downloading, None, None]:
    """Request the bytes that `part` lacks, once.

    version: the entity tag of the file that `part` is the beginning of, under "ETag" if it is known; updated. A server
    sends the whole file if it has another one now.
    """
    done = part.stat().st_size if part.exists() else 0
    if size is not None and done >= size:
        if done == size:
            return
        part.unlink()
        done = 0
    try:
        response = _open(url, done, headers, timeout_s, version.get("ETag", ""))
    except urllib.error.HTTPError as error:
        if error.code != 416 or not done:
            raise
        part.unlink()  # it is at least as long as the file: start again
        response, done = _open(url, 0, headers, timeout_s), 0
    with response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
        done = done if resumed else 0
        tag = response.headers.get("ETag", "")
        version["ETag"] = "" if tag.startswith("W/") else tag  # a weak tag does not identify the bytes
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if length.isdecimal() else size
        # A download that is cancelled while the server lets it wait ends here: another one may write to the part now.
        yield Downloading(source=url, done_bytes=done, total_bytes=total)
        reported = 0.0
        with part.open("r+b" if resumed else "wb") as file:
            file.seek(done)
            while block := response.read1(BLOCK_BYTES):
                file.write(block)
                done += len(block)
                if time.monotonic() - reported > REPORT_INTERVAL_S:
                    reported = time.monotonic()
                    yield Downloading(source=url, done_bytes=done, total_bytes=total)
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")
    yield Downloading(source=url, done_bytes=done, total_bytes=total)


def _open(url: str, first: int, headers: Mapping[str, str], timeout_s: float, tag: str = "") -> HTTPResponse:
    """Request a file from its byte `first` on, or the whole file if its entity tag is not `tag`.

    Characters that no URL can have are encoded.
    """
    encoded = quote(url, safe=string.punctuation)
    request = urllib.request.Request(encoded, headers={"Range": f"bytes={first}-"} if first else {})
    if first and tag:
        request.add_header("If-Range", tag)
    for name, value in headers.items():
        request.add_unredirected_header(name, value)
    response: HTTPResponse = urllib.request.urlopen(request, timeout=timeout_s)
    return response


def _is_refusal(error: Exception) -> bool:
    """Return whether a server has answered that it will not send the file, or redirects to where it cannot be."""
    return isinstance(error, urllib.error.HTTPError) and 300 <= error.code < 500 and error.code not in (408, 416, 429)


def _is_network_error(error: Exception) -> bool:
    """Return whether an error comes from the network and not from this machine's disk."""
    return (
        not isinstance(error, OSError)
        or isinstance(error, urllib.error.URLError | ConnectionError | TimeoutError | ssl.SSLError)
        or error.errno in LOST
    )
