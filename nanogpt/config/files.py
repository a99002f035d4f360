"""Reading of settings from TOML and JSON files, as plain values; nothing in them is executed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanogpt.config.settings import settings
from nanogpt.errors import SettingError, UserError, nearest
from nanogpt.files import read_json, read_toml, why
from nanogpt.paths import expanded


def read_tables(path: Path) -> dict[str, Any]:
    """Return the content of a TOML or JSON file of settings. Raise `UserError` in one line for anything unreadable."""
    path = expanded(path)
    if path.suffix == ".py":
        raise UserError(f"{path}: a configuration is TOML or JSON, not Python code; rewrite it as TOML")
    try:
        tables: Any = read_json(path) if path.suffix == ".json" else read_toml(path)
    except FileNotFoundError:
        raise UserError(
            f"no configuration file {path}; presets are given by --preset=NAME, `nanogpt config --presets` lists them"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the configuration {path}: {why(error)}") from None
    if not isinstance(tables, dict):
        raise UserError(f"{path}: a configuration is a table of settings, not {type(tables).__name__}")
    return dict(tables)


def flatten(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without their sections. Raise `SettingError` for a section that no configuration has."""
    sections = {setting.section for setting in settings().values()}
    values: dict[str, Any] = {}
    for name, value in tables.items():
        if name == "run":
            continue  # versions and hardware in a run.toml
        if isinstance(value, dict) and name not in sections:
            raise SettingError(name, f"no section {name!r}.{nearest(name, list(sections))}")
        values |= value if isinstance(value, dict) else {name: value}
    return values
