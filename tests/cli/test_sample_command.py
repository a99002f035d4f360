"""`nanogpt sample`: from a run on disk to text on stdout."""

import gzip
import io
import json
import os
import pty
import re
from contextlib import suppress

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from nanogpt import tokenizers
from nanogpt.cli import main
from nanogpt.cli.sample import PrintableWriter, known_text, start_text
from nanogpt.config import SamplingConfig
from nanogpt.errors import UserError
from nanogpt.events import Stopped, Token, from_json
from nanogpt.formatting import printable
from nanogpt.runs import checkpoints, load_model
from nanogpt.sampling import generate
from nanogpt.training.snapshot import Progress, Snapshot
from tests import architectures, forked

ALPHABET = "\n\x1b ?abcdefghijklmnopqrstuvwxyz"


def write_run(folder, steps):
    """A run with random weights: {step: validation loss}."""
    tokenizer = tokenizers.create("char", [ALPHABET])
    folder.mkdir(parents=True)
    (folder / "run.toml").write_text("")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer.to_json()))
    for step, loss in steps.items():
        torch.manual_seed(step)
        model = architectures.build(n_layer=1, n_embd=32, block_size=16, vocab_size=tokenizer.vocab_size)
        progress = Progress(step=step, evaluated_at=step, val_loss=loss, best_val_loss=loss, best_step=step)
        checkpoints.write(folder, Snapshot(model.config, model.state_dict(), progress=progress), keep_every=1)
    return folder


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("NANOGPT_RUNS_DIR", str(tmp_path / "runs"))
    write_run(tmp_path / "runs" / "first", {10: 1.5, 20: 1.25, 30: 1.75})
    return tmp_path / "runs"


def sampled(capsys, *options):
    """(what `nanogpt sample` wrote to stdout, what to stderr)"""
    capsys.readouterr()
    code = main(["sample", "--device=cpu", *options])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out, err


def refused(capsys, *options):
    """The one line that `nanogpt sample` ends with, at exit code 2."""
    capsys.readouterr()
    assert main(["sample", "--device=cpu", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def expected(runs, prompt, which="best", **knobs):
    loaded = load_model(str(runs / "first"), which, "cpu")
    events = generate(loaded.model, loaded.tokenizer, prompt, SamplingConfig(**knobs))
    return prompt + "".join(event.text for event in events if isinstance(event, Token)) + "\n"


def shown(runs, prompt, which="best", **knobs):
    return printable(expected(runs, prompt, which, **knobs))


def test_the_prompt_and_what_follows_it_go_to_stdout_and_the_rest_to_stderr(runs, capsys):
    out, err = sampled(capsys, "first", "--start=once", "--max-new-tokens=40", "--seed=5")
    assert out == shown(runs, "once", max_new_tokens=40, seed=5)
    for word in ("first", "step 20", "1.2500", "seed 5", "40 tokens", "tokens/s"):
        assert word in err


def test_the_number_format_is_said_and_reaches_the_sampler(runs, capsys):
    options = ("--start=once", "--max_new_tokens=40", "--json")
    exact, err = sampled(capsys, *options)
    assert "in float32" in err
    rounded, err = sampled(capsys, *options, "--dtype=bfloat16")
    assert "in bfloat16" in err
    first, again = (json.loads(out.splitlines()[0])["probability"] for out in (exact, rounded))
    assert first != again
    assert first == pytest.approx(again, abs=0.02)


@pytest.mark.skipif(torch.backends.quantized.engine not in ("fbgemm", "x86", "onednn"), reason="no int8 here")
def test_int8_says_what_it_costs_where_the_data_set_is(runs, small, capsys):
    options = ("--start=the", "--max_new_tokens=5", "--dtype=int8")
    _, err = sampled(capsys, "first", *options)
    assert "in int8" in err
    assert "what int8 costs is not known" in err
    assert "gains no speed for this model of" in err
    assert main(["train", *small, "--name=second"]) == 0
    out, err = sampled(capsys, "second", *options)
    assert len(out) == len("the") + 5 + 1
    cost = re.search(r"int8 costs (-?[0-9.]+) bits per byte, measured on 64 tokens of the validation split", err)
    assert cost is not None, err  # 4 windows of 16 tokens
    assert abs(float(cost[1])) < 0.1  # of some 5 bits, with 7 bits for each factor


def test_every_knob_reaches_the_sampler(runs, capsys):
    knobs = {"temperature": 1.5, "top_k": 9, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.2, "seed": 4}
    options = [f"--{name}={value}" for name, value in {**knobs, "max_new_tokens": 30}.items()]
    assert sampled(capsys, *options)[0] == shown(runs, "", max_new_tokens=30, **knobs)


@pytest.mark.parametrize(("which", "step"), [("best", 20), ("latest", 30), ("10", 10)])
def test_the_best_the_latest_or_any_step_writes(runs, capsys, which, step):
    out, err = sampled(capsys, "--max_new_tokens=20", f"--checkpoint={which}")
    assert f"step {step}," in err
    assert out == shown(runs, "", str(step), max_new_tokens=20)


def test_a_run_is_given_by_name_by_path_or_as_a_checkpoint_and_else_is_the_newest(runs, capsys):
    write_run(runs / "second", {7: 3.0})
    for source, name in [
        ((), "second"),
        (("first",), "first"),
        ((str(runs / "first"),), "first, step 20"),
        ((str(runs / "first" / "checkpoints" / "step-00000030"),), "first, step 30"),
        (("first", f"--runs-dir={runs}"), "first"),
    ]:
        assert sampled(capsys, *source, "--max_new_tokens=1")[1].startswith(name)


def test_samples_are_separated_and_each_begins_with_the_prompt(runs, capsys):
    out, _ = sampled(capsys, "--start=abc", "--num_samples=3", "--max_new_tokens=8", "--seed=1")
    parts = out.split("---------------\n")
    assert parts == [shown(runs, "abc", max_new_tokens=8, seed=seed) for seed in (1, 2, 3)]


def test_the_start_can_be_a_file_or_stdin(runs, capsys, tmp_path, monkeypatch):
    (tmp_path / "start.txt").write_bytes(b"\xef\xbb\xbfonce\nupon\n")
    assert sampled(capsys, f"--start=FILE:{tmp_path / 'start.txt'}", "--max_new_tokens=0")[0] == "once\nupon\n\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a time\n\n")))
    assert sampled(capsys, "--start=-", "--max_new_tokens=0")[0] == "a time\n\n\n"


