"""Files of a corpus on a web server, or on several that have the same files."""

import re
from collections.abc import Generator
from dataclasses import dataclass
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar
from urllib.parse import quote, urljoin

from nanogpt.data.download import download
from nanogpt.data.sources import base
from nanogpt.data.sources.base import Shard
from nanogpt.errors import UserError
from nanogpt.events import Event
from nanogpt.files import read_text, why

ADVICE = "check the recipe's urls and manifest, or use a local copy with --source FOLDER"
MANIFEST_RETRIES = 3
LARGEST_MANIFEST = 1 << 26  # bytes: half a million lines
_LINE = re.compile(r"([0-9a-fA-F]{64})\s+\*?(?:\./)?(\S.*?)\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(base.Source):
    """The files `names`, below each of `urls`: another one is tried if the first does not have a file.

    `sha256` has one hash for each name. `manifest` is a file below the urls with lines of a hash and a name, as
    `sha256sum` writes them; without `names` its files that match `glob` are the shards.
    """

    name: ClassVar[str] = "mirror"
    is_corpus: ClassVar[bool] = True

    urls: tuple[str, ...]
    names: tuple[str, ...] = ()
    sha256: tuple[str, ...] = ()
    manifest: str = ""
    glob: str = "*"
    timeout_s: float = 20

    def validate(self) -> None:
        for url in self.urls:
            if not re.match(r"https?://", url):
                raise UserError(f"url {url!r} must begin with https:// or http://")
        if not self.urls or not (self.names or self.manifest):
            raise UserError("urls is empty" if not self.urls else "names or a manifest must say what to download")
        if self.sha256 and len(self.sha256) != len(self.names):
            raise UserError(f"sha256 has {len(self.sha256)} hashes for {len(self.names)} names")
        for each in self.sha256:
            if not re.fullmatch("[0-9a-f]{64}", each):
                raise UserError(f"sha256 = {each!r} must be 64 hexadecimal digits in lower case")
        if not 0 < self.timeout_s <= 3600:
            raise UserError(f"timeout_s={self.timeout_s} must be above 0 and at most 3600")

    def shards(self, encoding: str | None = None) -> Generator[Event, None, list[Shard]]:
        hashes = (yield from self._read_manifest()) if self.manifest else {}
        names = self.names or tuple(sorted(name for name in hashes if fnmatch(name, self.glob)))
        hashes |= dict(zip(self.names, self.sha256, strict=False))
        if not names:
            raise UserError(f"{self._url(self.urls[0], self.manifest)} names no files {self.glob}")
        return [
            Shard(name=name, urls=tuple(self._url(url, name) for url in self.urls), sha256=hashes.get(name))
            for name in names
        ]

    @property
    def stall_s(self) -> float:
        return self.timeout_s

    def available_offline(self) -> bool:
        return False

    def describe(self) -> str:
        return self.urls[0]

    def selection(self) -> str:
        if not self.names:
            return f"{self.glob} of {self.manifest}"
        listed = ", ".join(self.names)
        if len(self.names) < 4:
            return listed
        return f"{len(self.names):,} from {self.names[0]} on ({sha256(listed.encode()).hexdigest()[:8]})"

    def origin(self) -> dict[str, object]:
        return {"url": self.urls[0]}

    def _read_manifest(self) -> Generator[Event, None, dict[str, str]]:
        """Return the SHA-256 of each file by its name. Raise `UserError`."""
        failures = []
        with TemporaryDirectory() as folder:
            path = Path(folder) / "manifest"
            for base_url in self.urls:
                url = self._url(base_url, self.manifest)
                try:
                    yield from download(
                        url, path, sha256=None, retries=MANIFEST_RETRIES, timeout_s=self.timeout_s, advice=ADVICE
                    )
                    lines = read_text(path, LARGEST_MANIFEST).splitlines()
                except UserError as error:
                    failures.append(str(error))
                    continue
                except (OSError, ValueError) as error:
                    failures.append(f"{url} is not a manifest ({why(error)}): {ADVICE}")
                    path.unlink()
                    continue
                if found := [match.groups() for line in lines if (match := _LINE.fullmatch(line))]:
                    return {name: hash_.lower() for hash_, name in found}
                failures.append(f"{url} has no lines of a SHA-256 and a file name: {ADVICE}")
                path.unlink()
        raise UserError(failures[0])

    @staticmethod
    def _url(base_url: str, name: str) -> str:
        """Return the URL of a file. Raise `UserError` if its name, which a manifest may say, leads elsewhere."""
        folder = base_url if base_url.endswith("/") else base_url + "/"
        url = urljoin(folder, quote(name, safe="/:?=&%"))
        if not url.startswith(folder):
            raise UserError(f"the file name {name!r} leads out of {folder}: correct the recipe or the manifest")
        return url
