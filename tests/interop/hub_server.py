"""A stand-in of the Hugging Face Hub on this machine, for its own client."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

COMMIT = "c0ffee" + "0" * 34


class HubServer(ThreadingHTTPServer):
    """Serves each folder `OWNER/NAME` below a folder as a model, and takes commits to it.

    `names`: the paths that were requested. `created`: what was said of each repository that was made.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.names, self.created = folder, list[str](), list[dict[str, Any]]()

    @property
    def url(self) -> str:
        """The address, for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """One request: about a repository, or for a file of its only commit."""

    server: HubServer

    def do_HEAD(self) -> None:
        """Send the headers alone."""
        self._answer(with_body=False)

    def do_GET(self) -> None:
        """Send a file, or what the hub says of a repository."""
        self._answer(with_body=True)

    def do_POST(self) -> None:
        """Make a repository, check a model card, or write the files of a commit, none of which is sent apart."""
        name = self.path.lstrip("/").partition("?")[0]
        self.server.names.append(name)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if name == "api/repos/create":
            about = json.loads(body)
            is_private = about.get("private", about.get("visibility") == "private")
            self.server.created.append({"name": about["name"], "private": is_private})
            repository = "/".join(filter(None, (about.get("organization"), about["name"])))
            (self.server.folder / repository).mkdir(parents=True, exist_ok=True)
            self._send({"url": f"{self.server.url}/{repository}"})
        elif name == "api/validate-yaml":
            self._send({"errors": [], "warnings": []})
        elif "/preupload/" in name:
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            self._send({"files": [{"path": file["path"], **modes} for file in json.loads(body)["files"]]})
        elif "/commit/" in name:
            self._commit(self.server.folder / "/".join(name.split("/")[2:4]), map(json.loads, body.splitlines()))
            address = self.server.url + name.removeprefix("api/models")
            self._send({"commitUrl": address, "commitOid": COMMIT})

    def _commit(self, folder: Path, changes: Iterable[dict[str, Any]]) -> None:
        for change in changes:
            value = change["value"]
            if change["key"] == "file":
                path = folder / value["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(value["content"]))
            elif change["key"] == "deletedFile":
                (folder / value["path"]).unlink()

    def _send(self, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _answer(self, *, with_body: bool) -> None:
        name = self.path.lstrip("/").partition("?")[0]
        self.server.names.append(name)
        content = self._about(name) if name.startswith("api/models/") else self._file(name)
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound" if name.startswith("api/") else "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def _about(self, name: str) -> bytes | None:
        repository = "/".join(name.split("/")[2:4])
        folder = self.server.folder / repository
        if not folder.is_dir():
            return None
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        if "/tree/" in name:
            tree = [
                {"type": "file", "oid": "0" * 40, "path": file, "size": (folder / file).stat().st_size}
                for file in files
            ]
            return json.dumps(tree).encode()
        siblings = [{"rfilename": file} for file in files]
        about = {"id": repository, "sha": COMMIT, "private": False, "downloads": 0, "likes": 0, "tags": []}
        return json.dumps(about | {"siblings": siblings}).encode()

    def _file(self, name: str) -> bytes | None:
        repository, _, file = name.partition(f"/resolve/{COMMIT}/")
        path = self.server.folder / repository / file
        return path.read_bytes() if file and path.is_file() else None

    def log_message(self, *_: object) -> None:
        """Print nothing."""
