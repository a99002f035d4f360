"""Downloads from a real server on this machine: whole, resumed, broken, and of another file."""

import errno
import hashlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nanogpt.data import download as module
from nanogpt.data.sources.url import Source
from nanogpt.errors import UserError
from nanogpt.events import Downloading, Notice
from tests.narrowing import expect

CONTENT = bytes(range(256)) * 4096  # 1 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """`breaks_after`: bytes after which each of that many answers ends; `ranges`: whether a part can be asked for;
    `tag`: the entity tag of the content, and `later`: content and tag from the second answer on; `path`: the last one
    that was asked for."""

    breaks_after: list[int]
    ranges = True
    content = CONTENT
    tag = ""
    redirects_to = ""
    later: tuple[bytes, str] | None = None
    asked: list[str | None]
    path = ""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        self.server.path = self.path
        if self.server.redirects_to:
            self.send_response(302)
            self.send_header("Location", self.server.redirects_to)
            self.end_headers()
            return
        if self.server.later is not None and len(self.server.asked) == 2:
            self.server.content, self.server.tag = self.server.later
        if self.headers.get("If-Range", self.server.tag) != self.server.tag:
            wanted = None
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if wanted and first >= len(self.server.content):
            self.send_error(416)
            return
        body = self.server.content[first:]
        self.send_response(206 if wanted and self.server.ranges else 200)
        if wanted and self.server.ranges:
            self.send_header(
                "Content-Range", f"bytes {first}-{len(self.server.content) - 1}/{len(self.server.content)}"
            )
        if self.server.tag:
            self.send_header("ETag", self.server.tag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.breaks_after.pop(0)] if self.server.breaks_after else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("NANOGPT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "REPORT_INTERVAL_S", 0)
    server = Server(("127.0.0.1", 0), Handler)
    server.breaks_after, server.asked = [], []
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def source(server: Server, bytes: int | None = len(CONTENT)) -> Source:
    return Source(url=f"http://127.0.0.1:{server.server_port}/some/input.txt?x=1", sha256=SHA256, bytes=bytes)


def fetched(wanted: Source) -> Path:
    for _ in wanted.files():
        pass
    assert wanted.available_offline()
    return wanted.cached_path


def test_a_file_is_fetched_once(server: Server) -> None:
    events = [expect(Downloading, event) for event in source(server).files()]
    assert events[-1].done_bytes == events[-1].total_bytes == len(CONTENT)
    assert [event.done_bytes for event in events] == sorted(event.done_bytes for event in events)
    assert source(server).cached_path.read_bytes() == CONTENT
    assert list(source(server).files()) == []
    assert server.asked == [None]


def test_an_abandoned_download_goes_on_where_it_was(server: Server) -> None:
    with closing(source(server).files()) as events:
        got = next(each for event in events if (each := expect(Downloading, event).done_bytes))
    part = source(server).cached_path.with_name(source(server).cached_path.name + ".part")
    assert not source(server).cached_path.exists()
    assert part.stat().st_size == got < len(CONTENT)
    assert fetched(source(server)).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={got}-"]
    assert not part.exists()


def test_a_file_that_is_being_downloaded_is_waited_for(server: Server) -> None:
    with closing(source(server).files()) as first, closing(source(server).files()) as second:
        next(first)
        assert "is already being downloaded" in expect(Notice, next(second)).text
        assert expect(Downloading, next(second)).done_bytes == 0
        list(first)
        assert list(second) == []
    assert server.asked == [None]
    assert list(source(server).cached_path.parent.iterdir()) == [source(server).cached_path]


def test_a_download_goes_on_where_the_disk_has_no_locks(server: Server, no_locks: None) -> None:
    path = source(server).cached_path
    path.parent.mkdir(parents=True)
    Path(f"{path}.lock").touch()  # of a process that was killed
    with closing(source(server).files()) as events:
        expect(Downloading, next(events))  # and no notice that it waits
    assert fetched(source(server)).read_bytes() == CONTENT


def test_a_connection_that_breaks_is_taken_up_again(server: Server) -> None:
    server.breaks_after = [300_000, 400_000]
    assert fetched(source(server)).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=700000-"]


@pytest.mark.parametrize("lost", [ssl.SSLError(1, "record layer failure"), OSError(errno.EHOSTUNREACH, "no route")])
def test_a_connection_that_the_system_loses_is_taken_up_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: OSError
) -> None:
    append, failures = module._append, [lost]

    def losing(*arguments: Any) -> Iterator[Downloading]:
        if failures:
            raise failures.pop()
        yield from append(*arguments)

    monkeypatch.setattr(module, "_append", losing)
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0)
    list(module.download(source(server).url, tmp_path / "file", sha256=SHA256, retries=1))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert not failures


def test_characters_that_a_url_cannot_have_are_encoded_once(server: Server, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{server.server_port}/ä b%20c?x=~1&y=[ü]"
    list(module.download(url, tmp_path / "file", sha256=SHA256))
    assert server.path == "/%C3%A4%20b%20c?x=~1&y=[%C3%BC]"


def test_a_download_that_is_closed_at_its_answer_leaves_the_part_as_it_is(server: Server, tmp_path: Path) -> None:
    server.ranges = False  # the whole file would be written over the part
    part = tmp_path / "file.part"
    part.write_bytes(CONTENT[:1000])
    with closing(module.download(source(server).url, tmp_path / "file", sha256=SHA256)) as work:
        assert expect(Downloading, next(work)).done_bytes == 0
    assert part.read_bytes() == CONTENT[:1000]


def test_two_versions_of_a_file_without_a_known_hash_are_not_mixed(server: Server, tmp_path: Path) -> None:
    server.tag, server.breaks_after, server.later = '"1"', [300_000], (CONTENT[::-1], '"2"')
    url, path = f"http://127.0.0.1:{server.server_port}/shard", tmp_path / "shard"
    list(module.download(url, path, sha256=None))
    assert path.read_bytes() == CONTENT[::-1]
    path.unlink()
    (tmp_path / "shard.part").write_bytes(CONTENT[:1000])  # of an earlier day
    list(module.download(url, path, sha256=None))
    assert path.read_bytes() == CONTENT[::-1]


def test_a_server_that_sends_no_parts_sends_the_whole_again(server: Server) -> None:
    server.ranges, server.breaks_after = False, [300_000]
    assert fetched(source(server)).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]


def test_a_part_longer_than_the_file_is_thrown_away(server: Server) -> None:
    for bytes_known in (len(CONTENT), None):
        wanted = source(server, bytes_known)
        wanted.cached_path.parent.mkdir(parents=True, exist_ok=True)
        wanted.cached_path.unlink(missing_ok=True)
        wanted.cached_path.with_name(wanted.cached_path.name + ".part").write_bytes(CONTENT + b"x")
        assert fetched(wanted).read_bytes() == CONTENT


def test_another_file_than_the_expected_one_is_refused_and_not_kept(server: Server) -> None:
    server.content = b"<html>log in</html>"
    with pytest.raises(UserError, match=r"not the expected file.*--source FILE"):
        fetched(source(server, None))
    assert list(source(server).cached_path.parent.iterdir()) == []


def test_a_damaged_copy_is_fetched_again(server: Server) -> None:
    fetched(source(server)).write_bytes(b"x")
    assert fetched(source(server)).read_bytes() == CONTENT


def test_without_a_network_the_ways_out_are_named(server: Server) -> None:
    wanted = Source(url="http://127.0.0.1:9/input.txt", sha256=SHA256)
    with pytest.raises(UserError, match=r"--source FILE.*NANOGPT_CACHE_DIR.*python_stdlib") as refusal:
        fetched(wanted)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("where", ["file:///etc/hostname", "/again"])
def test_a_redirection_to_a_local_file_or_in_a_circle_is_refused_at_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(module, "_wait", lambda *_: pytest.fail("waits, to try again"))
    server.redirects_to = where
    work = module.download(source(server).url, tmp_path / "file", sha256=None, retries=3)
    with pytest.raises(UserError, match=r"could not be downloaded \(.*\): use a local copy"):
        list(work)
    assert not (tmp_path / "file").exists()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    monkeypatch.setenv("NANOGPT_CACHE_DIR", str(tmp_path / "cache"))
    wanted = Source(url="http://127.0.0.1:9/input.txt", sha256=SHA256)
    with pytest.raises(UserError, match=r"cannot save the download in .*cache.downloads.*NANOGPT_CACHE_DIR"):
        list(wanted.files())
