"""The HTTP server: the page, its files, and a websocket for each viewer.

The websocket speaks the protocol of `textual-serve`: the browser sends JSON lists such as ["stdin", text], the server
sends what the terminal in the page shows, as bytes.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import textual_serve
from aiohttp import WSMessage, WSMsgType, web
from aiohttp.http_exceptions import HttpProcessingError

from nanogpt.errors import UserError
from nanogpt.files import why
from nanogpt_tui.session.workers import log_path
from nanogpt_tui.web.access import Access
from nanogpt_tui.web.viewer import Viewer, window_size

MAX_VIEWERS = 16  # each is a process
MAX_MESSAGE_BYTES = 1 << 20  # a large paste
HEARTBEAT_S = 15.0  # a browser that does not answer for so long is gone
SHUTDOWN_TIMEOUT_S = 2.0
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; connect-src 'self'; font-src 'self'; img-src 'self' data:; script-src 'self'; "
        "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the address may have the token
    "X-Content-Type-Options": "nosniff",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AppServer:
    """The requests of browsers. `arguments` are those of the app of each viewer; `port` is part of the cookie's name,
    because browsers share cookies among the ports of a host."""

    def __init__(self, access: Access, arguments: Sequence[str], port: int) -> None:
        self._access, self._arguments, self._cookie = access, arguments, f"nanogpt-tui-{port}"
        self._sockets: set[web.WebSocketResponse] = set()

    def application(self) -> web.Application:
        """Return the application of aiohttp."""

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._answer(request, handler)

        app = web.Application(middlewares=[check])
        app.router.add_get("/", self._page)
        app.router.add_get("/ws", self._socket)
        app.router.add_static("/static", Path(textual_serve.__file__).parent / "static")
        app.router.add_static("/page", Path(str(files("nanogpt_tui.web"))) / "page")
        app.on_shutdown.append(self._close_sockets)
        return app

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse a request, or answer it. A token in the address moves into a cookie."""
        typed, stored = request.query.get("token"), request.cookies.get(self._cookie)
        if problem := self._access.problem(request.headers):
            return web.Response(status=403, text=f"{problem}\n", headers=HEADERS)
        if not self._access.knows(typed, stored):
            text = "this server needs the token of the address that it printed when it was started\n"
            return web.Response(status=401, text=text, headers=HEADERS)
        if typed is not None and request.path == "/":
            answer: web.StreamResponse = web.Response(status=303, headers={"Location": "./"})
            if self._access.token is not None:
                answer.set_cookie(self._cookie, self._access.token, httponly=True, samesite="Lax", path="/")
        else:
            answer = await handler(request)
        if not answer.prepared:
            answer.headers.update(HEADERS)
        return answer

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(Path(str(files("nanogpt_tui.web"))) / "page" / "index.html")

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        """Start an app and connect it with the browser until one of them ends."""
        if len(self._sockets) >= MAX_VIEWERS:
            return web.Response(status=503, text=f"{MAX_VIEWERS} viewers are the limit\n")
        websocket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MAX_MESSAGE_BYTES)
        self._sockets.add(websocket)
        try:
            await websocket.prepare(request)
            size = window_size(request.query.get("width"), request.query.get("height"))
            viewer = await Viewer.start(self._arguments, *size)
            forwarding = asyncio.create_task(self._forward(viewer, websocket))
            try:
                async for message in websocket:
                    await obey(viewer, websocket, message)
            finally:
                viewer.close()
                await forwarding
        finally:
            self._sockets.discard(websocket)
        return websocket

    async def _forward(self, viewer: Viewer, websocket: web.WebSocketResponse) -> None:
        await viewer.forward(websocket.send_bytes)
        await websocket.close()

    async def _close_sockets(self, app: web.Application) -> None:
        for websocket in [*self._sockets]:
            await websocket.close()


async def obey(viewer: Viewer, websocket: web.WebSocketResponse, message: WSMessage) -> None:
    """Do what a browser asks for. A message that is none of the protocol is ignored."""
    if message.type != WSMsgType.TEXT:
        return
    kind: Any
    value: Any
    try:
        kind, value = [*message.json(), None][:2]
    except (ValueError, TypeError, RecursionError):
        return
    if kind == "stdin" and isinstance(value, str):
        await viewer.press(value)
    elif kind == "resize" and isinstance(value, dict):
        await viewer.resize(*window_size(value.get("width"), value.get("height")))
    elif kind in ("focus", "blur"):
        await viewer.set_focus(kind == "focus")
    elif kind == "ping" and isinstance(value, str):
        await websocket.send_json(["pong", value])


async def run_server(access: Access, arguments: Sequence[str], address: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM. Raise `UserError` if the port cannot be opened."""
    listening = listen(address, port)
    port = listening.getsockname()[1]
    log_to_file()
    runner = web.AppRunner(
        AppServer(access, arguments, port).application(), access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S
    )
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        print(start_line(access, "--readonly" in arguments, address, port), flush=True)
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError):  # Windows
                asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await ended.wait()
    finally:
        await runner.cleanup()


def listen(address: str, port: int) -> socket.socket:
    """Return a socket that listens. Raise `UserError` if the port cannot be opened."""
    try:
        return socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    except OSError as error:
        raise UserError(f"cannot listen on {address}, port {port}: {why(error)}; --port chooses another one") from None


def start_line(access: Access, readonly: bool, address: str, port: int) -> str:
    """Return what to open, and what a viewer can do there."""
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(address, address)
    host = f"[{name}]" if ":" in name else name
    token = f"?token={access.token}" if access.token is not None else ""
    about = "read-only; --writable lets viewers train and change" if readonly else "viewers can do all that you can"
    return f"http://{host}:{port}/{token}\n{about}. Ctrl+C ends the server, not a training."


def log_to_file() -> None:
    """Send the errors that aiohttp reports to the log file of the app, instead of the terminal.

    Malformed requests are left out: anybody who reaches the port could fill the disk with them.
    """
    with suppress(OSError):
        log_path().parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(log_path(), delay=True)
        handler.setLevel(logging.ERROR)
        handler.addFilter(lambda record: not isinstance((record.exc_info or (None, None))[1], HttpProcessingError))
        logger = logging.getLogger("aiohttp")
        logger.addHandler(handler)
        logger.propagate = False
