"""A run that is being thought up: what is wrong with it, before it is started."""

from pathlib import Path

import pytest
import tomli_w

from nanogpt.config import ARCHITECTURE, config_to_toml, names, preset_names, resolve
from nanogpt_tui.session.draft import SCRATCH, Base, Draft, as_text


def test_a_context_longer_than_that_of_the_weights_is_marked_and_a_shorter_one_is_not(home: Path) -> None:
    folder = home / "runs" / "long"
    folder.mkdir(parents=True)
    (folder / "run.toml").write_text(tomli_w.dumps(config_to_toml(resolve(flags={"block_size": 200}).config)))
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
