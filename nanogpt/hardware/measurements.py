"""Figures that were measured on this machine, as JSON files in the cache folder, which may be removed at any time."""

import json
from contextlib import suppress

from nanogpt import paths
from nanogpt.files import read_json, write_atomically

MOST = 200  # figures in a file


def read_measurements(name: str) -> dict[str, float]:
    """Return the figures by key, all positive; none if the file is missing or damaged."""
    try:
        stored = read_json(paths.cache_dir() / name)
    except (OSError, ValueError):
        return {}
    entries = stored.items() if isinstance(stored, dict) else ()
    return {key: float(value) for key, value in entries if isinstance(value, int | float) and 0 < value < 1e18}


def write_measurement(name: str, key: str, value: float) -> None:
    """Add or replace a figure. If the file cannot be written, the next program measures again."""
    known = read_measurements(name)
    known.pop(key, None)
    known[key] = value  # the newest is the last
    folder = paths.cache_dir()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / name, json.dumps(dict(list(known.items())[-MOST:]), indent=1), durable=False)
