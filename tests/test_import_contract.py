"""What import-linter (see pyproject.toml) cannot say of imports: when torch is loaded, which names are private."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nanogpt
from nanogpt.config import OPTIMIZER, names

ENGINE = Path(nanogpt.__file__).parent
APP = ENGINE.parent / "nanogpt_tui"

# Rooms that work with tensors throughout; the others import torch inside the functions that need it.
TORCH_ROOMS = {"models", "sampling", "training", "interop"}
# Of the other rooms, what an optimizer is built of, what runs a model to look inside it, what trains one in a lesson.
TORCH_FILES = {
    "optimizers/base.py",
    *(f"optimizers/{name}/optimizer.py" for name in names(OPTIMIZER)),
    *(f"inspection/{name}.py" for name in ("attention", "layers", "logit_lens", "token_losses")),
    *(f"learn/{name}.py" for name in ("private_random", "trainer")),
}

MODULES = sorted(path.relative_to(ENGINE) for path in ENGINE.rglob("*.py"))
LIGHT = [path for path in MODULES if path.parts[0] not in TORCH_ROOMS and path.as_posix() not in TORCH_FILES]


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