@pytest.mark.parametrize("text", ["once\r\nupon\r", "\r\n", "a\n\n", " a ", "\ufeffa"])
def test_a_start_from_a_file_or_stdin_keeps_its_line_ends(tmp_path, monkeypatch, text):
    (tmp_path / "start.txt").write_bytes(text.encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert start_text(f"FILE:{tmp_path / 'start.txt'}") == start_text("-") == text.removeprefix("\ufeff")


def test_a_start_with_line_ends_that_the_model_never_saw_says_what_to_do(runs, capsys, tmp_path):
    (tmp_path / "start.txt").write_bytes(b"once\r\nupon")
    message = refused(capsys, f"--start=FILE:{tmp_path / 'start.txt'}")
    assert "U+000D" in message
    assert "`tr -d '\\r'` removes it" in message


def test_a_start_that_is_no_text_is_called_what_it_is(runs, capsys, tmp_path):
    (tmp_path / "start.txt.gz").write_bytes(gzip.compress(b"once"))
    assert "is not text but a gzip archive: unpack it" in refused(capsys, f"--start=FILE:{tmp_path / 'start.txt.gz'}")


def test_stop_strings_end_the_text_and_are_left_out(runs, capsys):
    whole = expected(runs, "", max_new_tokens=60)
    first, second = whole[20:22], whole[30:32]
    out, _ = sampled(capsys, "--max_new_tokens=60", "--stop", first, "--stop", second)
    ends = [whole.index(first) + 2, whole.index(second) + 2]
    assert out == printable(whole[: min(ends) - 2]) + "\n"


def test_one_token_is_not_several(runs, capsys):
    assert "\n1 token, " in sampled(capsys, "--max_new_tokens=1")[1]
    assert "\n2 tokens, " in sampled(capsys, "--max_new_tokens=2")[1]


def test_json_is_one_event_a_line(runs, capsys):
    out, _ = sampled(capsys, "--json", "--max_new_tokens=6", "--num_samples=2", "--start=a")
    events = [from_json(line) for line in out.splitlines()]
    assert sum(isinstance(event, Token) for event in events) == 12
    assert [event.sample for event in events if isinstance(event, Stopped)] == [0, 1]
    assert all(len(event.alternatives) == 5 for event in events if isinstance(event, Token))


def test_an_unknown_character_is_named_with_the_way_out_and_replaced_on_request(runs, capsys):
    message = refused(capsys, "--start=Écu")
    assert "É" in message
    assert "--unknown=replace" in message
    assert sampled(capsys, "--start=Écu", "--unknown=replace", "--max_new_tokens=0")[0] == "?cu\n"


def test_what_is_replaced_is_known_to_a_tokenizer_that_has_a_token_for_the_unknown():
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "cat": 2}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    words = tokenizers.from_json(
        {"format": 1, "name": "hf", "tokenizer": json.loads(made.to_str()), "end_of_text": None}
    )
    pieces = tokenizers.create("sentencepiece:60,byte_fallback=false", ["the cat sat\n" * 50])
    for tokenizer, prompt, known in ((words, "the big cat", " the cat"), (pieces, "the cät\n", "the ct\n")):
        assert known_text(tokenizer, prompt, replace=True) == known
        assert tokenizer.unknown_id not in tokenizer.encode(known)
        with pytest.raises(UserError, match="--unknown=replace"):
            known_text(tokenizer, prompt, replace=False)
    assert known_text(words, "the  cat", replace=True) == "the  cat", "nothing of it is unknown"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--temperature=nan"], ["temperature=nan"]),
        (["--temperature=-1"], ["temperature=-1", "at least 0"]),
        (["--top_p=0"], ["top_p=0", "above 0"]),
        (["--top_k=many"], ["top_k=many", "whole number"]),
        (["--seed=-1"], ["seed=-1"]),
        (["--num_samples=0"], ["num_samples=0", "at least 1"]),
        (["--num_samples=two"], ["num_samples=two", "whole number"]),
        (["--dtype=half"], ["dtype=half", "float32, bfloat16"]),
        (["--checkpoint=11"], ["11", "10, 20, 30"]),
        (["firts"], ["firts", "Did you mean first?"]),
        (["--start=FILE:nowhere.txt"], ["nowhere.txt"]),
        (["--unknown=guess"], ["guess"]),
        (["--temprature=1"], ["--temprature", "--temperature"]),
        (["model.pt"], ["model.pt", "pickle"]),
    ],
)
def test_bad_input_is_refused_in_one_line(runs, capsys, options, words):
    message = refused(capsys, *options)
    assert all(word in message for word in words)


