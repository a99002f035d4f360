"""Who may use the server, before any request reaches it."""

import argparse

import pytest

from nanogpt import extras
from nanogpt.errors import UserError
from nanogpt_tui import main, parser
from nanogpt_tui.web import serve, viewer_arguments
from nanogpt_tui.web.access import Access, is_same_origin, new_token, parse_port, resolve
from nanogpt_tui.web.server import listen, start_line
from nanogpt_tui.web.viewer import MAX_COLUMNS, MAX_ROWS, window_size


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "127.0.0.1", "app.localhost:80"])
def test_without_a_token_names_of_this_machine_are_answered(host: str) -> None:
    assert Access(None).problem({"Host": host}) == ""


@pytest.mark.parametrize("host", ["evil.example:8000", "localhost.evil.example", "192.168.1.5:8000", "", "[", "a@b@c"])
def test_without_a_token_another_name_that_resolves_to_this_machine_is_refused(host: str) -> None:
    assert "a name of this machine" in Access(None).problem({"Host": host})


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("https://gpt.example", "gpt.example", True),  # behind a proxy with TLS
        ("http://localhost:3000", "localhost:8000", False),  # another program of this machine
        ("http://evil.example", "localhost:8000", False),
        ("http://localhost:8000.evil.example", "localhost:8000", False),
        ("null", "localhost:8000", False),
        ("http://[", "localhost:8000", False),
        ("file://", "", False),
    ],
)
def test_a_page_of_another_origin_is_refused_with_and_without_a_token(origin: str, host: str, same: bool) -> None:
    assert is_same_origin(origin, host) == same
    for access in (Access(None), Access("t")):
        assert (access.problem({"Host": host, "Origin": origin}) == "") == (
            same and (access.token is not None or "localhost" in host)
        )


def test_only_the_whole_token_is_known() -> None:
    token = new_token()
    assert len(token) == 43  # 32 bytes in base64 without padding
    assert token != new_token()
    access = Access(token)
    assert access.knows(None, token)
    assert not any(access.knows(guess) for guess in (None, "", token[:-1], token + "x", token.swapcase(), "é"))
    assert Access(None).knows(None)


@pytest.mark.parametrize("port", ["-1", "65536", "http", "", "80.0", "８０", "999999999999"])
def test_a_port_that_is_none_is_refused_in_one_line(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="--port"):
        parse_port(port)
    if port:
        assert main(["serve", f"--port={port}"]) == 2
        assert (
            capsys.readouterr().err
            == f"nanogpt-tui: --port={port}: has to be a number from 1 to 65535, or 0 for any free one\n"
        )


def test_a_port_in_use_and_a_host_without_address_are_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", f"--port={port}"]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"nanogpt-tui: cannot listen on 127.0.0.1, port {port}: ")
    assert "in use" in message
    assert message.count("\n") == 1
    assert main(["serve", "--host=no such host"]) == 2
    assert main(["serve", "--host=203.0.113.7", "--port=0"]) == 2  # of no interface here (RFC 5737)
    errors = capsys.readouterr().err.splitlines()
    assert errors[0].startswith("nanogpt-tui: --host=no such host: ")
    assert errors[-1].startswith("nanogpt-tui: cannot listen on 203.0.113.7, port 0: ")


def test_without_the_package_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(extras, "import_module", missing)
    assert main(["serve"]) == 2
    assert capsys.readouterr().err == (
        "nanogpt-tui: `nanogpt-tui serve` needs textual_serve: pip install 'nanogpt-tui[serve]'\n"
    )


def test_options_of_serve_are_refused_elsewhere_and_contradictions_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port=1"]) == 2
    assert main(["watch", "--writable"]) == 2
    assert main(["serve", "--writable", "--readonly"]) == 2
    assert main(["serve", "no such run"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 4


@pytest.mark.parametrize(
    ("words", "has_token", "warns"),
    [
        ("serve", False, False),
        ("serve --writable", True, False),
        ("serve --host=0.0.0.0", True, True),
        ("serve --host=0", True, True),
        ("serve --host=127.0.0.2", False, False),
        ("serve --host=::", True, True),
    ],
)
def test_a_token_is_needed_where_others_could_connect_or_write(
    words: str, has_token: bool, warns: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Access] = []

    async def run_server(access: Access, arguments: object, address: str, port: int) -> None:
        seen.append(access)

    monkeypatch.setattr("nanogpt_tui.web.server.run_server", run_server)
    serve(parser().parse_intermixed_args(words.split()))
    assert (seen[0].token is not None) == has_token
    assert ("not encrypted" in capsys.readouterr().err) == warns
    line = start_line(seen[0], "--writable" not in words, "127.0.0.1", 8000)
    assert (f"?token={seen[0].token}" in line) == has_token


def test_viewers_are_read_only_unless_told_otherwise() -> None:
    def arguments(*words: str) -> list[str]:
        return viewer_arguments(parser().parse_intermixed_args(["serve", *words]))

    assert arguments() == ["--readonly"]
    assert arguments("--writable", "first", "--light") == ["--theme=light", "watch", "first"]
    options = parser().parse_intermixed_args(arguments("first", "--runs_dir=a b", "--ascii"))
    assert options == parser().parse_intermixed_args(["watch", "first", "--readonly", "--runs_dir", "a b", "--ascii"])
    assert isinstance(options, argparse.Namespace)


def test_the_address_of_a_name_is_numeric_and_none_means_no_interface() -> None:
    assert resolve("127.0.0.1") == "127.0.0.1"
    assert resolve("::1") == "::1"
    with pytest.raises(UserError, match="means all interfaces"):
        resolve("")


@pytest.mark.parametrize(
    ("columns", "rows", "size"),
    [
        (100, 30, (100, 30)),
        ("100", "30", (100, 30)),
        (None, {}, (80, 24)),
        (-5, True, (80, 24)),
        (0, 10**9, (1, MAX_ROWS)),
        ("9" * 5000, 1e300, (80, 24)),
        (501, "２", (MAX_COLUMNS, 24)),
    ],
)
def test_a_window_has_a_size_whatever_a_browser_sends(columns: object, rows: object, size: tuple[int, int]) -> None:
    assert window_size(columns, rows) == size
