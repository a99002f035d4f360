"""Presets: named sets of settings. Each is a file `<name>.toml` of settings with a line of `help`.

Some come with the program. A user's own are in `presets/` of the configuration folder, and take precedence over one of
the same name that comes with the program. A preset may build on another: `preset = "gpt2"`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanogpt import paths
from nanogpt.config.files import read_settings
from nanogpt.errors import SettingError, UserError, nearest


@dataclass(frozen=True, slots=True)
class Preset:
    """`values` are settings by name, as the file has them."""

    help: str
    values: Mapping[str, Any]


def shipped_folder() -> Path:
    """Return the folder of the presets that come with the program.

    It is beside the package in a source checkout, and inside it once installed.
    """
    package = Path(__file__).parents[1]
    installed = package / "_presets"
    return installed if installed.is_dir() else package.parent / "presets"


def preset_paths() -> dict[str, Path]:
    """Return each preset's name and file, sorted by name."""
    found: dict[str, Path] = {}
    for folder in (shipped_folder(), paths.config_dir() / "presets"):
        found |= {path.stem: path for path in folder.glob("*.toml")}
    return dict(sorted(found.items()))


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
    values = read_settings(known[name])
    help, base = values.pop("help", ""), values.pop("preset", None)
    if not isinstance(help, str):
        raise UserError(f"{known[name]}: help must be a text, not {help!r}")
    if base is None:
        return Preset(help, values)
    if base in (*_below, name):
        raise UserError(f"{known[name]}: the preset {base!r} builds on itself")
    return Preset(help, {**load_preset(str(base), (*_below, name)).values, **values})
