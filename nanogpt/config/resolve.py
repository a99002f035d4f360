"""One configuration out of many places: defaults, a preset, a file, flags; and where each value came from.

Files are TOML or JSON, flat or in the sections of `run.toml`. Nothing that is read is ever executed.
"""

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

from nanogpt.config.presets import PRESETS
from nanogpt.config.settings import Config, SamplingConfig, sampling_settings, settings
from nanogpt.errors import SettingError, UserError, nearest


@dataclass(frozen=True, slots=True)
class Resolved:
    """A configuration, and for each setting where its value came from ("default", "preset baby", a file, "flag")."""

    config: Config
    sources: dict[str, str]


def resolve(
    *, preset: str | None = None, file: str | Path | None = None, flags: Mapping[str, Any] | None = None
) -> Resolved:
    """Merges the places, the later ones over the earlier. Raises `SettingError` for an unknown name or a bad value.

    A file may name its preset (`preset = "baby"`); a preset given beside it wins.
    """
    from_file = read_settings(Path(file)) if file else {}
    preset = preset or from_file.pop("preset", None)
    from_file.pop("preset", None)
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if preset is not None:
        if str(preset) not in PRESETS:
            raise SettingError(
                "preset", f"no preset {preset!r}: there are {', '.join(PRESETS)}.{nearest(str(preset), list(PRESETS))}"
            )
        layers.append((f"preset {preset}", PRESETS[preset].values))
    layers += [(str(file), from_file), ("flag", flags or {})]
    config = Config()
    sources = dict.fromkeys(settings(), "default")
    merged: dict[str, Any] = {}
    for source, values in layers:
        merged |= values
        sources |= dict.fromkeys(values, source)
    config = with_settings(config, merged)
    return Resolved(config, sources)


def with_settings(config: Config, values: Mapping[str, Any]) -> Config:
    """`config` with some settings changed, by name; each is parsed and checked, then all of them together."""
    known = settings()
    sections: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        if name not in known:
            raise unknown_setting(name, known)
        sections.setdefault(known[name].section, {})[name] = known[name].parse(value)
    return replaced(config, **{name: replaced(getattr(config, name), **inner) for name, inner in sections.items()})


def resolve_sampling(values: Mapping[str, Any], stop: Iterable[str] = ()) -> SamplingConfig:
    """The sampling knobs with some changed by name; values are parsed and checked like those of a run."""
    known = sampling_settings()
    for name in values:
        if name not in known:
            raise unknown_setting(name, known)
    return SamplingConfig(**{name: known[name].parse(value) for name, value in values.items()}, stop=tuple(stop))


def unknown_setting(name: str, known: Iterable[str]) -> SettingError:
    return SettingError(name, f"no setting {name!r}.{nearest(name, list(known))} `nanogpt config` lists them all")


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a TOML or JSON file, flattened. Raises `UserError` in one line for anything unreadable."""
    if path.suffix == ".py":
        raise UserError(f"{path}: a configuration is TOML or JSON, never Python code; rewrite it as TOML")
    try:
        text = path.read_text(encoding="utf-8")
        parsed = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError:
        raise UserError(f"no configuration file {path}; presets are given by --preset={'|'.join(PRESETS)}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read the configuration {path}: {error}") from None
    if not isinstance(parsed, dict):
        raise UserError(f"{path}: a configuration is a table of settings, not {type(parsed).__name__}")
    return _flat(parsed)


def _flat(tables: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without their sections; a section that is not one of a configuration is an unknown name too."""
    sections = {setting.section for setting in settings().values()}
    flat: dict[str, Any] = {}
    for name, value in tables.items():
        if name == "run":
            continue  # a run.toml's own record of versions and hardware
        if isinstance(value, dict) and name not in sections:
            raise SettingError(name, f"no section {name!r}.{nearest(name, list(sections))}")
        flat |= value if isinstance(value, dict) else {name: value}
    return flat


def config_to_toml(config: Config) -> dict[str, dict[str, Any]]:
    """The configuration as tables for a TOML writer; settings that are None are left out, which means the same."""
    tables: dict[str, dict[str, Any]] = {}
    for name, value in config.values().items():
        if value is not None:
            tables.setdefault(settings()[name].section, {})[name] = value
    return tables


def config_from_toml(tables: Mapping[str, Any]) -> Config:
    """The inverse of `config_to_toml`. Raises `SettingError`."""
    return with_settings(Config(), _flat(tables))
