"""What an earlier version wrote opens in this one: runs resume as they would have, data sets, texts and settings."""

import json
import shutil
from pathlib import Path

import pytest

from nanogpt import SamplingConfig, list_datasets, list_runs, load_model
from nanogpt.config import load_preset
from nanogpt.events import Finished, Step, Token
from nanogpt.runs import resume
from nanogpt.runs.folder import run_config
from nanogpt.sampling import generate
from nanogpt_tui import settings
from nanogpt_tui.session import completion_store

pytestmark = pytest.mark.slow

EARLIER = Path(__file__).parent / "fixtures" / "version-0.1"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A copy of what that version left."""
    shutil.copytree(EARLIER, tmp_path / "earlier")
    monkeypatch.setenv("NANOGPT_HOME", str(tmp_path / "earlier" / "home"))
    monkeypatch.setenv("NANOGPT_CONFIG_DIR", str(tmp_path / "earlier" / "config"))
    return tmp_path / "earlier" / "home"


def test_its_runs_and_data_sets_are_listed(home):
    assert {run.name: run.step for run in list_runs()} == {"gpt2": 20, "modern": 20}
    assert "verses" in {info.name for info in list_datasets() if info.prepared}
    assert load_preset("macbook").values["n_layer"] == 4


@pytest.mark.parametrize("name", ["gpt2", "modern"])
def test_its_run_goes_on_with_the_losses_that_it_would_have_had(home, name):
    """Bit for bit on the machine where it was made; other CPUs add up in another order, so up to rounding here."""
    events = list(resume(home / "runs" / name, {"max_iters": 40}))
    losses = [event.loss for event in events if isinstance(event, Step)]
    expected = json.loads((EARLIER / "losses_21_to_40.json").read_text())[name]
    assert losses == pytest.approx(expected, rel=1e-5)
    assert isinstance(events[-1], Finished)
    assert events[-1].step == 40
    assert run_config(home / "runs" / name).schedule.max_iters == 40


def test_its_settings_of_another_architecture_are_left_out(home):
    """Format 1 recorded `ngram`, which the modern architecture alone has, for every run."""
    assert "ngram" in (home / "runs" / "gpt2" / "run.toml").read_text()
    assert "ngram" not in run_config(home / "runs" / "gpt2").values()
    assert run_config(home / "runs" / "modern").values()["ngram"] == 2


@pytest.mark.parametrize(("name", "text"), [("gpt2", " " * 40), ("modern", "owlsingr" * 5)])
def test_its_models_write_what_they_wrote(home, name, text):
    loaded = load_model(name, device="cpu")
    knobs = SamplingConfig(temperature=0.0, max_new_tokens=40)
    events = generate(loaded.model, loaded.tokenizer, "the ", knobs)
    assert "".join(event.text for event in events if isinstance(event, Token)) == text


def test_its_texts_and_the_settings_of_its_app_are_read(home):
    (group,) = completion_store.load()
    assert (group[0].prompt, "".join(token.text for token in group[0].tokens)) == ("the ", "\naf\nl tsowku")
    assert (group[0].run, group[0].step, group[0].knobs.seed) == ("gpt2", 20, 3)
    found = settings.load()
    assert (found.theme, found.keymap, found.quickstart) == ("light", {"train.pause": "p"}, {"max_iters": 5})
