"""Weights from the Hugging Face Hub, by its real client from a stand-in on this machine."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils.tqdm import enable_progress_bars
from safetensors.torch import load_file, save_file

from nanogpt import tokenizers
from nanogpt.cli import main
from nanogpt.errors import UserError
from nanogpt.interop import hub
from nanogpt.interop.huggingface import write_huggingface
from tests import architectures
from tests.interop.hub_server import COMMIT, HubServer

SHAPE = {"n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 16, "vocab_size": 50_304}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder of a small model with GPT-2's tokenizer, and what else a repository has."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("exported") / "gpt2"
    write_huggingface(architectures.build(**SHAPE), tokenizers.create("gpt2"), folder)
    (folder / "onnx").mkdir()
    (folder / "onnx" / "other.safetensors").touch()
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    return folder


@pytest.fixture
def server(exported, tmp_path, monkeypatch):
    """The hub, which has that model as `openai-community/gpt2`."""
    shutil.copytree(exported, tmp_path / "hub" / "openai-community" / "gpt2")
    with HubServer(tmp_path / "hub") as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield running
    enable_progress_bars()


def test_the_files_of_one_commit_are_downloaded_once_and_no_pickle(server, tmp_path):
    folder = hub.download("openai-community/gpt2")
    assert folder.name == COMMIT
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    requests = len(server.names)
    assert hub.download("openai-community/gpt2") == folder
    assert not any("resolve" in name and "safetensors" in name for name in server.names[requests:])


def test_a_training_starts_from_a_gpt2_of_the_hub(server, text_file):
    assert main(["prepare", "textfile", str(text_file), "--output=text", "--tokenizer=gpt2"]) == 0
    quick = ["--max_iters=1", "--eval_iters=1", "--batch_size=2", "--device=cpu", "--dtype=float32", "--compile=false"]
    words = ["train", "--dataset=text", "--init_from=gpt2", "--block_size=8", "--dropout=0.1", "--sample_tokens=0"]
    assert main([*words, *quick, "--name=one"]) == 0
    assert main([*words, *quick, "--name=two", "--init_from=hf:openai-community/gpt2"]) == 0
    assert main(["import", "hf", "gpt2", "--name=three"]) == 0
    assert main(["sample", "three", "--max_new_tokens=3", "--device=cpu"]) == 0


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("hf:someone/nothing", "the hub has no model someone/nothing that this account may read"),
        ("hf:someone/pickled", "someone/pickled has no safetensors files, and pickles are not loaded"),
        ("hf:no-such-folder", "no-such-folder has no config.json: name a folder"),
        ("gpt2-xl", "the hub has no model openai-community/gpt2-xl"),
    ],
)
def test_what_the_hub_does_not_have_is_one_line(server, tmp_path, capsys, source, said):
    (tmp_path / "hub" / "someone" / "pickled").mkdir(parents=True)
    (tmp_path / "hub" / "someone" / "pickled" / "config.json").write_text("{}")
    assert main(["train", f"--init_from={source}"]) == 2
    *_, line = capsys.readouterr().err.splitlines()  # after the bars of the client
    assert said in line


def test_without_a_network_it_is_one_line_or_the_copy_in_the_cache(server, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(UserError, match=r"openai-community/gpt2 could not be downloaded \(.*\): try again, or give a"):
        hub.download("openai-community/gpt2")
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    folder = hub.download("openai-community/gpt2")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert hub.download("openai-community/gpt2") == folder


def test_vocabulary_and_merges_are_a_tokenizer_too(server, tmp_path, text):
    """As GPT-2's first folders have them: the same tokens as its own tokenizer."""
    folder = tmp_path / "hub" / "openai-community" / "gpt2"
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1024, "tokenizer_class": "GPT2Tokenizer"}')
    (folder / "vocab.json").write_text(json.dumps(content["model"]["vocab"]))
    merges = "".join(f"{left} {right}\n" for left, right in content["model"]["merges"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges)
    found, own = tokenizers.create(f"hf:{folder}"), tokenizers.create("gpt2")
    assert found.encode(text) == own.encode(text)
    assert (found.end_of_text, found.vocab_size) == (own.end_of_text, own.vocab_size)
    assert main(["import", "hf", "gpt2", "--name=one"]) == 0
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    with pytest.raises(UserError, match="the vocabulary of a Qwen2Tokenizer, which splits text in its own way"):
        tokenizers.create(f"hf:{folder}")
    (folder / "merges.txt").unlink()
    with pytest.raises(UserError, match="cannot read the tokenizer"):
        tokenizers.create(f"hf:{folder}")


def test_an_imported_folder_has_the_logits_of_its_weights(tmp_path, capsys):
    torch.manual_seed(3)
    model = architectures.build(**SHAPE | {"vocab_size": 4}).eval()
    write_huggingface(model, tokenizers.create("char", ["abcd"]), tmp_path / "hf")
    assert main(["import", "hf", str(tmp_path / "hf"), "--tokenizer=gpt2"]) == 2
    assert main(["import", "hf", f"hf:{tmp_path / 'hf'}"]) == 0
    [run] = capsys.readouterr().out.splitlines()
    stored = load_file(f"{run}/checkpoints/step-00000000/model.safetensors")
    assert all(torch.equal(stored[name], tensor) for name, tensor in model.state_dict().items())
    save_file({"a": torch.zeros(1)}, tmp_path / "hf" / "model.safetensors")
    assert main(["import", "hf", str(tmp_path / "hf"), "--name=other"]) == 2


def test_the_client_is_found_in_a_fresh_process():
    script = "from nanogpt.interop.hub import _client; print(_client('x').__name__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "huggingface_hub\n", done.stderr
