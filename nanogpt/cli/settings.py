"""Options for all settings of a run, and the configuration that they result in."""

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

from nanogpt.config import (
    KINDS,
    Resolved,
    Setting,
    component_settings,
    every_setting,
    loadable_names,
    preset_names,
    resolve,
    sampling_settings,
    settings,
)
from nanogpt.errors import SettingError


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add FILE, `--preset`, and an option for each setting.

    First the settings of the default components, grouped as in run.toml, then those that each other component adds.
    """
    parser.add_argument("file", nargs="?", metavar="FILE", help="settings from a TOML or JSON file")
    parser.add_argument("--preset", help=f"a starting point: {', '.join(preset_names())}")
    groups: dict[str, list[Setting]] = {}
    common = settings()
    for setting in common.values():
        groups.setdefault(setting.section, []).append(setting)
    added = set(common)
    for kind in KINDS:
        for name in loadable_names(kind):
            own = [one for one in component_settings(kind, name).values() if one.name not in added]
            groups[f"{kind.name} {name}"] = own
            added |= {one.name for one in own}
    for title, members in groups.items():
        if members:
            _add_group(parser, title, members)


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add `--weights`."""
    parser.add_argument(
        "--weights",
        choices=("auto", "ema", "raw"),
        default="auto",
        help="averaged weights (ema) or the last step's (raw) of a run with ema_decay; auto: those with the lower "
        "validation loss (default: auto)",
    )


def add_knobs(parser: argparse.ArgumentParser) -> None:
    """Add an option for each sampling setting, and `--stop`."""
    _add_group(parser, "sampling", sampling_settings().values())
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="string that ends a sample (repeatable)"
    )


def _add_group(parser: argparse.ArgumentParser, title: str, members: Iterable[Setting]) -> None:
    group = parser.add_argument_group(title)
    for setting in members:
        bounds = f"; {setting.bounds}" if setting.bounds and not setting.choices else ""
        default = (
            "" if setting.default is None or setting.default == "" else f" (default: {_shown(setting.default)}{bounds})"
        )
        metavar = "|".join(setting.choices) if setting.choices else setting.value_type.__name__.upper()
        flag: dict[str, Any] = (
            {"nargs": "?", "const": "true"}
            if "true" in (*setting.choices, _shown(setting.default)) or (setting.value_type is bool)
            else {}
        )
        group.add_argument(
            f"--{setting.name}", metavar=metavar, help=(setting.help + default).replace("%", "%%"), **flag
        )


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def typed(args: argparse.Namespace, known: Mapping[str, Setting]) -> dict[str, str]:
    """Return the settings that were given as options."""
    return {name: value for name in known if (value := getattr(args, name)) is not None}


def configured(args: argparse.Namespace, defaults: Mapping[str, Any] | None = None) -> Resolved:
    """Return the configuration from preset, file and options, as `resolve` does. Raise `SettingError`."""
    return resolve(preset=args.preset, file=args.file, flags=typed(args, every_setting()), defaults=defaults)


def configured_new_run(args: argparse.Namespace) -> Resolved:
    """Return the configuration of a new run. Raise `SettingError`, also if it would resume another one."""
    resolved = configured(args)
    if resolved.config.checkpoint.init_from == "resume":
        raise SettingError(
            "init_from",
            "init_from=resume takes the settings of a run: `nanogpt info RUN` shows them",
        )
    return resolved
