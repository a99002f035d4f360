"""`nanogpt export`: a run's weights and its record as other programs read them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nanogpt import runs
from nanogpt.cli import main
from nanogpt.events import Step
from nanogpt.formatting import printable
from nanogpt.runs import checkpoints
from tests.lazy import transformers
from tests.narrowing import expect


def test_transformers_read_what_was_exported_and_a_run_begins_with_it(small, tmp_path, capsys):
    assert main(["train", *small, "--name=one"]) == 0
    folder = tmp_path / "hf"
    capsys.readouterr()
    assert main(["export", "one", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{folder}\n"
    assert "with its tokenizer, char" in err
    ours, theirs = runs.load_model("one").model, transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    ids = torch.arange(10)[None] % ours.config.vocab_size
    with torch.inference_mode():
        torch.testing.assert_close(theirs(ids).logits, ours.logits(ids), rtol=0, atol=1e-4)


@pytest.mark.parametrize("tokenizer", ["char", "byte", "gpt2"])
def test_a_pipeline_of_transformers_writes_the_same_greedy_text(small, text_file, tmp_path, capsys, tokenizer):
    """With a vocabulary that is padded to a multiple of 64, the rows of which nobody may draw."""
    assert main(["prepare", "textfile", str(text_file), "--output=text", f"--tokenizer={tokenizer}"]) == 0
    size = 50_304 if tokenizer == "gpt2" else 320
    words = ["--dataset=text", "--name=one", f"--vocab_size={size}", "--block_size=40", "--max_iters=1"]
    assert main(["train", *small, *words]) == 0
    run = runs.find("one")
    saved = checkpoints.read(expect(runs.Checkpoint, runs.best(run)).path)
    # far from uniform, so that each token depends on those before it
    spread = {name: 8 * tensor if tensor.dim() == 2 else tensor for name, tensor in saved.model.items()}
    checkpoints.write(run, replace(saved, model=spread))
    assert main(["export", "one", str(tmp_path / "hf")]) == 0
    prompt = text_file.read_text()[:10]
    capsys.readouterr()
    words = [f"--start={prompt}", "--temperature=0", "--max_new_tokens=25", "--dtype=float32", "--device=cpu"]
    assert main(["sample", "one", *words]) == 0
    written = capsys.readouterr().out.removesuffix("\n")
    generator = transformers.pipeline("text-generation", str(tmp_path / "hf"), device="cpu")
    [made] = generator(prompt, max_new_tokens=25, do_sample=False)
    assert printable(made["generated_text"]) == written  # control characters are shown as signs
    assert len(set(written[len(prompt) :])) > 3


def test_what_cannot_be_exported_is_one_line_and_writes_nothing(small, tmp_path, capsys):
    assert main(["train", *small, "--name=one", "--architecture=modern", "--max_iters=2"]) == 0
    capsys.readouterr()
    for words in (["one", str(tmp_path / "hf")], ["none", str(tmp_path / "hf")]):
        assert main(["export", *words]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 2
    assert "only gpt2 can be written" in err[0]
    assert not (tmp_path / "hf").exists()


def test_weights_of_any_architecture_are_written_as_one_safetensors_file(small, tmp_path, capsys):
    assert main(["train", *small, "--name=one", "--architecture=modern", "--max_iters=2"]) == 0
    file = tmp_path / "new" / "one.safetensors"
    capsys.readouterr()
    assert main(["export", "one", str(file), "--to=safetensors"]) == 0
    assert capsys.readouterr().out == f"{file}\n"
    model = runs.load_model("one").model
    with safe_open(file, framework="pt") as written:
        assert json.loads(written.metadata()["config"]) == model.config.to_dict()
        assert set(written.keys()) == set(model.state_dict())
        assert all(torch.equal(written.get_tensor(name), tensor) for name, tensor in model.state_dict().items())
    assert main(["export", "one", str(file), "--to=safetensors"]) == 2
    assert "it already exists; choose another place" in capsys.readouterr().err


def test_a_gguf_file_has_the_number_format_that_is_asked_for(small, tmp_path, capsys):
    assert main(["train", *small, "--name=one", "--n_embd=32", "--max_iters=2"]) == 0
    sizes = []
    for dtype in ("float32", "float16", "q8_0"):
        assert main(["export", "one", str(tmp_path / f"{dtype}.gguf"), "--to=gguf", f"--dtype={dtype}"]) == 0
        sizes.append((tmp_path / f"{dtype}.gguf").stat().st_size)
    assert sizes == sorted(sizes, reverse=True)
    capsys.readouterr()
    for words in (["--dtype=float16"], ["--to=ggml"], ["--to=gguf", "--dtype=int4"]):
        assert main(["export", "one", str(tmp_path / "other"), *words]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "other").exists()


def test_what_a_run_recorded_is_exported_in_the_format_that_the_name_ends_in(small, tmp_path, capsys):
    assert main(["train", *small, "--name=one"]) == 0
    capsys.readouterr()
    for name, begins in (("one.html", "<!DOCTYPE html>"), ("new/one.csv", "step,loss,")):
        assert main(["export", "one", str(tmp_path / name)]) == 0
        out, err = capsys.readouterr()
        assert (out, err) == (f"{tmp_path / name}\n", "one, 6 reported steps\n")
        assert (tmp_path / name).read_text().startswith(begins)
    assert main(["export", "one", str(tmp_path / "one.html")]) == 2
    assert "it already exists; choose another place" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--checkpoint=2"], ["--weights=raw"]])
def test_a_choice_of_weights_is_refused_for_a_format_without_weights(tmp_path, capsys, words):
    assert main(["export", "one", str(tmp_path / "one.csv"), *words]) == 2
    assert "--checkpoint and --weights are for a model: csv has what the run recorded" in capsys.readouterr().err


def test_an_export_to_tensorboard_is_a_new_folder_that_its_reader_reads(small, tmp_path, capsys):
    assert main(["train", *small, "--name=one"]) == 0
    assert main(["export", "one", str(tmp_path / "out"), "--to=tensorboard"]) == 0
    reader = EventAccumulator(str(tmp_path / "out"), size_guidance={"scalars": 0})
    reader.Reload()
    shown = {
        tag: {event.step: (event.wall_time, event.value) for event in reader.Scalars(tag)}
        for tag in reader.Tags()["scalars"]
    }
    steps = [event for event in runs.history(runs.find("one")) if isinstance(event, Step)]
    expected = {event.step: (event.time, float(np.float32(event.grad_norm))) for event in steps}
    assert shown["grad_norm"] == expected
    assert set(shown["val/loss"]) == {0, 3, 6}
    capsys.readouterr()
    assert main(["export", "one", str(tmp_path / "out"), "--to=tensorboard"]) == 2
    assert "it already exists" in capsys.readouterr().err
