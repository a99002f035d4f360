"""Published byte pair encodings: their known ids, where they are found, and damaged ones."""

import base64
import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nanogpt import tokenizers
from nanogpt.errors import UserError
from nanogpt.tokenizers import _bpe, _published


def test_gpt2_gives_the_published_ids() -> None:
    gpt2 = tokenizers.create("gpt2")
    assert gpt2.encode("Hello, world!") == [15496, 11, 995, 0]  # as in OpenAI's own release
    assert (gpt2.vocab_size, gpt2.end_of_text) == (50257, 50256)
    assert gpt2.token_bytes(50256) == b"<|endoftext|>"


def test_p50k_has_a_token_for_a_run_of_spaces() -> None:
    p50k = tokenizers.create("p50k_base")
    assert p50k.vocab_size == 50281
    assert p50k.encode("Hello, world!") == [15496, 11, 995, 0]
    assert p50k.encode("\n" + " " * 25 + " x")[1:] == [50280, 2124]  # 25 spaces are the last token of all


def test_a_long_run_of_blanks_is_encoded_all_the_same() -> None:
    text = "a" + " " * 1_000_000 + "b"  # more than the pattern's matcher has stack for
    gpt2 = tokenizers.create("gpt2")
    assert gpt2.decode(gpt2.encode(text)) == text


@pytest.mark.parametrize("text", ["Each  thread\n\nsays the\tsame. ", "Even  with \0 in  it. "])
def test_threads_with_much_to_encode_agree_with_the_rest(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    gpt2 = tokenizers.create("gpt2")
    expected = gpt2.encode(text)
    monkeypatch.setattr(_bpe, "OWN_ENCODING_CHARACTERS", 100)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(gpt2.encode, [text] * 40))
    assert results == [expected] * 40


@pytest.mark.parametrize(
    "damage",
    [
        {"vocabulary": None},
        {"vocabulary": ["QQ==", "not base64!"]},
        {"vocabulary": [base64.b64encode(bytes([byte])).decode() for byte in range(255)]},  # a byte is missing
        {"vocabulary": [base64.b64encode(bytes([byte])).decode() for byte in [*range(256), 7]]},  # one twice
        {"special_tokens": {"<|endoftext|>": -1}},
        {"special_tokens": {"<|endoftext|>": 2**60}},
        {"special_tokens": {"a": 300, "b": 300}},
        {"special_tokens": ["<|endoftext|>"]},
        {"special_tokens": {"<|endoftext|>": True}},
        {"pattern": "("},
        {"pattern": None},
    ],
)
def test_a_damaged_file_is_refused_in_one_line(damage: dict[str, Any]) -> None:
    sound = {
        "format": 1,
        "name": "gpt2",
        "pattern": r"\s+|\S+",
        "vocabulary": [base64.b64encode(bytes([byte])).decode() for byte in range(256)],
        "special_tokens": {"<|endoftext|>": 256},
    }
    assert tokenizers.from_json(sound).encode("hi") == [104, 105]
    with pytest.raises(UserError) as refusal:
        tokenizers.from_json(sound | damage)
    assert "\n" not in str(refusal.value)


class Server(ThreadingHTTPServer):
    content: bytes | None = b""
    requests = 0
    released: threading.Event


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        if self.server.content is None:  # a network that has swallowed the request
            self.server.released.wait()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """Serves what stands in for a published vocabulary to a machine that has none."""
    server = Server(("127.0.0.1", 0), Handler)
    server.released = threading.Event()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(_published, "URL", f"http://127.0.0.1:{server.server_port}/{{}}.tiktoken")
    monkeypatch.setattr(_published, "VOCAB_BPE_PACKAGE", "no-such-distribution")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "tiktoken"))
    monkeypatch.setenv("NANOGPT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def test_a_fetched_vocabulary_is_kept(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.content = b"YQ== 0\nYg== 1\n"
    monkeypatch.setitem(_published.SHA256, "r50k_base", hashlib.sha256(server.content).hexdigest())
    assert not tokenizers.available_offline("gpt2")
    assert _published.vocabulary("r50k_base") == [b"a", b"b"]
    assert _published.vocabulary("r50k_base") == [b"a", b"b"]
    assert server.requests == 1
    assert tokenizers.available_offline("gpt2")


def test_tiktokens_own_copy_is_used(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = b"YQ== 0\n"
    monkeypatch.setitem(_published.SHA256, "cl100k_base", hashlib.sha256(content).hexdigest())
    (tmp_path / "tiktoken").mkdir()
    name = hashlib.sha1(_published.URL.format("cl100k_base").encode()).hexdigest()
    (tmp_path / "tiktoken" / name).write_bytes(content)
    assert _published.vocabulary("cl100k_base") == [b"a"]
    assert server.requests == 0


def test_another_file_than_the_published_one_is_refused(server: Server) -> None:
    server.content = b"<html>please log in</html>"
    with pytest.raises(UserError, match="another file"):
        _published.vocabulary("r50k_base")
    assert not tokenizers.available_offline("gpt2")


def test_a_silent_network_ends_in_one_line_with_the_ways_out(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.content = None
    monkeypatch.setattr(_published, "TIMEOUT_S", 0.1)
    with pytest.raises(UserError, match=r"nanogpt-tui\[offline\].*TIKTOKEN_CACHE_DIR.*char or byte"):
        _published.vocabulary("r50k_base")


def test_cl100k_names_no_package_that_does_not_carry_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_published, "URL", "http://127.0.0.1:9/{}.tiktoken")
    with pytest.raises(UserError, match=r"could not be downloaded.*char or byte") as refusal:
        tokenizers.create("cl100k_base")
    assert "offline" not in str(refusal.value)
