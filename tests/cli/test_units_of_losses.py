"""Losses in all units: while training, in the list of runs, of one run, and of a run of an earlier version."""

import json
import math

import pytest

from nanogpt import runs
from nanogpt.cli import main
from nanogpt.data import open_dataset
from tests.narrowing import expect

UNITS = ("perplexity", "bits_per_character", "bits_per_byte")


@pytest.fixture
def trained(tmp_path, text, small, capsys):
    """What training says of a run whose text has more bytes than characters and tokens."""
    path = tmp_path / "wide.txt"
    path.write_text(text.replace("a", "ä"), encoding="utf-8")
    assert main(["prepare", "textfile", str(path), "--output=wide"]) == 0
    assert main(["train", *small, "--dataset=wide", "--name=one", "--sample_tokens=0"]) == 0
    return capsys.readouterr().err


def test_training_and_every_listing_have_them(trained, capsys):
    meta = open_dataset("wide").meta
    state = runs.summary(runs.find("one"))
    loss = expect(float, state.val_loss)
    bits = loss * meta.tokens["val"] / meta.split_bytes["val"] / math.log(2)
    assert meta.split_bytes["val"] > meta.split_characters["val"]
    last = next(line for line in trained.splitlines() if line.startswith("step 6: train loss"))
    assert last.endswith(f"perplexity {math.exp(loss):,.2f}, {bits:.4f} bits per byte")

    assert main(["info", "one", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    characters = loss * meta.tokens["val"] / meta.split_characters["val"] / math.log(2)
    expected = math.exp(loss), characters, bits
    assert [about[f"val_{unit}"] for unit in UNITS] == pytest.approx(expected)
    for command, said in (
        (["info", "one"], f"bits per byte       {bits:.4f}"),
        (["runs"], f"{state.best_val_loss_in('bits per byte'):.4f}"),
        (["watch", "one", "--once"], f"{bits:.4f} bits/byte"),
    ):
        assert main(command) == 0
        assert said in capsys.readouterr().out


def test_a_run_of_an_earlier_version_has_a_dash_for_what_is_not_known(trained, capsys):
    status = runs.find("one") / "status.json"
    values = json.loads(status.read_text())
    for name in ("val_tokens", "val_characters", "val_bytes"):
        del values[name]
    status.write_text(json.dumps(values))
    assert main(["info", "one"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "bits per byte       – (best –)" in lines
    assert any(line.startswith("perplexity ") and "–" not in line for line in lines)
    assert main(["watch", "one", "--once"]) == 0
    assert "bits/byte" not in capsys.readouterr().out
