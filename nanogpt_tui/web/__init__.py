"""The app in a browser: a server that starts an app for each viewer, and passes keys and frames on.

The page and its terminal are those of `textual-serve`, an optional package.
"""

import argparse
import asyncio
import sys

from nanogpt import extras
from nanogpt.errors import UserError
from nanogpt_tui.web.access import Access, is_loopback, new_token, parse_port, resolve

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", "8000"
NOT_ENCRYPTED = (
    "nanogpt-tui: warning: the connection is not encrypted, so others on the network can read it and its token. "
    "Use it in a trusted network only, or with --host=127.0.0.1 behind an SSH tunnel or a proxy with TLS"
)


def serve(options: argparse.Namespace) -> None:
    """Serve the app until Ctrl+C or SIGTERM. `options` are those of the `nanogpt-tui` command.

    A token is needed unless viewers are on this machine and can only look. Raise `UserError` if an option is invalid,
    the port is in use or `textual-serve` is not installed.
    """
    if options.readonly and options.writable:
        raise UserError("--readonly and --writable exclude each other")
    port, address = parse_port(options.port or DEFAULT_PORT), resolve(options.host or DEFAULT_HOST)
    extras.load("textual_serve", "serve", "`nanogpt-tui serve`")
    from nanogpt_tui.web.server import run_server

    is_local = is_loopback(address)
    access = Access(new_token() if options.writable or not is_local else None)
    if not is_local:
        print(NOT_ENCRYPTED, file=sys.stderr)
    asyncio.run(run_server(access, viewer_arguments(options), address, port))


def viewer_arguments(options: argparse.Namespace) -> list[str]:
    """Return the command-line arguments of the app of each viewer."""
    named = {"runs_dir": options.runs_dir, "theme": options.theme, "glyphs": options.glyphs}
    given = [f"--{name}={value}" for name, value in named.items() if value is not None]
    return [*([] if options.writable else ["--readonly"]), *given, *(["watch", options.run] if options.run else [])]
