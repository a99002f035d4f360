"""Byte pair encodings that are trained: the merges, what counts, determinism, cancellation, failures."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from nanogpt import processes, tokenizers
from nanogpt.errors import UserError
from nanogpt.events import TokenizerTraining
from nanogpt.processes import is_running
from nanogpt.tokenizers import _bpe_training, _training, base, bpe
from nanogpt.tokenizers._bpe import safe_cut
from nanogpt.tokenizers._published import byte_characters
from tests.tokenizer_specs import SAMPLE

# As Hugging Face's documentation has it; with what \s+(?!\S) leaves, [\r\n] and \s+ cut as GPT-4's own pattern does.
GPT4 = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s+\z|\s*[\r\n]|\s+(?!\S)|\s+"
)
PRE_TOKENIZERS: dict[str, Any] = {
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "gpt4": pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(GPT4), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    ),
}


def tokens_of_the_library(text: str, pattern: str, size: int) -> list[bytes]:
    """The tokens that `tokenizers` learns from the whole text at once, by its usual recipe."""
    theirs: Any = Tokenizer(models.BPE())
    theirs.pre_tokenizer = PRE_TOKENIZERS[pattern]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    theirs.train_from_iterator(
        [text], trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=alphabet)
    )
    byte_of = {character: byte for byte, character in byte_characters().items()}
    ids = theirs.get_vocab()
    return [bytes(byte_of[character] for character in token) for token in sorted(ids, key=ids.__getitem__)]


def tokens(tokenizer: tokenizers.Tokenizer) -> list[bytes]:
    return [tokenizer.token_bytes(id) for id in range(tokenizer.vocab_size)]


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_the_merges_are_those_of_the_library(text: str, pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = text + SAMPLE * 3 + "\n\n\tif x:\n\n        return 1234567  \n" * 9
    monkeypatch.setattr(_bpe_training, "CHUNK_CHARACTERS", 100)  # many chunks
    made = tokenizers.create(f"bpe:700,pattern={pattern},special_tokens=", [whole])
    assert made.vocab_size == 700
    assert tokens(made) == tokens_of_the_library(whole, pattern, 700)
    assert made.decode(made.encode(whole)) == whole


def test_the_size_counts_bytes_merges_and_special_tokens(text: str) -> None:
    smallest = tokenizers.create("bpe:257", [text])
    assert (smallest.vocab_size, smallest.end_of_text) == (257, 256)
    assert sorted(tokens(smallest)[:256]) == [bytes([byte]) for byte in range(256)]
    more = tokenizers.create("bpe:300,special_tokens=<|user|> <|endoftext|> <|bot|>", [text])
    assert (more.vocab_size, more.end_of_text) == (300, 298)
    assert tokens(more)[297:] == [b"<|user|>", b"<|endoftext|>", b"<|bot|>"]
    assert len(more.encode("<|user|>")) > 1  # a text never gives a special token
    assert tokenizers.create("bpe:257,special_tokens=", [text]).end_of_text is None


def test_equal_special_tokens_have_one_spec() -> None:
    spec = tokenizers.canonical("bpe:300,special_tokens= <|a|>   <|b|> ")
    assert spec == "bpe:300,special_tokens=<|a|> <|b|>"
    assert tokenizers.canonical("bpe:300,special_tokens=<|endoftext|> ") == "bpe:300"


def test_a_short_text_gives_a_smaller_vocabulary() -> None:
    # `abab` is merged to ab, then abab: 256 bytes, two merges and the end of text
    made = tokenizers.create("bpe:4096", ["abab"])
    assert tokens(made)[256:] == [b"ab", b"abab", b"<|endoftext|>"]
    assert tokenizers.create("bpe:4096", ["a"]).vocab_size == 257


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("bpe:256", "at least 257"),
        ("bpe:257,special_tokens=<a> <b>", "at least 258: 256 bytes and 2 special tokens"),
        ("bpe:300,special_tokens=<a> <a>", "twice"),
        ("bpe:300,pattern=gpt3", "one of gpt2, gpt4"),
    ],
)
def test_settings_that_do_not_fit_are_refused(spec: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        tokenizers.parse_spec(spec)


@pytest.mark.parametrize("cut", [1, 7, 4096])
def test_the_merges_do_not_depend_on_how_the_text_is_divided(
    text: str, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bpe_training, "CHUNK_CHARACTERS", 64)
    whole = text[:8000]
    parts = [whole[begin : begin + cut] for begin in range(0, len(whole), cut)]
    assert tokenizers.create("bpe:400", parts).to_json() == tokenizers.create("bpe:400", [whole]).to_json()


@settings(max_examples=300)
@given(
    texts=st.lists(st.text(st.sampled_from(" \n\tab1'."), max_size=40), max_size=8),
    size=st.integers(2, 20),
    longest=st.integers(20, 40),
)
def test_chunks_join_to_the_text_and_depend_on_the_text_alone(texts: list[str], size: int, longest: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "LONGEST_CHUNK", longest)
        chunks = list(base.safe_chunks(texts, safe_cut, size))
        assert "".join(chunks) == "".join(texts)
        assert chunks == list(base.safe_chunks(["".join(texts)], safe_cut, size))
        assert max(map(len, chunks), default=0) < 2 * longest + size


def test_progress_goes_from_reading_to_merging_and_shows_every_merge(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_training, "REPORT_INTERVAL_S", 0)
    events, training = list[TokenizerTraining](), tokenizers.build("bpe:500", [text + "\n\n\n\x1b\x1b[31m" * 99])
    while True:
        try:
            events.append(next(training))
        except StopIteration as end:
            made = end.value
            break
    phases = [event.phase for event in events]
    assert phases == sorted(phases, reverse=True)  # read, then merge
    assert set(phases) == {"read", "merge"}
    read = [event.done_bytes for event in events if event.phase == "read"]
    assert read == sorted(read)
    assert (events[-1].vocab_size, events[-1].target, made.vocab_size) == (499, 499, 500)
    merges = [merge for event in events for merge in event.merges]
    assert len(merges) == 499 - 256
    assert all(merge.isprintable() for merge in merges)
    assert r"“\n” + “\n” → “\n\n”" in merges


def test_a_merge_is_shown_with_the_two_tokens_that_it_joins() -> None:
    events = list(tokenizers.build("bpe:4096", ["the the the " + "日" * 20_000]))
    merges = [merge for event in events for merge in event.merges]
    assert "“h” + “e” → “he”" in merges  # as frequent as th, and h has a lower id than t
    assert "“t” + “he” → “the”" in merges
    assert r"“\xe6” + “\x97” → “\xe6\x97”" in merges
    assert max(map(len, merges)) < 200  # the longest token has 60 kB


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The child processes of trainings."""
    start, started = processes.start_python, list[Any]()

    def recorded(*arguments: Any, **options: Any) -> Any:
        started.append(start(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(processes, "start_python", recorded)
    monkeypatch.setattr(_training, "REPORT_INTERVAL_S", 0)
    return started


def endless() -> Iterator[str]:
    while True:
        yield "to be or not to be\n" * 1000


def then_stopped(text: str, children: list[Any]) -> Iterator[str]:
    """Yield a text, and stop the child before its end, so that it does not end before it is killed."""
    yield text
    os.kill(children[0].pid, signal.SIGSTOP)


@pytest.mark.parametrize("phase", ["read", "merge"])
def test_closing_ends_the_child(children: list[Any], text: str, phase: str) -> None:
    training = tokenizers.build("bpe:500", endless() if phase == "read" else then_stopped(text, children))
    assert any(event.phase == phase for event in training)
    training.close()
    assert len(children) == 1
    assert children[0].returncode == -signal.SIGKILL


@pytest.mark.parametrize("phase", ["read", "merge"])
def test_a_child_that_is_killed_is_one_line(children: list[Any], text: str, phase: str) -> None:
    training = tokenizers.build("bpe:500", endless() if phase == "read" else then_stopped(text, children))
    assert any(event.phase == phase for event in training)
    children[0].kill()
    with pytest.raises(UserError, match="out of memory: train it on less text"):
        list(training)


def test_a_child_ends_with_its_parent() -> None:
    """The parent is killed while the child waits for more text."""
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from nanogpt.tokenizers import _training as t\n"
            "with t._child('_bpe_training', ['300', 'a']) as (child, output):\n"
            "    print(child.pid, flush=True)\n"
            "    input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 60
    while is_running(child) and _state(child) != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2][1]
    except OSError:
        return "Z"


def test_without_text_there_is_no_vocabulary() -> None:
    for texts in (None, [], [""]):
        with pytest.raises(UserError, match="text is missing or empty"):
            tokenizers.create("bpe:300", texts)


def test_a_missing_library_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"needs tokenizers: pip install 'nanogpt-tui\[tokenizers\]'"):
        tokenizers.create("bpe:300", ["abc"])


@given(text=st.text())
def test_any_text_survives_the_round_trip(text: str) -> None:
    for pattern in bpe.PATTERNS:
        tokenizer = trained(pattern)
        assert tokenizer.decode(tokenizer.encode(text)) == text


def trained(pattern: str, made: dict[str, tokenizers.Tokenizer] = {}) -> tokenizers.Tokenizer:  # noqa: B006
    """A tokenizer of each pattern, trained once."""
    if pattern not in made:
        made[pattern] = tokenizers.create(f"bpe:600,pattern={pattern}", [SAMPLE * 20])
    return made[pattern]
