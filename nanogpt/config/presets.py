"""Presets: named sets of settings. Each is a file `<name>.toml` of settings with a line of `help`.

Some come with the program. A user's own are in `presets/` of the configuration folder, and take precedence over one of
the same name that comes with the program. A preset may build on another: `preset = "gpt2"`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanogpt import paths
from nanogpt.config.files import flatten, read_tables
from nanogpt.config.settings import merged
from nanogpt.errors import SettingError, UserError, nearest


@dataclass(frozen=True, slots=True)
class Preset:
    """`values` are settings by name, as the file and the presets that it builds on have them."""

    help: str
    values: Mapping[str, Any]


def preset_paths() -> dict[str, Path]:
    """Return each preset's name and file, sorted by name."""
    return paths.toml_files("presets")


def preset_names() -> tuple[str, ...]:
    """Return the names of the presets, sorted."""
    return tuple(preset_paths())


def load_preset(name: str, _below: tuple[str, ...] = ()) -> Preset:
    """Return a preset by name. Raise `SettingError` for an unknown name, `UserError` for a file that cannot be used."""
    known = preset_paths()
    if name not in known:
        raise SettingError(
            "preset", f"no preset {name!r}; known presets: {', '.join(known)}.{nearest(name, list(known))}"
        )
    values = flatten(read_tables(known[name]))
    help, base = values.pop("help", ""), values.pop("preset", None)
    if not isinstance(help, str):
        raise UserError(f"{known[name]}: help must be a text, not {help!r}")
    if base is None:
        return Preset(help, values)
    if base in (*_below, name):
        raise UserError(f"{known[name]}: the preset {base!r} builds on itself")
    return Preset(help, merged(load_preset(str(base), (*_below, name)).values, values))
