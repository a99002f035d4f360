"""The quick start: from nothing to a model that learns while one watches, without a question. Knows no screen."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanogpt.config import Config, resolve, with_settings
from nanogpt.errors import UserError
from nanogpt.events import Event, Notice

if TYPE_CHECKING:
    from nanogpt.training import Mailbox

PREFERRED, OFFLINE = "shakespeare_char", "python_stdlib"


def configuration(changes: Mapping[str, Any]) -> Config:
    """What the quick start trains, with some settings changed by name. Raises `SettingError`."""
    watched = {"eval_interval": 250, "sample_interval": 250, "sample_tokens": 200}
    return resolve(preset="quickstart", flags={"dataset": PREFERRED} | watched | dict(changes)).config


def train(config: Config, folder: Path, mailbox: "Mailbox") -> Iterator[Event]:
    """Prepares the data set and trains. Where tiny Shakespeare cannot be fetched, it says so and takes Python's own
    standard library, which is on every machine."""
    from nanogpt import data, runs

    if config.data.dataset == PREFERRED and not data.is_prepared(PREFERRED):
        try:
            yield from data.prepare(PREFERRED)
        except UserError as error:
            yield Notice(level="warning", text=f"{error}; so this trains on {OFFLINE} instead")
            config = with_settings(config, {"dataset": OFFLINE})
    yield from runs.start(config, folder, mailbox=mailbox)
