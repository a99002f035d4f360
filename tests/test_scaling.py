"""The page about several processes: its tables are those of the formulas, and these those of the program."""

from pathlib import Path
from typing import Any

import pytest

from nanogpt.training.estimate import memory
from tests.programs import load_program

SOURCE = Path(__file__).parents[1] / "docs" / "scaling.py"


@pytest.fixture(scope="module")
def scaling() -> Any:
    return load_program(SOURCE)


def test_the_tables_of_the_page_are_those_of_its_formulas(scaling: Any) -> None:
    assert scaling.PAGE.read_text(encoding="utf-8") == scaling.page(scaling.tables())


def test_the_formulas_are_the_estimates_of_the_program(scaling: Any) -> None:
    small, *_, large = (model.config() for model in scaling.MODELS)
    assert large.model.n_parameters() == pytest.approx(6.65e9, rel=0.01)
    assert scaling.held_bytes(small, 1) == memory(small, "bfloat16", "cuda").total
    # 18 bytes for each parameter, and the embeddings are counted with the blocks that are collected
    state = 18 * large.model.n_parameters()
    saved = scaling.held_bytes(large, 4) - scaling.held_bytes(scaling.MODELS[-1].config(sharding="fsdp"), 4)
    collected = 4 * (2 * 12 * 4096**2 + 50_304 * 4096)
    assert saved == pytest.approx(0.75 * state - collected, rel=1e-3)
    assert scaling.all_reduce_bytes(small, 2) == 4 * small.model.n_parameters()
    assert scaling.fsdp_traffic(small, 2, 1) == 1.5 * scaling.all_reduce_bytes(small, 2)
