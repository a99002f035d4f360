"""The user's settings of the app, in a TOML file."""

import dataclasses
import locale
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanogpt import paths
from nanogpt.errors import SettingError, UserError, nearest
from nanogpt.files import read_toml, why, write_atomically
from nanogpt.formatting import default_glyphs
from nanogpt.loss_units import UNITS, LossUnit

CHOICES: dict[str, tuple[str, ...]] = {
    "theme": ("dark", "light", "ansi"),
    "glyphs": ("braille", "block", "ascii"),
    "ssh_mode": ("auto", "on", "off"),
    "traffic": ("hidden", "shown"),
    "notifications": ("off", "bell", "osc9"),
    "loss_unit": UNITS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings with their defaults.

    `glyphs`: the characters of charts, by default what the terminal supports. `repaints_per_second`: the limit of the
    Train screen. `ssh_mode`: send less to the terminal; "auto" means over SSH. `traffic`: show the bytes per second to
    the terminal. `notifications`: report a run's end, a new best loss and problems. `loss_unit`: the unit of the losses
    in charts and figures. `keymap`: keys by binding id
    ("space,p"). `quickstart`: settings of the training run that differ in the quick start.
    """

    theme: str = "dark"
    glyphs: str = field(default_factory=lambda: default_glyphs(os.environ, locale.getpreferredencoding(False)))
    repaints_per_second: float = 2.0
    ssh_mode: str = "auto"
    traffic: str = "hidden"
    notifications: str = "off"
    loss_unit: LossUnit = "loss"
    keymap: dict[str, str] = field(default_factory=dict)
    quickstart: dict[str, Any] = field(default_factory=dict)

    @property
    def low_bandwidth(self) -> bool:
        """Whether to send less to the terminal."""
        return self.ssh_mode == "on" or (self.ssh_mode == "auto" and "SSH_CONNECTION" in os.environ)

    @property
    def repaint_rate(self) -> float:
        """The maximum number of repaints of the Train screen per second."""
        return min(self.repaints_per_second, 1.0) if self.low_bandwidth else self.repaints_per_second


def path() -> Path:
    """Return the path of the settings file."""
    return paths.config_dir() / "tui.toml"


def load() -> Settings:
    """Read the settings file; without one, return the defaults. Raise `UserError` if it is unreadable or invalid."""
    try:
        return with_changes(Settings(), read_toml(path()))
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        raise UserError(f"cannot read the settings {path()}: {why(error)}") from None
    except ValueError as error:
        raise UserError(f"cannot read the settings {path()}: {why(error)}; fix or remove the file") from None


def with_changes(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Return `settings` with some values replaced by name. Raise `SettingError` for an unknown name or a bad value."""
    known = [item.name for item in dataclasses.fields(Settings)]
    for name, value in changes.items():
        if name not in known:
            raise SettingError(name, f"{path().name}: no setting {name!r}.{nearest(name, known)}")
        if name in CHOICES and value not in CHOICES[name]:
            raise SettingError(name, f"{name}={value}: has to be one of {', '.join(CHOICES[name])}")
    rate = changes.get("repaints_per_second", 1)
    if not isinstance(rate, int | float) or not 0.1 <= rate <= 30:
        raise SettingError("repaints_per_second", f"repaints_per_second={rate}: has to be from 0.1 to 30")
    keymap = changes.get("keymap", {})
    if not isinstance(keymap, dict) or not all(isinstance(keys, str) for keys in keymap.values()):
        raise SettingError("keymap", 'keymap: has to be a table of texts, as in "train.save" = "w"')
    quickstart = changes.get("quickstart", {})
    if not isinstance(quickstart, dict):
        raise SettingError("quickstart", "quickstart: has to be a table of settings, as in max_iters = 500")
    if quickstart:
        from nanogpt.config import resolve

        try:
            resolve(preset="quickstart", flags=quickstart)
        except SettingError as error:
            raise SettingError("quickstart", f"quickstart: {error}") from None
    return dataclasses.replace(settings, **changes)


def save(settings: Settings, forget: Collection[str] = ()) -> None:
    """Write the settings that differ from the defaults, and those that are in the file already: the default of `glyphs`
    depends on the terminal. Of the latter, those in `forget` are removed. If the file is a link, write the file that it
    leads to. Raise `UserError` if the file cannot be written."""
    import tomli_w

    file, values, defaults = path(), dataclasses.asdict(settings), dataclasses.asdict(Settings())
    try:
        stored = read_toml(file)
    except (OSError, ValueError):
        stored = {}
    stays = stored.keys() - forget
    changed = {name: value for name, value in values.items() if name in stays or value != defaults[name]}
    try:
        with suppress(FileNotFoundError):
            file.stat()  # raises OSError for a loop of links, for which `resolve` does not in every Python
        target = file.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, tomli_w.dumps(changed))
    except OSError as error:
        raise UserError(f"cannot write the settings {file}: {why(error)}") from None
