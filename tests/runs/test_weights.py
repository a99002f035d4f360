"""Starting from other weights: they decide the shape, and what was asked otherwise is refused."""

import json
from dataclasses import replace

import pytest
from safetensors.torch import load_file

from nanogpt import runs
from nanogpt.cli import main
from nanogpt.config import resolve
from nanogpt.data import prepare, textfile_recipe
from nanogpt.errors import SettingError
from nanogpt.events import Notice, Started
from nanogpt.interop.huggingface import write_huggingface
from nanogpt.runs.folder import run_config
from nanogpt.runs.weights import with_shape_of_weights
from tests.narrowing import expect

QUICK = {"max_iters": 1, "eval_iters": 1, "batch_size": 2, "device": "cpu", "dtype": "float32", "compile": "false"}


@pytest.fixture
def long(small):
    """A run with a context far above the default of 64, and a shape that is not the default one."""
    list(runs.start(small(block_size=200, max_iters=1), runs.new_folder("run", name="long")))
    return "long"


def begun(name, asked, preset=None, file=None, dataset="small"):
    """(configuration, notices) of a run that asks for nothing of the shape but what is `asked`."""
    resolved = resolve(preset=preset, file=file, flags=QUICK | {"dataset": dataset} | asked)
    folder = runs.new_folder("run", name=name)
    events = list(runs.start(resolved.config, folder, sources=resolved.sources))
    return run_config(folder), [event.text for event in events if isinstance(event, Notice)]


def refusal(asked, **places):
    resolved = resolve(flags={"dataset": "small"} | asked, **places)
    with pytest.raises(SettingError) as caught:
        list(runs.start(resolved.config, runs.new_folder("run"), sources=resolved.sources))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_asked_is_all_as_the_weights_have_it(long):
    config, notices = begun("tuned", {"init_from": long})
    assert notices == []
    assert config.model.shape() == run_config(runs.find(long)).model.shape()
    assert config.model.block_size == 200


def test_what_the_weights_have_can_be_asked_for_too(long):
    config, notices = begun("tuned", {"init_from": long, "n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 200})
    assert (config.model.block_size, notices) == (200, [])


@pytest.mark.parametrize("way", ["flag", "file"])
def test_a_shorter_context_is_cropped_and_said_once_and_recorded(long, tmp_path, way):
    file = tmp_path / "mine.toml"
    file.write_text("block_size = 64\n")  # the default, and asked for all the same
    asked = {"init_from": long} | ({"block_size": 64} if way == "flag" else {})
    config, notices = begun("tuned", asked, file=file if way == "file" else None)
    assert config.model.block_size == 64
    assert len(notices) == 1
    assert "know 200 positions; the new run uses the first 64" in notices[0]
    recorded = [event.text for event in runs.read_events(runs.find("tuned")) if isinstance(event, Notice)]
    assert recorded == notices
    old = load_file(expect(runs.Checkpoint, runs.best(runs.find(long))).path / "model.safetensors")
    assert runs.load_model("tuned").model.get_parameter("wpe.weight").shape == (64, 16)
    assert old["wpe.weight"].shape == (200, 16)


def test_a_shorter_context_than_the_architecture_can_crop_to_is_refused_at_once(long, monkeypatch):
    model = type(run_config(runs.find(long)).model)
    monkeypatch.setattr(model, "capabilities", replace(model.capabilities, crop=False))
    said = "block_size=64: the weights of long have block_size=200; leave block_size out"
    assert said in refusal({"init_from": long, "block_size": 64})


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"n_layer": 3}, "n_layer=3: the weights of long have n_layer=1; leave n_layer out"),
        ({"bias": "true"}, "bias=true: the weights of long have bias=false"),
        ({"architecture": "modern"}, "architecture=modern: the weights of long have architecture=gpt2"),
        ({"block_size": 300}, "block_size=300: the weights of long know 200 positions, not more"),
    ],
)
def test_what_the_weights_cannot_have_is_refused(long, asked, said):
    assert said in refusal({"init_from": long} | asked)
    assert [run.name for run in runs.list_runs()] == [long]


def test_a_preset_or_a_file_of_another_shape_is_refused_with_the_options_that_work(long, tmp_path):
    said = refusal({"init_from": long}, preset="macbook")
    assert "n_layer=4, from preset macbook: the weights of long have n_layer=1" in said
    assert "give --block_size=200 --n_layer=1 --n_head=2 --n_embd=16 too, or leave preset macbook out" in said
    words = ["train", "--preset=macbook", f"--init_from={long}", "--dataset=small", "--name=tuned", "--sample_tokens=0"]
    words += [f"--{name}={value}" for name, value in QUICK.items()]
    assert main([*words, "--n_layer=1", "--n_head=2", "--n_embd=16", "--block_size=200"]) == 0  # as it was told
    file = tmp_path / "mine.toml"
    file.write_text("n_layer = 3\nlearning_rate = 0.01\n")
    assert f"n_layer=3, from {file}" in refusal({"init_from": long}, file=file)


def test_without_sources_all_of_the_configuration_is_asked_for(long, small):
    with pytest.raises(SettingError, match="n_layer=3"):
        list(runs.start(small(init_from=long, n_layer=3, block_size=200), runs.new_folder("run", name="tuned")))


def test_in_the_background_it_is_the_same(long):
    words = [f"--{name}={value}" for name, value in QUICK.items()]
    words = ["train", *words, "--dataset=small", f"--init_from={long}", "--detach", "--sample_tokens=0"]
    assert main([*words, "--name=two"]) == 0
    assert run_config(runs.find("two")).model.block_size == 200
    assert main([*words, "--name=three", "--n_layer=3"]) == 2