def test_a_start_that_is_no_utf8_is_refused(runs, capsys, tmp_path):
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    assert "UTF-8" in refused(capsys, f"--start=FILE:{tmp_path / 'latin'}")
    assert "cannot read" in refused(capsys, f"--start=FILE:{tmp_path}")


def test_without_a_run_the_way_to_one_is_named(capsys, tmp_path):
    assert "nanogpt train" in refused(capsys, f"--runs_dir={tmp_path / 'none'}")


def test_a_damaged_checkpoint_is_refused(runs, capsys):
    path = runs / "first" / "checkpoints" / "step-00000020" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    assert "damaged" in refused(capsys)


def test_escape_sequences_reach_neither_a_pipe_nor_a_terminal(runs, capfdbinary):
    words = ["sample", "--start=a\x1bb", "--max_new_tokens=0", "--device=cpu"]
    assert main(words) == 0
    assert capfdbinary.readouterr().out.decode() == "a␛b\n"
    ours, theirs = pty.openpty()
    process = forked.nanogpt(words, terminal=os.ttyname(theirs))
    assert process.wait(60) == 0
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # Linux says so when the last writer has gone
        while more := os.read(ours, 1000):
            shown += more
    os.close(ours)
    assert b"\x1bb" not in shown
    assert "a␛b\r\n" in shown.decode()


def test_a_carriage_return_passes_as_a_line_end_alone(capsys):
    out = PrintableWriter()
    for text in ("a\r", "\nb\r\n", "c\rd", "\r", "\x1b[2J", "e\x9b1m", "\n"):
        out.write(text)
    assert capsys.readouterr().out == "a\r\nb\r\nc␍d␍␛[2Je\\x9b1m\n"


def test_an_endless_start_is_refused(runs, capsys, monkeypatch):
    monkeypatch.setattr("nanogpt.cli.sample.LONGEST_START", 1000)
    assert "longer than 1,000 bytes" in refused(capsys, "--start=FILE:/dev/zero")
