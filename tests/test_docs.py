"""What the documents say of the code is true: files and names exist, links lead somewhere, figures are the model's."""

import ast
import re
from pathlib import Path

import pytest
import torch

from nanogpt import data, runs, sampling
from nanogpt.config import Config, preset_names, resolve
from nanogpt.events import KINDS
from nanogpt.models.layers.transformer_config import TransformerConfig
from tests.narrowing import expect

ROOT = Path(__file__).parents[1]
ARCHITECTURE = ROOT / "docs" / "ARCHITECTURE.md"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

# `nanogpt/models/gpt2.py:Model.forward`, `nanogpt/models/`, but no part of a longer path or of an address
PLACE = re.compile(
    r"(?<![\w./~-])((?:nanogpt|nanogpt_tui|tests|benchmarks|docs|datasets)/(?:[\w-]+/)*(?:[\w-]+\.[a-z]+)?)(?::([A-Za-z_][\w.]*))?"
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# an equation of plain whole numbers: 4 · (12 · 128² + 2 · 128) = 787,456
EQUATION = re.compile(r"(?:^|\s{2})([\d,.·+−()² ]*\d[)²]*)\s+=\s+([\d,]+)(?: bytes)?$", re.MULTILINE)
TABLE_ROW = re.compile(r"^\| `([\w-]+)` \| ([\d,]+) \| ([\d,/ ]+) \| ([\d,]+) \| ([\d,]+) \|$", re.MULTILINE)


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def names_in(module: Path) -> set[str]:
    """What a module defines: functions, classes, their methods as `Class.method`, and top-level variables."""
    found = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name, body=body):
                methods = [inner for inner in body if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)]
                found |= {name} | {f"{name}.{method.name}" for method in methods}
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    return found


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    prose = re.sub(r"^```.*?^```$", "", read(page), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ +(.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]|[¹²³]", "", heading.lower()).replace(" ", "-") for heading in headings}


def value(expression: str) -> int:
    """Of whole numbers with ·, +, −, ² and parentheses."""
    plain = expression.replace(",", "").replace("·", "*").replace("−", "-").replace("²", "**2")
    assert re.fullmatch(r"[\d*+() -]+", plain)
    return int(eval(plain, {"__builtins__": {}}))


def number(text: str) -> int:
    return int(text.replace(",", ""))


def shape_of(preset: str, **changes: object) -> Config:
    return resolve(preset=preset, flags=changes).config


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_place_that_a_page_names_is_there(page):
    for path, name in PLACE.findall(read(page)):
        assert (ROOT / path).exists(), path
        assert not name or name in names_in(ROOT / path), f"{path}:{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_project_leads_somewhere(page):
    for link in LINK.findall(read(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_the_architecture_names_places_in_every_room():
    rooms = {path.split("/")[1] for path, _ in PLACE.findall(read(ARCHITECTURE))}
    there = {room.name for room in (ROOT / "nanogpt").iterdir() if (room / "__init__.py").exists()}
    assert there <= rooms


def test_the_long_work_and_its_events_have_the_names_of_the_code():
    lines = re.findall(r"^for event in .*(?:\n {20}.*)*", read(ARCHITECTURE), re.MULTILINE)
    assert len(lines) >= 7
    for line in lines:
        name = expect(re.Match, re.match(r"for event in (\w+)\(", line))[1]
        assert any(hasattr(package, name) for package in (data, runs, sampling)), name
        assert set(re.findall(r"\b[A-Z]\w+", line)) <= KINDS.keys()


def test_what_is_worked_out_in_numbers_is_right():
    equations = EQUATION.findall(read(ARCHITECTURE))
    assert len(equations) >= 20, "the pattern finds the equations"
    for expression, result in equations:
        assert value(expression) == number(result), expression


def test_the_table_of_presets_has_the_models_own_counts():
    rows = TABLE_ROW.findall(read(ARCHITECTURE))
    assert {row[0] for row in rows} >= {name for name in preset_names() if name.startswith("gpt2")} | {
        "baby",
        "macbook",
    }
    for preset, vocab_size, sizes, parameters, flops in rows:
        shape = expect(TransformerConfig, shape_of(preset, vocab_size=number(vocab_size)).model)
        own = [shape.n_layer, shape.n_head, shape.n_embd, shape.block_size]
        assert [number(size) for size in sizes.split("/")] == own
        assert number(parameters) == shape.n_parameters()
        assert number(flops) == shape.flops_per_token()


@pytest.mark.parametrize("preset", ["macbook", "baby", "gpt2"])
def test_the_worked_out_totals_are_those_of_the_table(preset):
    table = {row[0]: row for row in TABLE_ROW.findall(read(ARCHITECTURE))}
    results = {result for _, result in EQUATION.findall(read(ARCHITECTURE))}
    assert {table[preset][3], table[preset][4]} <= results


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("n_layer", "n_embd", "block_size", "vocab_size"), [(1, 8, 3, 5), (3, 16, 7, 11)])
def test_the_formulas_of_parameters_and_flops_hold_for_any_shape(bias, n_layer, n_embd, block_size, vocab_size):
    sizes = {"n_layer": n_layer, "n_embd": n_embd, "block_size": block_size, "vocab_size": vocab_size}
    model = shape_of("macbook", bias=bias, **sizes).model.build()
    L, C, T, V = n_layer, n_embd, block_size, vocab_size
    N = V * C + T * C + (L * (12 * C**2 + 13 * C) + 2 * C if bias else L * (12 * C**2 + 2 * C) + C)
    assert model.n_parameters() == N
    assert model.config.flops_per_token() == 6 * (N - T * C) + 12 * L * C * T


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_formula_of_activations_is_what_the_backward_pass_keeps(dropout):
    shape = expect(TransformerConfig, shape_of("macbook", vocab_size=65, dropout=dropout).model)
    model = shape.build().train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.randint(shape.vocab_size, (4, shape.block_size))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(ids, ids)
    L, C, T, V, nh = shape.n_layer, shape.n_embd, shape.block_size, shape.vocab_size, shape.n_head
    said = 4 * (L * (16 * C + nh * T) + 2 * C + V)  # dropout's bytes are kept beside autograd
    found = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / ids.numel()
    assert found == pytest.approx(said, rel=0.07 if dropout else 0.03)
