"""nanoGPT's checkpoints become runs; what a pickle could do besides is not done."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from nanogpt import runs
from nanogpt.cli import main
from nanogpt.config import architecture_from
from nanogpt.errors import UserError
from nanogpt.events import SplitEvaluated
from nanogpt.interop.nanogpt_checkpoint import read_checkpoint
from nanogpt.models.base import compute_loss
from nanogpt.runs import checkpoints
from nanogpt.runs.importing import import_nanogpt
from tests.narrowing import expect

SHAPE: dict[str, Any] = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 20, "bias": True}
DOUBLED: list[Any] = [1]  # a list that is small in the file, and whose text has 2^40 numbers
for _ in range(40):
    DOUBLED = [DOUBLED, DOUBLED]


class Dangerous:
    """Whoever unpickles this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def nanogpt(tmp_path, text):
    """A folder like nanoGPT's after a training of a compiled model on characters."""
    characters = sorted(set(text))
    data = tmp_path / "nanoGPT" / "data" / "tiny"
    data.mkdir(parents=True)
    by_id = dict(enumerate(characters))
    meta = {"vocab_size": len(by_id), "itos": by_id, "stoi": {character: id for id, character in by_id.items()}}
    (data / "meta.pkl").write_bytes(pickle.dumps(meta))
    out = tmp_path / "nanoGPT" / "out-tiny"
    out.mkdir()
    torch.manual_seed(4)
    shape = SHAPE | {"vocab_size": len(characters)}
    model = architecture_from({"architecture": "gpt2"} | shape).build()
    optimizer = torch.optim.AdamW(model.parameters())
    ids = torch.zeros(1, 4, dtype=torch.long)
    compute_loss(model, ids, ids).backward()
    optimizer.step()
    weights = {f"_orig_mod.transformer.{name}": tensor.detach() for name, tensor in model.state_dict().items()}
    weights["_orig_mod.lm_head.weight"] = weights["_orig_mod.transformer.wte.weight"]
    saved = {
        "model": weights,
        "optimizer": optimizer.state_dict(),
        "model_args": shape | {"dropout": 0.2},
        "iter_num": 250,
        "best_val_loss": torch.tensor(1.75),
        "config": {"dataset": "tiny", "learning_rate": 1e-3, "compile": True},
    }
    torch.save(saved, out / "ckpt.pt")
    return out / "ckpt.pt", saved, model.eval()


def changed(nanogpt: tuple[Path, dict[str, Any], Any], **parts: Any) -> Path:
    file, saved, _ = nanogpt
    torch.save(saved | parts, file)
    return file


@pytest.mark.parametrize("number", [10**400, float("nan"), torch.zeros(1, device="meta"), torch.zeros(2), "5", None])
def test_a_step_and_a_loss_that_are_no_numbers_count_as_unknown(nanogpt, number):
    read = read_checkpoint(changed(nanogpt, iter_num=number, best_val_loss=number))
    assert (read.step, read.best_val_loss) == (0, None)


def test_a_checkpoint_becomes_a_run_that_is_sampled_evaluated_exported_and_trained_on(
    nanogpt, dataset, text, tmp_path, capsys
):
    file, _, model = nanogpt
    assert main(["import", "nanogpt", str(file)]) == 0
    out, err = capsys.readouterr()
    run = Path(out.strip())
    assert run.name == "out-tiny"
    assert "nanogpt train --init_from=out-tiny" in err
    assert "nanoGPT computes GELU exactly (erf)" in err
    loaded = runs.load_model("out-tiny")
    assert (loaded.step, loaded.tokenizer.name) == (250, "char")
    ids = torch.tensor([loaded.tokenizer.encode(text[:21])])
    with torch.inference_mode():
        ours, theirs = (compute_loss(each, ids[:, :-1], ids[:, 1:]) for each in (loaded.model, model))
        assert torch.equal(ours, theirs)
    *_, measured = runs.evaluate_run("out-tiny", dataset=dataset)
    assert expect(SplitEvaluated, measured).loss > 1
    state = runs.summary(run)
    assert (state.phase, state.step, state.best_val_loss, state.dataset) == ("finished", 250, 1.75, "tiny")
    for words in (
        ["sample", "out-tiny", "--max_new_tokens=5", "--device=cpu"],
        ["info", "out-tiny"],
        ["runs"],
        ["export", "out-tiny", str(tmp_path / "hf")],
        ["train", "--init_from=out-tiny", f"--dataset={dataset}", "--max_iters=1", "--eval_iters=1", "--device=cpu"],
    ):
        assert main(words) == 0, words
    capsys.readouterr()
    assert main(["train", "--init_from=resume", "--name=out-tiny"]) == 2
    assert "was imported and has weights only: start a new run with --init_from=out-tiny" in capsys.readouterr().err
    assert main(["import", "nanogpt", str(file.parent), "--name=out-tiny"]) == 2
    assert main(["import", "nanogpt", str(file.parent)]) == 0
    assert runs.find("out-tiny-2")


