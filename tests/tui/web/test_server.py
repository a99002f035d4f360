"""The server as a browser uses it: its page, and websockets with an app behind each."""

import asyncio
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pyte
import pytest
from aiohttp import ClientSession, WSMsgType, WSServerHandshakeError
from aiohttp.test_utils import TestServer

from nanogpt import processes, runs
from nanogpt_tui.settings import Settings, save
from nanogpt_tui.web import server
from nanogpt_tui.web.access import Access
from nanogpt_tui.web.server import AppServer, obey
from nanogpt_tui.web.viewer import Viewer
from tests.tui.conftest import kill_trainer

TIMEOUT_S = 120.0
LONG = {"max_iters": 1_000_000, "eval_interval": 500_000, "sample_interval": 0}
Opened = Callable[..., AbstractAsyncContextManager[Any]]


class Browser:
    """A websocket of the page, and the terminal in it."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self.websocket, self._screen = websocket, pyte.Screen(100, 30)
        self._stream = pyte.ByteStream(self._screen)

    async def send(self, *message: Any) -> None:
        await self.websocket.send_str(json.dumps(message))

    async def press(self, text: str) -> None:
        await self.send("stdin", text)

    def shows(self) -> str:
        return "\n".join(self._screen.display)

    async def until(self, *words: str) -> None:
        """Read until all words are on the screen."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while not all(word in self.shows() for word in words):
                    self._stream.feed(await self.websocket.receive_bytes())
        except (TimeoutError, TypeError):  # a TypeError: it was closed
            pytest.fail(f"{words} are not on the screen:\n{self.shows()}")

    async def ended(self) -> None:
        """Read until the server closes the connection."""
        while not self.websocket.closed:
            await asyncio.wait_for(self.websocket.receive(), TIMEOUT_S)


@pytest.fixture
def served(home: Path) -> Opened:
    """Serve the app with the given arguments; a base address, and a function that opens a viewer."""

    @asynccontextmanager
    async def opened(*arguments: str, token: str | None = None) -> AsyncIterator[tuple[Any, Any]]:
        serving = TestServer(AppServer(Access(token), arguments, 8000).application())
        async with serving, ClientSession() as session:

            async def view(**more: Any) -> Browser:
                address = serving.make_url("/ws").update_query(width=100, height=30)
                return Browser(await session.ws_connect(address, timeout=aiohttp.ClientWSTimeout(ws_close=60), **more))

            yield serving.make_url("/"), view

    return opened


def files_of(folder: Path) -> dict[Path, bytes]:
    """All files but the log, with their content."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "tui.log"}


async def test_two_viewers_see_the_same_run_and_read_only_viewers_change_nothing(
    served: Opened, two_runs: Path, trained: Path, home: Path
) -> None:
    shutil.copytree(trained.parent / "data", home / "data")
    before = files_of(home)
    async with served("--readonly", "watch", "one") as (_, view):
        one, other = await asyncio.gather(view(), view())
        for viewer in (one, other):
            await viewer.until("readonly", "one", "finished", "step 60")
        for key in ("r", "g", "n", "L"):  # the last one changes the unit of the losses, here alone
            await one.press(key)
        await one.until("train ppl")
        for key in ("4", "d", "R", "i", "e", "r"):
            await one.press(key)
        await one.press("/")
        await one.until("Runs", "two")
        await other.press("1")
        await other.until("rhymes")
        for key in ("d", "n", "a", "p", "S"):
            await other.press(key)
        await other.press("2")
        await other.until("finished", "step 60")
        assert "train ppl" not in other.shows()
        await one.press("\x1b")
        await one.press("q")
        await one.ended()
        await other.websocket.close()
    assert files_of(home) == before


async def test_a_training_started_in_a_browser_is_steered_in_another_and_continues_when_its_page_is_closed(
    served: Opened, rhymes: dict[str, Any], home: Path
) -> None:
    save(Settings(quickstart=rhymes | LONG))
    run = home / "runs" / "quickstart"
    try:
        async with served("--glyphs=ascii") as (_, view):
            one = await view()
            await one.until("quick start")
            await one.press("\r")
            await one.until("quickstart", "training", "pause")
            other = await view()
            await other.until("quickstart", "training", "pause")
            await other.press(" ")
            await one.until("paused")
            await other.until("paused")
            await one.websocket.close()
            await other.press(" ")
            await other.until("state  training")
            step = runs.summary(run).step
            while runs.summary(run).step <= step:
                await asyncio.sleep(0.05)
            await other.press("x")
            await other.until("Stop training?")
            await other.press("s")
            await other.until("stopped")
    finally:
        kill_trainer(run)


REFUSED = [
    ({"Origin": "http://evil.example"}, None),
    ({"Origin": "http://localhost:1"}, None),
    ({"Host": "evil.example"}, None),
    ({}, "token"),
    ({"Cookie": "nanogpt-tui-8000=toke"}, "token"),
    ({"Origin": "http://evil.example", "Cookie": "nanogpt-tui-8000=token"}, "token"),
]


@pytest.mark.parametrize(("headers", "token"), REFUSED)
async def test_a_websocket_that_may_not_connect_starts_no_app(
    served: Opened, headers: dict[str, str], token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "start_python", None)
    async with served(token=token) as (_, view):
        with pytest.raises(WSServerHandshakeError, match=r"40[13]"):
            await view(headers=headers)


async def test_the_token_moves_from_the_address_into_a_cookie(served: Opened, caplog: pytest.LogCaptureFixture) -> None:
    async with served(token="s3cret") as (address, _), ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as one:
        for path in ("", "ws", "static/js/textual.js", "page/page.js", "static/", "nothing"):
            async with one.get(address.join(type(address)(path))) as answer:
                assert answer.status == 401
                assert "token" in await answer.text()
        async with one.get(address.with_query(token="s3cre")) as answer:
            assert answer.status == 401
        async with one.get(address.with_query(token="s3cret"), allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "./")
            assert {"HttpOnly", "SameSite=Lax"} <= {*answer.headers["Set-Cookie"].split("; ")}
        async with one.get(address) as answer:
            assert answer.status == 200
            page = await answer.text()
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "//" not in page.replace("<!doctype", "")  # nothing comes from elsewhere
        for path, status in (("static/js/textual.js", 200), ("page/page.js", 200), ("static/", 403), ("nothing", 404)):
            async with one.get(address.join(type(address)(path))) as answer:
                assert answer.status == status
    assert "s3cret" not in caplog.text


class Recorded(Viewer):
    """A viewer without a process."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    async def press(self, text: str) -> None:
        self.calls.append(text)

    async def resize(self, columns: int, rows: int) -> None:
        self.calls.append((columns, rows))

    async def set_focus(self, focused: bool) -> None:
        self.calls.append(focused)


