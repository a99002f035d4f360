"""A run that is being thought up: what is wrong with it, before it is started."""

from pathlib import Path

import tomli_w

from nanogpt.config import config_to_toml, resolve
from nanogpt_tui.session.draft import Draft


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


def test_more_processes_than_sequences_are_marked() -> None:
    draft = Draft()
    draft.edit("processes", "13")  # of 12 sequences
    config, problems = draft.checked(None)
    assert config is None
    assert "use at most 12" in problems["processes"]