def test_a_run_that_was_made_meanwhile_is_not_replaced(nanogpt, tmp_path, monkeypatch):
    run, write = tmp_path / "one", checkpoints.write

    def while_another_starts(*given):
        run.mkdir()
        (run / "run.toml").write_text("mine")
        return write(*given)

    monkeypatch.setattr(checkpoints, "write", while_another_starts)
    with pytest.raises(UserError, match="already has a run"):
        import_nanogpt(nanogpt[0], run)
    assert (run / "run.toml").read_text() == "mine"
    assert list(tmp_path.glob(".one*")) == []


def test_old_and_padded_checkpoints_are_read_too(nanogpt, tmp_path):
    """Early files have the causal mask and no `bias`; a vocabulary may be rounded up, and a head need not be tied."""
    _, saved, _ = nanogpt
    weights = {name.removeprefix("_orig_mod."): tensor for name, tensor in saved["model"].items()}
    weights["transformer.h.0.attn.bias"] = torch.ones(1, 1, 20, 20)
    padded = torch.cat((weights["lm_head.weight"], torch.ones(7, 16)))
    weights |= {"transformer.wte.weight": padded, "lm_head.weight": padded + 1}
    shape = {name: value for name, value in saved["model_args"].items() if name != "bias"}
    file = changed(nanogpt, model=weights, model_args=shape | {"vocab_size": len(padded)}, best_val_loss=1e9, config=3)
    read = read_checkpoint(file)
    assert (read.config.bias, read.config.tied_head, read.config.vocab_size) == (True, False, len(padded))
    assert (read.best_val_loss, read.dataset) == (1e9, "")
    meta = file.parent.parent / "data" / "tiny" / "meta.pkl"
    import_nanogpt(file, tmp_path / "run", meta=meta)
    loaded = runs.load_model(str(tmp_path / "run"))
    assert loaded.model.config.vocab_size == len(padded)
    assert torch.equal(loaded.model.get_parameter("head.weight"), padded + 1)


