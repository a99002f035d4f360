"""Who may import whom: the engine's rooms import in one direction, and the light commands load no torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nanogpt

ENGINE = Path(nanogpt.__file__).parent
APP = ENGINE.parent / "nanogpt_tui"

# What each room may import of the others. A room that is not here fails the test: give it its place first.
# "" is nanogpt/__init__.py itself, which holds the version and loads all else on use.
LEAVES = {"", "errors", "events", "files", "lazy", "paths", "registry", "words"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "events": {"errors"},
    "files": set(),
    "lazy": set(),
    "paths": {"errors"},
    "registry": {"errors"},
    "words": set(),
    "hardware": {"errors", "files", "paths"},
    "config": LEAVES,
    "tokenizers": LEAVES | {"config"},
    "data": LEAVES | {"config", "tokenizers"},
    "models": LEAVES | {"config"},
    "inspection": LEAVES | {"config", "models"},
    "optimizers": LEAVES | {"config", "models"},
    "schedules": LEAVES | {"config"},
    "sampling": LEAVES | {"config", "tokenizers", "models", "hardware"},
    "training": LEAVES | {"config", "tokenizers", "data", "models", "optimizers", "inspection", "hardware"},
    "interop": LEAVES | {"config", "tokenizers", "data", "models", "inspection", "hardware"},
    "runs": LEAVES
    | {"config", "tokenizers", "data", "models", "inspection", "hardware", "sampling", "training", "interop"},
}
ALLOWED["cli"] = LEAVES | (ALLOWED.keys() - {"cli"})
ALLOWED["__main__"] = {"cli"}

# Rooms that work with tensors throughout; the others import torch inside the functions that need it.
TORCH_ROOMS = {"models", "sampling", "training", "interop"}
# Of the other rooms, what an optimizer is built of.
TORCH_FILES = {"optimizers/base.py", "optimizers/adamw/optimizer.py", "optimizers/muon/optimizer.py"}

MODULES = sorted(path.relative_to(ENGINE) for path in ENGINE.rglob("*.py"))
LIGHT = [path for path in MODULES if path.parts[0] not in TORCH_ROOMS and path.as_posix() not in TORCH_FILES]


def room_of(module: Path) -> str:
    """`data/prepare.py` is in the room `data`, `errors.py` is the room `errors`, `__init__.py` is ``."""
    return module.parts[0].removesuffix(".py").replace("__init__", "")


def imports(tree: ast.AST, at_import_time: bool = False) -> Iterator[str]:
    """Every module that is imported, as a dotted name, with each name of a `from … import`, but for types alone
    (`if TYPE_CHECKING`); `at_import_time` also leaves out what is inside functions."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                assert level == 0, "imports are written in full here"
                yield from (f"{module}.{name.name}" for name in names)
            case ast.FunctionDef() | ast.AsyncFunctionDef() if at_import_time:
                pass
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=orelse):
                for statement in orelse:
                    yield from imports(statement, at_import_time)
            case _:
                yield from imports(node, at_import_time)


def parsed(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"))


def target_room(name: str) -> str:
    """The room that `nanogpt.<…>` is in; "" for a name that nanogpt itself exports."""
    part = name.split(".")[1]
    return part if (ENGINE / part).is_dir() or (ENGINE / f"{part}.py").is_file() else ""


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_room_imports_only_the_rooms_before_it(module: Path) -> None:
    room = room_of(module)
    if room == "":  # its exports are lazy: see the test of the light commands
        used = {name for name in imports(parsed(ENGINE / module), True) if name.startswith("nanogpt")}
        assert used == {"nanogpt.lazy.exports"}
        return
    assert room in ALLOWED, f"nanogpt/{module}: the room {room} has no place in ALLOWED yet"
    used = {target_room(name) for name in imports(parsed(ENGINE / module)) if name.startswith("nanogpt.")}
    assert used <= ALLOWED[room] | {room}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_the_engine_knows_no_screen(module: Path) -> None:
    used = {name.split(".")[0] for name in imports(parsed(ENGINE / module))}
    assert not used & {"textual", "nanogpt_tui"}


@pytest.mark.parametrize("module", LIGHT, ids=str)
def test_only_the_tensor_rooms_import_torch_when_they_are_imported(module: Path) -> None:
    assert not [name for name in imports(parsed(ENGINE / module), at_import_time=True) if name.split(".")[0] == "torch"]


def test_the_settings_of_a_component_need_no_torch() -> None:
    script = "import sys; from nanogpt.config import every_setting; every_setting(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"


def test_the_app_uses_public_names_of_the_engine_only() -> None:
    used = [name for path in APP.rglob("*.py") for name in imports(parsed(path)) if name.startswith("nanogpt.")]
    assert not [
        name for name in used if any(part.startswith("_") and part != "__version__" for part in name.split("."))
    ]


def test_the_app_does_not_go_through_the_command() -> None:
    used = [name for path in APP.rglob("*.py") for name in imports(parsed(path))]
    assert not [name for name in used if name.startswith("nanogpt.cli")]


def test_every_name_that_the_package_offers_is_there() -> None:
    for name in nanogpt._HOME:
        assert getattr(nanogpt, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'traim'"):
        nanogpt.traim  # noqa: B018


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "--version",
        "datasets",
        "runs",
        "config",
        "train --help",
        "sample --help",
        "watch --help",
        "ctl --help",
        "doctor --help",
    ],
)
def test_a_light_command_loads_no_torch(words: str) -> None:
    script = (
        "import sys; from nanogpt.cli import main; code = main(sys.argv[1:]);"
        "print('\\nloaded', sorted({'torch', 'textual', 'transformers'} & set(sys.modules))); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script, *words.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded []"
