"""Who may use the server: a token where others could reach it, and only pages of this server.

Any web page that a person visits can send requests to their localhost. A page of another site opens a websocket with
its own `Origin`; and a site whose name is made to resolve to 127.0.0.1 (DNS rebinding) has its own name in `Host`. So a
websocket must come from this server's own page, and without a token the name must be one of this machine.
"""

import ipaddress
import re
import secrets
import socket
from collections.abc import Mapping
from hmac import compare_digest
from urllib.parse import urlsplit

from nanogpt.errors import UserError

TOKEN_BYTES = 32
MAX_PORT = 65_535


class Access:
    """Decides which requests are answered. `token` is None if none is needed."""

    def __init__(self, token: str | None) -> None:
        self.token = token

    def knows(self, *candidates: str | None) -> bool:
        """Return whether one of the texts is the token; True if none is needed. Takes the same time for each text."""
        if self.token is None:
            return True
        expected = self.token.encode()
        return any(compare_digest(each.encode("utf-8", "replace"), expected) for each in candidates if each)

    def problem(self, headers: Mapping[str, str]) -> str:
        """Return why the sender of a request with these headers may not use the server, or "" if it may."""
        host, origin = headers.get("Host", ""), headers.get("Origin")
        if self.token is None and not is_local_name(_host_name(host)):
            return "open this server by a name of this machine, such as localhost"
        if origin is not None and not is_same_origin(origin, host):
            return "a page of another server may not use this one"
        return ""


def new_token() -> str:
    """Return a new random token of letters, digits, - and _."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def is_same_origin(origin: str, host: str) -> bool:
    """Return whether a page at `origin` ("http://name:port") came from the server `host` ("name:port").

    The scheme is left out: it differs if a proxy adds the encryption.
    """
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(host) and parts.netloc.lower() == host.lower()


def is_local_name(name: str) -> bool:
    """Return whether a host name means this machine for every browser."""
    return name == "localhost" or name.endswith(".localhost") or is_loopback(name)


def is_loopback(address: str) -> bool:
    """Return whether a numeric address reaches this machine only."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def parse_port(text: str) -> int:
    """Return a port number; 0 is a free port. Raise `UserError` if it is none."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > MAX_PORT:
        raise UserError(f"--port={text}: has to be a number from 1 to {MAX_PORT}, or 0 for any free one")
    return int(text)


def resolve(host: str) -> str:
    """Return the numeric address of an interface of this machine. Raise `UserError` if the name has none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a name"
        raise UserError(f"--host={host}: {why}; 0.0.0.0 means all interfaces") from None
    addresses = [str(each[4][0]) for each in found]
    return next((each for each in addresses if ":" not in each), addresses[0])
