"""`nanogpt push` and `nanogpt pull`, by the real client of the hub to a stand-in on this machine."""

import hashlib
import re
import shutil
import tomllib

import pytest
import tomli_w
from huggingface_hub import constants
from huggingface_hub.utils.tqdm import enable_progress_bars

from nanogpt import paths, runs
from nanogpt.cli import main
from nanogpt.config import resolve
from nanogpt.data import prepare, textfile_recipe
from nanogpt.events import Saved
from nanogpt.reports.publishing import repository_files
from nanogpt.runs import start
from nanogpt.runs.event_log import events_of
from nanogpt.runs.folder import read_run_toml
from tests.interop.hub_server import HubServer
from tests.narrowing import expect

SAMPLE = ["--start=a", "--temperature=0", "--max_new_tokens=20", "--device=cpu", "--dtype=float32"]


@pytest.fixture
def server(tmp_path, monkeypatch):
    with HubServer(tmp_path / "hub") as running:
        running.folder.mkdir()
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield running
    enable_progress_bars()


@pytest.fixture
def sent(small, server, capsys):
    """The folder that the hub has of a run, `one`, that was sent."""
    assert main(["train", *small, "--name=one", "--sample_start=a", "--keep_checkpoints=5"]) == 0
    assert main(["push", "one", "me/one", "--send"]) == 0
    capsys.readouterr()
    return server.folder / "me" / "one"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a repository, made once."""
    home = tmp_path_factory.mktemp("made")
    (home / "text.txt").write_text("To be, or not to be, that is the question.\n" * 20)
    for _ in prepare(textfile_recipe([home / "text.txt"], name="small"), data_dir=home / "data"):
        pass
    model = {
        "dataset": str(home / "data" / "small"),
        "n_layer": 1,
        "n_head": 2,
        "n_embd": 16,
        "block_size": 8,
        "sample_tokens": 5,
    }
    speed = {"max_iters": 1, "eval_iters": 1, "device": "cpu", "dtype": "float32", "compile": "false", "threads": 1}
    for _ in start(resolve(flags={**model, **speed}).config, home / "runs" / "one", data_dir=home / "data"):
        pass
    for name, content in repository_files(home / "runs" / "one", "me/one").items():
        path = home / "repository" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    return home / "repository"


@pytest.fixture
def repository(made, server):
    """The folder that the hub has of it, as `me/one`."""
    return shutil.copytree(made, server.folder / "me" / "one")


def test_a_dry_run_shows_files_and_card_and_sends_nothing(small, server, capsys):
    assert main(["train", *small, "--name=one", "--sample_start=a"]) == 0
    capsys.readouterr()
    assert main(["push", "one", "me/one", "--license=mit"]) == 0
    out, err = capsys.readouterr()
    assert server.names == []
    assert "dry run, nothing was sent" in err
    for words in ("model.safetensors", "run.toml", "license: mit", "nanogpt pull me/one", "| step | training loss |"):
        assert words in out, words


def test_a_run_that_was_sent_is_pulled_samples_the_same_text_and_is_a_start_for_another(small, sent, server, capsys):
    assert server.created[0]["private"] is True
    assert main(["pull", "me/one"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{paths.runs_dir() / 'one-2'}\n"
    assert "nanogpt train --init_from=one-2" in err
    texts = []
    for name in ("one", "one-2"):
        assert main(["sample", name, *SAMPLE]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    mine, theirs = runs.summary(runs.find("one")), runs.summary(runs.find("one-2"))
    assert (theirs.state, theirs.step, theirs.best_val_loss) == ("finished", mine.step, mine.best_val_loss)
    assert (theirs.host, theirs.pid, theirs.dataset) == ("", 0, mine.dataset)
    assert main(["push", "one-2", "me/two"]) == 0
    assert f"the data set `{mine.dataset}`" in capsys.readouterr().out
    assert main(["train", *small, "--name=tuned", "--init_from=one-2", "--max_iters=1"]) == 0
    assert main(["train", *small, "--init_from=resume", "--out_dir", str(runs.find("one-2"))]) == 2
    assert "was imported and has weights only" in capsys.readouterr().err


def test_adapters_are_sent_with_the_weights_that_they_belong_to(small, sent, capsys):
    assert main(["train", *small, "--name=tuned", "--init_from=one", "--lora_rank=2"]) == 0
    assert main(["push", "tuned", "me/tuned", "--send"]) == 0
    assert main(["pull", "me/tuned", "--name=pulled"]) == 0
    capsys.readouterr()
    texts = set()
    for name in ("tuned", "pulled"):
        assert main(["sample", name, *SAMPLE]) == 0
        texts.add(capsys.readouterr().out)
    assert len(texts) == 1


def test_sending_again_replaces_the_checkpoint(sent, server, capsys):
    assert main(["push", "one", "me/one", "--send", "--checkpoint=3", "--public"]) == 0
    assert [path.name for path in (sent / "checkpoints").glob("*/model.safetensors")] == ["model.safetensors"]
    assert (sent / "checkpoints" / "step-00000003" / "model.safetensors").is_file()
    assert server.created[-1]["private"] is False
    assert main(["pull", "me/one", "--name=third"]) == 0
    assert [checkpoint.step for checkpoint in runs.list_checkpoints(runs.find("third"))] == [3]


def test_no_text_of_the_data_no_path_and_no_host_is_sent(made):
    events = (made / "events.jsonl").read_text()
    assert set(re.findall(r'^\{"event":"(\w+)"', events, re.MULTILINE)) <= {
        "Started", "Step", "Evaluated", "LayerHealth", "LayerProblem", "Health", "Sampled", "Saved", "Finished",
    }  # fmt: skip
    for path in made.rglob("*"):
        assert path.is_dir() or not re.search(str(made.parent).encode(), path.read_bytes()), path


@pytest.fixture
def source(made, tmp_path):
    """A copy of the run that it was made from."""
    return shutil.copytree(made.parent / "runs" / "one", tmp_path / "one")


def test_a_source_on_the_hub_is_named_and_a_folder_of_this_machine_is_not(source):
    tables = read_run_toml(source)
    for init_from, sent, imported_from, sent_too in (
        ("hf:roneneldan/TinyStories-33M", "hf:roneneldan/TinyStories-33M", "the hub's me/first", "the hub's me/first"),
        ("hf:/home/x/model", "model", "/home/x/ckpt.pt", "ckpt.pt"),
        (str(source.with_name("old")), "old", "the hub's me/first", "the hub's me/first"),
        ("gpt2", "gpt2", "~/ckpt.pt", "ckpt.pt"),
    ):
        tables["checkpoint"]["init_from"], tables["run"]["imported_from"] = init_from, imported_from
        (source / "run.toml").write_text(tomli_w.dumps(tables))
        files = {name: content for name, content in repository_files(source, "me/one").items() if name != "SHA256SUMS"}
        written = tomllib.loads(expect(bytes, files["run.toml"]).decode())
        assert (written["checkpoint"]["init_from"], written["run"]["imported_from"]) == (sent, sent_too)
        card = expect(bytes, files["README.md"]).decode()
        assert f"It started from the weights of `{sent}`." in card
        assert f"| `init_from` | `{sent}` |" in card


def test_a_checkpoint_that_was_being_replaced_when_the_trainer_was_killed_is_sent(made, source):
    (saved,) = (source / "checkpoints").glob("step-*")
    saved.rename(saved.with_suffix(".replaced"))
    assert set(repository_files(source, "me/one")) == {
        path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("run.toml", "run.toml is not the file that was sent"),
        ("checkpoints/step-00000001/model.safetensors", "model.safetensors is not the file that was sent"),
        ("SHA256SUMS", "does not list one checkpoint"),
    ],
)
def test_a_file_that_is_not_the_one_that_was_sent_is_refused_and_nothing_is_kept(repository, capsys, file, problem):
    path = repository / file
    path.write_bytes(path.read_bytes()[:-70])
    assert main(["pull", "me/one"]) == 2
    assert problem in capsys.readouterr().err.splitlines()[-1]  # after the bars of the client
    assert not paths.runs_dir().exists()


def test_files_outside_of_a_run_and_pickles_are_not_taken(repository, server):
    for name in ("evil.pkl", "checkpoints/step-00000001/optimizer.bin"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_bytes(b"a pickle")
    evil = hashlib.sha256(b"").hexdigest()
    (repository / "SHA256SUMS").write_text(
        (repository / "SHA256SUMS").read_text() + f"{evil}  ../../out.toml\n{evil}  evil.pkl\n"
    )
    assert main(["pull", "me/one", "--name=pulled"]) == 0
    names = {path.name for path in runs.find("pulled").rglob("*") if path.is_file()}
    assert names <= {"run.toml", "tokenizer.json", "events.jsonl", "status.json", "model.safetensors", "trainer.json"}
    assert not [name for name in server.names if name.endswith((".pkl", ".bin"))]


def test_a_repository_of_another_kind_and_a_bad_name_are_one_line(repository, server, capsys):
    shutil.rmtree(repository)
    (repository / "config.json").parent.mkdir()
    (repository / "config.json").write_text("{}")
    for words, problem in (
        (["pull", "me/one"], "it has no SHA256SUMS; `nanogpt import hf me/one`"),
        (["pull", "me/none"], "the hub has no model me/none"),
        (["pull", "one"], "give OWNER/NAME"),
        (["push", "none", "one"], "give OWNER/NAME"),
        (["push", "none", "me/one", "--license=My own"], "--license='My own'"),
        (["push", "none", "me/one"], "no run 'none'"),
    ):
        assert main(words) == 2
        assert problem in capsys.readouterr().err.splitlines()[-1]


def test_the_checkpoint_that_was_sent_is_in_the_record_of_a_pulled_run(sent, capsys):
    assert main(["pull", "me/one", "--name=two"]) == 0
    folder = runs.find("two")
    (kept,) = runs.list_checkpoints(folder)
    saved = events_of(folder, Saved)
    assert [(event.step, folder / event.path) for event in saved] == [(kept.step, kept.path)]
    assert runs.summary(folder).state == "finished"
