"""Merging of defaults, a preset, a file and flags into one configuration, with the source of each value.

Files are TOML or JSON, flat or in the sections of `run.toml`; nothing in them is executed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nanogpt.config.components import KINDS, ArchitectureConfig, component, owners
from nanogpt.config.files import flatten, read_tables
from nanogpt.config.presets import load_preset
from nanogpt.config.settings import Config, SamplingConfig, chosen_components, merged, sampling_settings, settings
from nanogpt.errors import SettingError, nearest

FORMAT = 2  # of the tables that `config_to_toml` makes: since 2 they hold the settings of the chosen components alone


@dataclass(frozen=True, slots=True)
class Resolved:
    """A configuration, and the source of each setting's value ("default", "preset baby", a file, "flag")."""

    config: Config
    sources: dict[str, str]


def resolve(
    *,
    preset: str | None = None,
    file: str | Path | None = None,
    flags: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Resolved:
    """Return the merged configuration; later sources (preset, file, flags) win.

    defaults: values in place of the usual defaults, such as those of a run that is resumed. A file may name a preset
    (`preset = "baby"`); the argument wins over it. Raise `SettingError` for an unknown name or a bad value.
    """
    tables = read_tables(Path(file)) if file else {}
    from_file, run = flatten(tables), tables.get("run")
    if isinstance(run, dict) and run.get("format", 1) == 1:  # a run.toml of an earlier version
        from_file = drop_unchosen(from_file)
    preset = preset or from_file.pop("preset", None)
    for name in ("preset", "help"):  # a preset is such a file too
        from_file.pop(name, None)
    layers: list[tuple[str, Mapping[str, Any]]] = [("default", defaults or {})]
    if preset is not None:
        layers.append((f"preset {preset}", load_preset(str(preset)).values))
    layers += [(str(file), from_file), ("flag", flags or {})]
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, layer in layers:
        values = merged(values, layer)
        sources |= dict.fromkeys(layer, source)
    config = _build(values)
    return Resolved(config, {name: sources.get(name, "default") for name in config.settings()})


def with_settings(config: Config, values: Mapping[str, Any]) -> Config:
    """Return `config` with some settings changed, by name; each is parsed and checked, then all of them together.

    If a component (such as the optimizer) changes, settings that the old and the new one share keep their values. Raise
    `SettingError`.
    """
    return _build(merged(config.values(), values))


def _build(values: Mapping[str, Any]) -> Config:
    chosen = chosen_components(values)
    known = settings(chosen)
    sections: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        if name not in known:
            raise unknown_setting(name, known, chosen)
        if name not in chosen:
            sections.setdefault(known[name].section, {})[name] = known[name].parse(value)
    made: dict[str, Any] = {
        kind.section: component(kind, chosen[kind.name])(**sections.pop(kind.section, {})) for kind in KINDS
    }
    plain = replace(Config(), **made)
    return replace(plain, **{name: replace(getattr(plain, name), **inner) for name, inner in sections.items()})


def resolve_sampling(values: Mapping[str, Any], stop: Iterable[str] = ()) -> SamplingConfig:
    """Return the sampling knobs with some changed by name; values are parsed and checked like those of a run."""
    known = sampling_settings()
    for name in values:
        if name not in known:
            raise unknown_setting(name, known)
    return SamplingConfig(**{name: known[name].parse(value) for name, value in values.items()}, stop=tuple(stop))


def unknown_setting(name: str, known: Iterable[str], chosen: Mapping[str, str] | None = None) -> SettingError:
    """Return the error for a name that is no setting, or one of a component that was not chosen (`chosen`, by kind)."""
    if chosen is not None and (having := owners(name)):
        kind = having[0][0]
        others = " or ".join(one for _, one in having)
        advice = f"choose --{kind.name}={others}" if len(having) == 1 else f"choose one of these with --{kind.name}"
        return SettingError(
            name,
            f"{name} is a setting of the {kind.name} {others}, and this run has {kind.name}={chosen[kind.name]}: "
            f"leave it out, or {advice}",
        )
    return SettingError(name, f"no setting {name!r}.{nearest(name, list(known))} `nanogpt config` lists them all")


def to_flags(values: Mapping[str, Any]) -> list[str]:
    """Return the values of settings as options of `nanogpt train`."""
    return [f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in values.items()]


def config_to_toml(config: Config) -> dict[str, dict[str, Any]]:
    """Return the configuration as tables for a TOML writer; settings that are None are left out."""
    known, tables = config.settings(), dict[str, dict[str, Any]]()
    for name, value in config.values().items():
        if value is not None:
            tables.setdefault(known[name].section, {})[name] = value
    return tables


def config_from_toml(tables: Mapping[str, Any], format: int = FORMAT) -> Config:
    """Return the configuration of `config_to_toml`'s tables, in their format. Raise `SettingError`."""
    values = flatten(tables)
    return _build(values if format >= FORMAT else drop_unchosen(values))


def drop_unchosen(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values without settings of components that are not chosen: format 1 had those of all in every run."""
    known = settings(chosen_components(values))
    return {name: value for name, value in values.items() if name in known or not owners(name)}


def architecture_from(values: Mapping[str, Any]) -> ArchitectureConfig:
    """Return the architecture's configuration that `ArchitectureConfig.to_dict` wrote, or format 1 of it.

    Raise `SettingError`.
    """
    return _build(drop_unchosen(values)).model
