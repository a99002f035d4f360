"""`nanogpt export`: a run's weights as transformers read them."""

import torch
from transformers import GPT2LMHeadModel

from nanogpt import runs
from nanogpt.cli import main


def test_transformers_read_what_was_exported_and_a_run_begins_with_it(small, tmp_path, capsys):
    assert main(["train", *small, "--name=one"]) == 0
    folder = tmp_path / "hf"
    capsys.readouterr()
    assert main(["export", "one", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{folder}\n"
    assert "its tokenizer, char," in err
    ours, theirs = runs.load_model("one").model, GPT2LMHeadModel.from_pretrained(folder).eval()
    ids = torch.arange(10)[None] % ours.config.vocab_size
    with torch.inference_mode():
        torch.testing.assert_close(theirs(ids).logits, ours.logits(ids), rtol=0, atol=1e-4)


def test_what_cannot_be_exported_is_one_line_and_writes_nothing(small, tmp_path, capsys):
    assert main(["train", *small, "--name=one", "--architecture=modern", "--max_iters=2"]) == 0
    capsys.readouterr()
    for words in (["one", str(tmp_path / "hf")], ["none", str(tmp_path / "hf")]):
        assert main(["export", *words]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 2
    assert "only gpt2 can be written" in err[0]
    assert not (tmp_path / "hf").exists()
