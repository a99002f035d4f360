"""benchmarks/compare_tokenizers.py: its page, and what a later call still has to train."""

import json
from pathlib import Path
from types import ModuleType

import pytest

from nanogpt.data import open_dataset, prepare, textfile_recipe
from tests.programs import load_program

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return load_program(FOLDER / "compare_tokenizers.py")


def test_the_page_has_the_results_best_first_and_says_what_is_missing(program: ModuleType, text_file: Path) -> None:
    entries, results = [], {}
    for tokenizer, bits in (("byte", 2.5), ("char", 1.5), ("gpt2", None)):
        list(prepare(textfile_recipe([text_file], tokenizer=tokenizer, name=tokenizer)))
        job = program.Job(tokenizer, "time", tokenizer, {}, 1, 3.0, "text")
        entries.append(program.Entry("shakespeare_char", tokenizer, open_dataset(tokenizer), [job]))
        if bits is not None:
            results[job.key] = {
                "conditions": json.loads(job.key),
                "n_parameters": 1000,
                "steps": 10,
                "tokens_per_second": 500.0,
                "cores_used_by_others": 0.0,
                "bits_per_byte": {"val": bits},
            }
    page = program.page(results, entries, 3.0)
    rows = [line.split(" | ")[0] for line in page.splitlines() if line.startswith(("| char", "| byte", "| gpt2"))]
    assert rows == ["| char", "| byte"]
    assert "| byte | 256 | 1.00 | 1,000 | 2.5000 | 10 | 500 | 0.50 | 1 |" in page
    assert "Trainings that are missing: shakespeare_char in gpt2." in page
