"""`nanogpt eval`: the loss of a run over a whole split."""

import math

import pytest
import torch

from nanogpt import runs
from nanogpt.cli import main
from nanogpt.events import Evaluated, SplitEvaluated, from_json


@pytest.fixture
def run(small, capsys):
    """A run whose last evaluation is of the whole validation split; its data set has no test split."""
    assert main(["train", *small, "--eval_iters=0", "--name=one", "--sample_tokens=0"]) == 0
    capsys.readouterr()
    return "one"


def refusal(capsys, *arguments):
    assert main(["eval", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def evaluated(capsys, *arguments):
    assert main(["eval", *arguments, "--json"]) == 0
    result = from_json(capsys.readouterr().out)
    assert isinstance(result, SplitEvaluated)
    return result


def test_without_overlap_it_is_the_loss_that_training_measures_and_in_every_unit(run, capsys):
    result = evaluated(capsys, run, "--checkpoint=latest")
    trained = [event for event in runs.history(runs.find(run)) if isinstance(event, Evaluated)][-1]
    assert (result.step, result.split, result.stride, result.block_size) == (6, "val", 16, 16)
    assert result.predicted == result.tokens - 1 == trained.tokens
    assert result.loss == pytest.approx(trained.val_loss, rel=1e-6)
    assert result.perplexity == pytest.approx(math.exp(result.loss))
    assert result.bits_per_byte == pytest.approx(result.loss * result.tokens / result.bytes / math.log(2))
    assert main(["eval", run, "--stride=4"]) == 0
    out = capsys.readouterr().out
    assert "16 tokens, one every 4 tokens" in out
    assert "nats per token" in out


def test_a_split_stride_or_data_set_that_does_not_fit_is_one_line_with_advice(run, text_file, capsys):
    said = refusal(capsys, run, "--split=test")
    assert "data set small has no split 'test'" in said
    assert "--test_ratio=0.1" in said
    assert "stride=17: has to be from 1 to 16" in refusal(capsys, run, "--stride=17")
    assert main(["prepare", "textfile", str(text_file), "--output=bytes", "--tokenizer=byte"]) == 0
    capsys.readouterr()
    assert "bytes was prepared with another tokenizer than the run one" in refusal(capsys, run, "--dataset=bytes")


def test_a_data_set_prepared_again_is_not_taken_for_the_run_s_but_may_be_named(run, text_file, capsys):
    again = ["prepare", "textfile", str(text_file), "--output=small", "--test_ratio=0.1", "--force"]
    assert main(again) == 0
    capsys.readouterr()
    said = refusal(capsys, run, "--split=test")
    assert "is not the one that one was trained on" in said
    assert evaluated(capsys, run, "--split=test", "--dataset=small").split == "test"


def test_averaged_weights_have_their_own_loss_and_are_named(small, capsys):
    assert main(["train", *small, "--eval_iters=0", "--ema_decay=0.9", "--name=two", "--sample_tokens=0"]) == 0
    trained = [event for event in runs.history(runs.find("two")) if isinstance(event, Evaluated)][-1]
    capsys.readouterr()
    for weights, loss in (("raw", trained.val_loss), ("ema", trained.ema_val_loss)):
        result = evaluated(capsys, "two", "--checkpoint=latest", f"--weights={weights}")
        assert result.loss == pytest.approx(loss, rel=1e-6)
        assert result.is_average == (weights == "ema")
    assert main(["eval", "two", "--weights=ema"]) == 0
    assert "averaged weights" in capsys.readouterr().out


@pytest.mark.skipif(torch.backends.quantized.engine not in ("fbgemm", "x86", "onednn"), reason="no int8 here")
@pytest.mark.parametrize("shape", [[], ["--architecture=mlp", "--n_hidden=8"]])
def test_int8_has_a_loss_of_its_own_and_says_what_it_costs(shape, small, capsys):
    """Seven bits of each factor move a loss of some 5 bits per byte by far less than 0.1."""
    shape = [item for item in small if not shape or not item.startswith(("--n_layer", "--n_head"))] + shape
    assert main(["train", *shape, "--name=one", "--sample_tokens=0"]) == 0
    capsys.readouterr()
    exact, rounded = evaluated(capsys, "one"), evaluated(capsys, "one", "--dtype=int8")
    assert (exact.int8_cost, rounded.dtype) == (None, "int8")
    assert rounded.predicted == exact.predicted
    assert rounded.int8_cost == pytest.approx(rounded.bits_per_byte - exact.bits_per_byte, abs=1e-6)
    assert 0 < abs(rounded.int8_cost) < 0.1
    assert main(["eval", "one", "--dtype=int8"]) == 0
    out = capsys.readouterr().out
    assert f"int8 costs          {rounded.int8_cost:.4f} bits per byte, measured on {rounded.predicted:,} tokens" in out


def test_int8_of_counts_is_refused(small, capsys):
    plain = [item for item in small if not item.startswith(("--n_", "--learning_rate"))]
    assert main(["train", *plain, "--architecture=ngram", "--name=counts"]) == 0
    capsys.readouterr()
    assert "dtype=int8: the architecture ngram has no weights to round" in refusal(capsys, "counts", "--dtype=int8")
