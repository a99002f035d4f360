"""A web server for a folder that drops connections and stalls."""

import random
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

CHUNK_BYTES = 1 << 16
GOLDEN_RATIO = 0.618034


class FaultyServer(ThreadingHTTPServer):
    """Serves the files of a folder by ranges.

    `drop` of the answers end after a random part of their bytes, of at least `least`; `stall` of them send nothing for
    `stall_s` after such a part, and then end. `names` and `tokens`: the paths that were requested, and what
    their requests had as `Authorization`.
    """

    daemon_threads = True

    def __init__(
        self,
        folder: Path,
        *,
        drop: float = 0,
        stall: float = 0,
        stall_s: float = 5,
        least: int = 1 << 16,
        seed: int = 1,
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.drop, self.stall, self.stall_s, self.least = folder, drop, stall, stall_s, least
        self.random = random.Random(1)
        self.dropped = self.stalled = self.sent_bytes = 0
        self.names: list[str] = []
        self.tokens: list[str] = []
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        """The address of the folder."""
        return f"http://127.0.0.1:{self.server_port}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that were killed."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: FaultyServer

    def do_GET(self) -> None:
        """Send a file, or the part that `Range` asks for."""
        server = self.server
        name = self.path.lstrip("/").partition("?")[0]
        path = server.folder / name
        server.names.append(name)
        server.tokens.append(self.headers.get("Authorization", ""))
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(wanted[1]) if wanted else 0
        if wanted and first >= size:
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - first))
        self.end_headers()
        left = size - first
        fault = len(server.names) * GOLDEN_RATIO % 1  # spread evenly over 0 to 1
        if fault < server.drop + server.stall:
            left = min(left, server.least + server.random.randrange(max(1, left)))
        with path.open("rb") as file:
            file.seek(first)
            while left and (block := file.read(min(CHUNK_BYTES, left))):
                self.wfile.write(block)
                left -= len(block)
                server.sent_bytes += len(block)
        if fault < server.drop:
            server.dropped += 1
        elif fault < server.drop + server.stall:
            server.stalled += 1
            self.wfile.flush()
            server.ended.wait(server.stall_s)

    def log_message(self, *_: object) -> None:
        """Print nothing."""