def test_the_tokenizer_is_gpt2s_by_the_size_of_the_vocabulary(nanogpt, tmp_path):
    _, saved, _ = nanogpt
    rows = torch.zeros(50_304, 16)
    weights = saved["model"] | {"_orig_mod.transformer.wte.weight": rows, "_orig_mod.lm_head.weight": rows}
    file = changed(nanogpt, model=weights, model_args=saved["model_args"] | {"vocab_size": 50_304}, config={})
    import_nanogpt(file, tmp_path / "run")
    assert runs.load_model(str(tmp_path / "run")).tokenizer.name == "gpt2"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"config": {"dataset": "../../data/tiny"}}, "tokens, which are not GPT-2's: give --meta=data/NAME/meta.pkl"),
        ({"model_args": {"n_layer": 3}}, r"not a checkpoint of this model|does not fit this model"),
        ({"model_args": {"n_layer": "many"}}, "n_layer in model_args is not a number"),
        ({"model_args": {"n_layer": DOUBLED}}, "n_layer in model_args is not a number"),
        ({"model_args": None}, "is not a checkpoint of nanoGPT: it does not have model and model_args"),
        ({"model": [1, 2]}, "is not a checkpoint of nanoGPT"),
        ({"model": {"transformer.wte.weight": 3}}, "transformer.wte.weight is not a tensor of numbers"),
        ({"model": {"x": torch.zeros(3).to_sparse()}}, "is not a tensor of numbers"),
        ({"model": {"x": torch.zeros(1, 1).expand(10**6, 10**6)}}, "is not a tensor of numbers"),  # 4 TB
        ({"model": {"lm_head.weight": torch.zeros(10**6, 10**6, device="meta")}}, "is not a tensor of numbers"),
    ],
)
def test_what_is_not_a_checkpoint_is_refused_in_one_line(nanogpt, tmp_path, parts, said):
    file = changed(nanogpt, **parts)
    with pytest.raises(UserError, match=said) as caught:
        import_nanogpt(file, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("part", ["iter_num", "model", "whole"])
def test_a_pickle_that_would_create_a_file_creates_none(nanogpt, tmp_path, capsys, new_format, part):
    file, saved, _ = nanogpt
    proof = tmp_path / "proof"
    content = Dangerous(proof) if part == "whole" else saved | {part: Dangerous(proof)}
    torch.save(content, file, _use_new_zipfile_serialization=new_format)
    assert main(["import", "nanogpt", str(file), "--name=bad"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "ckpt.pt is not loaded: it asks for" in line
    assert "which could run code" in line
    assert not proof.exists()
    with pytest.raises(UserError, match="no run"):
        runs.find("bad")
    torch.load(file, weights_only=False) if part == "iter_num" else None
    assert proof.exists() == (part == "iter_num"), "without the restriction it would have"


def test_a_meta_that_would_create_a_file_creates_none(nanogpt, tmp_path, capsys):
    file, proof, meta = nanogpt[0], tmp_path / "proof", tmp_path / "meta.pkl"
    meta.write_bytes(pickle.dumps({"itos": Dangerous(proof)}))
    assert main(["import", "nanogpt", str(file), f"--meta={meta}"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "could run code" in line
    assert not proof.exists()


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x80\x02}q\x00.", b"\x80\x04N.", b"text\n" * 99])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, capsys, content):
    (tmp_path / "ckpt.pt").write_bytes(content)
    assert main(["import", "nanogpt", str(tmp_path), "--name=bad"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_other_options_that_do_not_fit_are_one_line(nanogpt, tmp_path, capsys):
    file = nanogpt[0]
    few = tmp_path / "meta.pkl"
    many = {id: chr(300 + id) for id in range(200)}
    few.write_bytes(pickle.dumps({"itos": many}))
    for words, said in (
        ([str(tmp_path / "nothing.pt")], "cannot read"),
        ([str(file), "--tokenizer=char"], "is made from a text: for a model of characters give --meta"),
        ([str(file), "--tokenizer=gpt2"], "the tokenizer gpt2 has 50,257 tokens"),
        ([str(file), f"--meta={few}"], "the tokenizer char has 200 tokens"),
    ):
        assert main(["import", "nanogpt", *words]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert said in line


def test_a_run_that_was_imported_says_so(nanogpt, capsys):
    assert main(["import", "nanogpt", str(nanogpt[0]), "--name=one"]) == 0
    events = [json.loads(line) for line in (runs.find("one") / "events.jsonl").read_text().splitlines()]
    assert events[1]["text"] == f"imported from {nanogpt[0]}"
    assert main(["eval", "one", "--dataset=tiny"]) == 2


def test_characters_in_another_order_than_the_tokenizers_are_refused(nanogpt, tmp_path):
    file, _, _ = nanogpt
    meta = file.parent.parent / "data" / "tiny" / "meta.pkl"
    by_id = pickle.loads(meta.read_bytes())["itos"]
    meta.write_bytes(pickle.dumps({"itos": dict(enumerate(reversed(by_id.values())))}))
    with pytest.raises(UserError, match="are not sorted"):
        import_nanogpt(file, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("own", [".git", "tokenizer.json"])
def test_what_a_person_has_in_the_folder_stays(nanogpt, tmp_path, own):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / own).write_text("mine")
    with pytest.raises(UserError):
        import_nanogpt(nanogpt[0], tmp_path / "one")
    assert (tmp_path / "one" / own).read_text() == "mine"
    assert [path.name for path in tmp_path.glob("*one*")] == ["one"]


class Large:
    """Whoever unpickles this allocates as many bytes."""

    def __reduce__(self):
        return bytearray, (1 << 40,)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_small_file_that_asks_for_much_memory_is_refused(nanogpt, new_format):
    file, saved, _ = nanogpt
    torch.save(saved | {"config": Large()}, file, _use_new_zipfile_serialization=new_format)
    with pytest.raises(UserError, match=r"it asks for .*bytearray, which could run code or take any amount of memory"):
        import_nanogpt(file, file.parent / "run")


def test_many_tensors_of_the_same_numbers_are_refused(nanogpt):
    file, saved, _ = nanogpt
    same = torch.zeros(100, 100)
    weights = saved["model"] | {f"transformer.h.{number}.x": same for number in range(50)}
    with pytest.raises(UserError, match="are the same numbers"):
        import_nanogpt(changed(nanogpt, model=weights), file.parent / "run")
