"""`nanogpt config`: show each setting and where its value comes from. Imports no torch."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence

from nanogpt import tokenizers
from nanogpt.cli.settings import add_settings, configured_new_run
from nanogpt.cli.tables import print_table
from nanogpt.config import KINDS, Resolved, component, config_to_toml, load_preset, names, preset_names
from nanogpt.data import sources
from nanogpt.errors import UserError

DESCRIPTION = """Show the settings that `nanogpt train` with the same ones gives a new run, with the source of each."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="value, source, default and bounds of each, as JSON")
    parser.add_argument("--toml", action="store_true", help="as a file that `nanogpt train FILE` takes")
    parser.add_argument("--presets", action="store_true", help="list the presets instead")
    parser.add_argument("--components", action="store_true", help="list all architectures, optimizers … instead")
    add_settings(parser)


def run(args: argparse.Namespace) -> int:
    if args.presets:
        presets = [(name, _about(name)) for name in preset_names()]
        _print_list(("preset", "help"), presets, args.json)
        return 0
    if args.components:
        _print_list(("kind", "name", "summary"), _components(), args.json)
        return 0
    resolved = with_weights(configured_new_run(args))
    values, known = resolved.config.values(), resolved.config.settings()
    if args.toml:
        import tomli_w

        print(tomli_w.dumps(config_to_toml(resolved.config)), end="")
    elif args.json:
        shown = {
            name: {
                "value": values[name],
                "source": resolved.sources[name],
                "default": setting.default,
                "section": setting.section,
                "bounds": setting.bounds,
                "help": setting.help,
            }
            for name, setting in known.items()
        }
        print(json.dumps(shown, indent=1))
    else:
        rows = [("setting", "value", "from", "meaning")]
        rows += [(name, _shown(values[name]), resolved.sources[name], known[name].help) for name in values]
        print_table(rows)
    return 0


def _print_list(columns: Sequence[str], rows: Iterable[tuple[str, ...]], as_json: bool) -> None:
    """Print a table without a head, or a list of JSON objects."""
    if as_json:
        print(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=1))
    else:
        print_table(rows)


def with_weights(resolved: Resolved) -> Resolved:
    """Return the settings with the shape of the weights that `init_from` names, unless they would be downloaded."""
    source = resolved.config.checkpoint.init_from
    if source == "scratch":
        return resolved
    from nanogpt.runs.weights import is_on_hub, with_shape_of_weights

    if is_on_hub(source):
        return resolved
    config = with_shape_of_weights(resolved.config, resolved.sources)
    before = resolved.config.values()
    changed = {name: source for name, value in config.values().items() if value != before.get(name)}
    return Resolved(config, resolved.sources | changed)


def _about(preset: str) -> str:
    """Return what a preset is for, or why it cannot be used."""
    try:
        return load_preset(preset).help
    except UserError as error:
        return str(error)


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else repr(value) if value == "" else str(value)


def _components() -> Iterator[tuple[str, str, str]]:
    """Yield kind, name and summary of each component: the settings' own, then what `nanogpt prepare` chooses from."""
    for kind in KINDS:
        for name in names(kind):
            yield kind.name, name, _first_line(component(kind, name).__doc__)
    for name in tokenizers.names():
        yield "tokenizer", name, _first_line(sys.modules[tokenizers.tokenizer_class(name).__module__].__doc__)
    for name in sources.names():
        yield "source", name, _first_line(sys.modules[sources.source_class(name).__module__].__doc__)


def _first_line(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0]
