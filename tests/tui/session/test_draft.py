"""A run that is being thought up: what is wrong with it, before it is started."""

from pathlib import Path
from typing import Any

import pytest
import tomli_w

from nanogpt.config import ARCHITECTURE, config_to_toml, names, preset_names, resolve
from nanogpt_tui.screens.new_run.form_options import read_options
from nanogpt_tui.session.draft import SCRATCH, Base, Draft, as_text


def write_run(home: Path, name: str, **changes: Any) -> Path:
    """Write the run.toml of a run with some settings changed, and return its folder."""
    folder = home / "runs" / name
    folder.mkdir(parents=True)
    (folder / "run.toml").write_text(tomli_w.dumps(config_to_toml(resolve(flags=changes).config)))
    return folder


def test_a_context_longer_than_that_of_the_weights_is_marked_and_a_shorter_one_is_not(home: Path) -> None:
    write_run(home, "long", block_size=200)
    draft = Draft(start="weights long")
    assert draft.shown("block_size") == "200"
    draft.edit("block_size", "300")
    config, problems = draft.checked(None)
    assert config is None
    assert problems == {"block_size": "the weights know 200 positions, not more"}
    draft.edit("block_size", "64")
    config, problems = draft.checked(None)
    assert problems == {}
    assert config is not None
    assert config.model.block_size == 64


@pytest.mark.parametrize("preset", ["", *preset_names()])
def test_a_run_with_any_architecture_has_the_values_that_the_form_shows(preset: str) -> None:
    draft = Draft(preset=preset)
    for architecture in names(ARCHITECTURE):
        draft.edit("architecture", architecture)
        config, problems = draft.checked(None)
        assert problems == {}
        assert config is not None
        assert config.model.name == architecture
        assert {name: draft.shown(name) for name in config.values()} == {
            name: as_text(value) for name, value in config.values().items()
        }


def test_a_typed_value_counts_beside_those_that_were_replaced() -> None:
    draft = Draft(preset="gpt2-large")
    draft.edit("architecture", "wavenet")
    assert draft.shown("n_layer") == "4"  # not 36, of at most 30
    assert draft.shown("n_embd") == "1280"
    draft.edit("n_layer", "4")
    assert set(draft.changes()) == {"architecture"}
    draft.edit("n_layer", "8")
    draft.edit("n_embd", "64")
    config, problems = draft.checked(None)
    assert problems == {}
    assert config is not None
    assert (config.values()["n_layer"], config.values()["n_embd"]) == (8, 64)
    draft.edit("architecture", "gpt2")
    assert set(draft.changes()) == {"n_layer", "n_embd"}


def test_where_a_default_does_not_fit_either_all_values_are_replaced() -> None:
    draft = Draft()
    draft.choose(Base("", SCRATCH, resolve(flags={"n_embd": 15, "n_head": 5, "max_iters": 7}).config))
    draft.edit("architecture", "megabyte")  # whose n_embd is a multiple of n_head=5 and patch_size=4: 128 is none
    config, problems = draft.checked(None)
    assert problems == {}
    assert config is not None
    assert (config.model.name, config.schedule.max_iters) == ("megabyte", resolve().config.schedule.max_iters)


def test_more_processes_than_sequences_are_marked() -> None:
    draft = Draft()
    draft.edit("processes", "13")  # of 12 sequences
    config, problems = draft.checked(None)
    assert config is None
    assert "use at most 12" in problems["processes"]


@pytest.mark.parametrize(
    ("line", "start", "problem"),
    [
        ('init_from = "gpt2"', SCRATCH, "the preset has init_from=gpt2: use nanogpt train --preset=mine"),
        ("eval_only = true", SCRATCH, "the preset has eval_only=true: use nanogpt train --preset=mine"),
        ("eval_only = true", "weights old", "the preset has eval_only=true: use nanogpt train --preset=mine"),
        ('init_from = "gpt2"', "weights old", ""),  # which it replaces
    ],
)
def test_a_preset_with_a_start_of_its_own_is_not_shown_as_random_weights(
    home: Path, line: str, start: str, problem: str
) -> None:
    write_run(home, "old")
    (home / "config" / "presets").mkdir(parents=True)
    (home / "config" / "presets" / "mine.toml").write_text(f"{line}\n")
    config, problems = Draft(preset="mine", start=start).checked(None)
    assert problems == ({"start": problem} if problem else {})
    assert config is None or config.checkpoint.init_from == "old"


def test_weights_of_a_run_with_the_name_of_another_start_are_named_by_their_path(home: Path) -> None:
    run = write_run(home, "scratch", n_layer=3)
    config, problems = Draft(start="weights scratch").checked(None)
    assert problems == {}
    assert config is not None
    assert (config.checkpoint.init_from, config.values()["n_layer"]) == (str(run), 3)
    draft = Draft(name="resume")
    assert "cannot name a run" in draft.checked(None)[1]["name"]


def test_a_component_that_cannot_be_loaded_is_a_problem_of_the_draft(broken_architecture: str) -> None:
    draft = Draft()
    draft.edit("architecture", broken_architecture)
    assert draft.changes() == {"architecture": broken_architecture}  # what the form asks for, too
    config, problems = draft.checked(None)
    assert config is None
    assert "cannot be loaded" in problems["start"]
    draft.edit("architecture", "gpt2")
    assert draft.checked(None)[1] == {}


def test_a_complete_run_is_resumed_only_for_more_steps(two_runs: Path) -> None:
    draft = Draft(start="resume one")
    config, problems = draft.checked(None)
    assert config is None
    assert problems == {"max_iters": "the run is complete at step 60: a higher number continues it"}
    draft.edit("max_iters", "61")
    assert draft.checked(None)[1] == {}


def test_a_resumed_run_keeps_its_adapters(two_runs: Path) -> None:
    draft = Draft(start="resume one")
    draft.edit("lora_alpha", "8")
    draft.edit("max_iters", "61")
    assert draft.changes() == {"max_iters": "61"}
    assert draft.shown("lora_alpha") == "16"


def test_an_imported_run_is_not_resumed(two_runs: Path) -> None:
    file = two_runs / "one" / "run.toml"
    file.write_text(file.read_text().replace("[run]\n", '[run]\nimported_from = "/ckpt.pt"\n', 1))
    starts = dict(read_options(None).starts)
    assert {"weights one", "weights two", "resume two"} <= starts.keys()
    assert "resume one" not in starts
    assert "weights only" in Draft(start="resume one").checked(None)[1]["start"]


def test_a_context_that_cannot_be_shortened_is_decided_by_the_weights(home: Path) -> None:
    write_run(home, "windows", architecture="mlp", block_size=32)
    draft = Draft(start="weights windows")
    assert "block_size" in draft.fixed
    draft.edit("block_size", "16")
    assert (draft.shown("block_size"), draft.changes()) == ("32", {})