def test_an_evaluation_alone_measures_over_the_whole_context(long):
    resolved = resolve(flags=QUICK | {"dataset": "small", "init_from": long, "eval_only": "true"})
    events = list(runs.start(resolved.config, runs.new_folder("run"), sources=resolved.sources))
    started = next(event for event in events if isinstance(event, Started))
    assert started.tokens_per_iteration == 2 * 200


def test_what_a_resume_advises_works(long, capsys):
    words = ["train", "--init_from=resume", f"--name={long}", "--max_iters=2"]
    assert main([*words, "--n_layer=3"]) == 2
    assert "train a new run for another shape" in capsys.readouterr().err
    assert main([*words, "--block_size=100"]) == 2
    advice = capsys.readouterr().err.split(" with ")[1].split()
    assert advice == ["--init_from=long", "--block_size=100", "--dataset=small"]
    quick = [f"--{name}={value}" for name, value in QUICK.items()]
    assert main(["train", *quick, *advice, "--name=shorter", "--sample_tokens=0"]) == 0
    assert run_config(runs.find("shorter")).model.block_size == 100


def test_a_name_of_the_hub_says_how_it_is_downloaded(long):
    said = refusal({"init_from": "openai-community/gpt2-xl"})
    assert "--init_from=hf:openai-community/gpt2-xl downloads the model of this name from the hub" in said


def test_a_run_of_such_a_name_is_that_run(long, small):
    runs.find(long).rename(runs.find(long).with_name("gpt2"))
    assert with_shape_of_weights(resolve(flags={"init_from": "gpt2"}).config, {})


def test_a_checkpoint_of_nanogpt_is_refused_with_the_command_that_reads_it(long, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ckpt.pt").touch()
    for source in (tmp_path / "out", tmp_path / "out" / "ckpt.pt"):
        assert "`nanogpt import nanogpt FILE` makes a run of a ckpt.pt" in refusal({"init_from": str(source)})


def test_a_llama_is_fine_tuned_with_the_tokenizer_of_its_folder(text_file, tmp_path):
    list(prepare(textfile_recipe([text_file], name="text", tokenizer="bpe:300")))
    rotary = {"positions": "rotary", "norm": "rms", "activation": "swiglu", "n_kv_head": 1, "mlp_width": 12}
    begun("one", {"n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 70} | rotary, dataset="text")
    loaded = runs.load_model("one")
    write_huggingface(loaded.model, loaded.tokenizer, tmp_path / "hf")
    list(prepare(textfile_recipe([text_file], name="theirs", tokenizer=f"hf:{tmp_path / 'hf'}")))
    asked = {"init_from": f"hf:{tmp_path / 'hf'}", "block_size": 20, "dropout": 0.2}
    config, notices = begun("two", asked, dataset="theirs")
    changed = config.model.shape().items() ^ loaded.model.config.shape().items()
    assert {name for name, _ in changed} == {"block_size"}
    assert "know 70 positions; the new run uses the first 20" in notices[0]


@pytest.mark.parametrize("kind", ["char", "byte", "gpt2"])
def test_an_own_export_can_be_started_from(text_file, tmp_path, kind):
    list(prepare(textfile_recipe([text_file], name="text", tokenizer=kind)))
    shape = {"n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 70}
    begun("one", shape, dataset="text")
    loaded = runs.load_model("one")
    write_huggingface(loaded.model, loaded.tokenizer, tmp_path / "hf")
    config, _ = begun("two", {"init_from": f"hf:{tmp_path / 'hf'}"}, dataset="text")
    assert (config.model.block_size, config.model.vocab_size) == (70, loaded.tokenizer.vocab_size)


def test_weights_of_other_tokens_are_refused_with_a_way_that_exists(long, text_file, tmp_path):
    list(prepare(textfile_recipe([text_file], name="bytes", tokenizer="byte")))
    said = refusal({"init_from": long, "dataset": "bytes"})
    assert "its tokenizer, char, is not that of the data set bytes; a char tokenizer has the characters" in said
    loaded = runs.load_model(long)
    write_huggingface(loaded.model, loaded.tokenizer, tmp_path / "hf")
    assert "its tokenizer, char, is not that of" in refusal({"init_from": str(tmp_path / "hf"), "dataset": "bytes"})
    (tmp_path / "hf" / "tokenizer.json").unlink()  # as earlier versions wrote it
    assert "it has no tokenizer.json" in refusal({"init_from": str(tmp_path / "hf")})


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "[]", "{}", '{"model": 3, "added_tokens": []}'])
def test_a_damaged_tokenizer_of_such_a_folder_is_one_line(long, tmp_path, content):
    loaded = runs.load_model(long)
    write_huggingface(loaded.model, loaded.tokenizer, tmp_path / "hf")
    (tmp_path / "hf" / "tokenizer.json").write_text(content)
    assert main(["train", "--dataset=small", f"--init_from={tmp_path / 'hf'}"]) == 2


def test_a_shape_that_the_checkpoint_does_not_have_takes_no_memory(long, capsys):
    """A model of a million channels would take 48 TB."""
    path = expect(runs.Checkpoint, runs.best(runs.find(long))).path / "trainer.json"
    trainer = json.loads(path.read_text())
    trainer["model"] |= {"n_embd": 1_000_000, "n_head": 1}
    del trainer["sha256"]["trainer"]
    trainer["sha256"]["trainer"] = runs.checkpoints._fingerprint(trainer)
    path.write_text(json.dumps(trainer))
    assert main(["sample", long, "--device=cpu"]) == 2
    assert "does not fit this model" in capsys.readouterr().err
