"""Runs that were recorded without a training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from nanogpt import paths
from nanogpt.config import FORMAT, config_to_toml, resolve
from nanogpt.events import Event
from nanogpt.runs.recorder import Recorder


@pytest.fixture
def recorded() -> Callable[..., Path]:
    """Writes the folder of a run with these events and settings; returns it."""

    def recorded(*events: Event, name: str = "first", facts: dict[str, Any] | None = None, **settings: Any) -> Path:
        run = paths.runs_dir() / name
        run.mkdir(parents=True)
        tables = config_to_toml(resolve(flags={"vocab_size": 5, **settings}).config)
        about = {"format": FORMAT, "name": name, "created": "2026-01-02T03:04:05+0000", **(facts or {})}
        (run / "run.toml").write_text(tomli_w.dumps({"run": about, **tables}), encoding="utf-8")
        (run / "tokenizer.json").write_text(json.dumps({}), encoding="utf-8")
        for _ in Recorder(run, "run.toml", dataset="small").record(event for event in events):
            pass
        return run

    return recorded