async def test_a_message_that_is_none_of_the_protocol_is_ignored() -> None:
    viewer, sent = Recorded(), []

    class Socket:
        async def send_json(self, message: object) -> None:
            sent.append(message)

    nested = "[" * 100_000
    for text in (
        "",
        "{}",
        "5",
        "null",
        '"stdin"',
        "[]",
        '["stdin"]',
        '["stdin", 5]',
        '["resize", []]',
        '["x", 1]',
        nested,
    ):
        await obey(viewer, Socket(), aiohttp.WSMessage(WSMsgType.TEXT, text, None))  # type: ignore[arg-type]
    await obey(viewer, Socket(), aiohttp.WSMessage(WSMsgType.BINARY, b'["stdin", "x"]', None))  # type: ignore[arg-type]
    assert (viewer.calls, sent) == ([], [])
    for message in (["stdin", "é"], ["resize", {"width": 10**12, "height": "x"}], ["focus"], ["blur"], ["ping", "7"]):
        await obey(viewer, Socket(), aiohttp.WSMessage(WSMsgType.TEXT, json.dumps(message), None))  # type: ignore[arg-type]
    assert (viewer.calls, sent) == (["é", (500, 24), True, False], [["pong", "7"]])


async def test_a_size_of_the_window_that_is_typed_as_a_terminal_reports_it_is_ignored(
    served: Opened, two_runs: Path
) -> None:
    async with served("--readonly", "watch", "one") as (_, view):
        viewer = await view()
        await viewer.until("readonly", "finished")
        await viewer.press("\x1b[48;10;40;0;0t")  # 40 × 10 cells, where only Train is shown
        await viewer.press("4")
        await viewer.until("Runs", "two")


async def test_no_more_viewers_than_the_limit(served: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_VIEWERS", 0)
    monkeypatch.setattr(processes, "start_python", None)
    async with served() as (_, view):
        with pytest.raises(WSServerHandshakeError, match="503"):
            await view()


async def test_an_app_that_does_not_start_ends_the_session(served: Opened) -> None:
    async with served("--theme=none") as (_, view):
        await (await view()).ended()


async def malformed(address: str) -> None:
    """Send what is no HTTP, and a header that is too long."""
    for content in (b"no HTTP\r\n\r\n", b"GET / HTTP/1.1\r\nHost: " + b"x" * 100_000 + b"\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.split(":")[-1].strip("/")))
        writer.write(content)
        assert (await reader.read()).startswith(b"HTTP/1.0 400 ")
        writer.close()


@pytest.mark.real_children
def test_the_command_prints_its_address_and_ends_with_its_viewers(home: Path) -> None:
    """As a user starts and ends it, with an app of its own Python."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nanogpt_tui", "serve", "--port=0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()

    async def view() -> None:
        async with ClientSession() as session, session.ws_connect(f"{address}ws?width=100&height=30") as websocket:
            browser = Browser(websocket)
            await browser.until("readonly", "Nothing has been trained here yet.")
            await malformed(address)
            threading.Thread(target=process.terminate).start()
            await browser.ended()

    asyncio.run(view())
    assert process.wait(TIMEOUT_S) == 0
    assert process.stdout.read().startswith("read-only")
    process.stdout.close()
    log = home / "tui.log"
    assert not log.exists() or "aiohttp" not in log.read_text(encoding="utf-8")
