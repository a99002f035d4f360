"""benchmarks/leaderboard.py: its entries fit its rules, and a call that is killed is continued by the next one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nanogpt.config import resolve
from tests.programs import load_program

HERE = {"cpu": "Z80", "bfloat16": False}
PROGRAM = Path(__file__).parents[1] / "benchmarks" / "leaderboard.py"


@pytest.fixture(scope="module")
def leaderboard() -> ModuleType:
    return load_program(PROGRAM)


def result(job: Any, bits: float, **changes: Any) -> dict[str, Any]:
    return {
        "conditions": json.loads(job.key),
        "n_parameters": 1000,
        "steps": 10,
        "tokens_per_second": 100.0,
        "elapsed_s": 300.0,
        "dtype": "float32",
        "machine": HERE,
        "cores_used_by_others": 0.0,
        "bits_per_byte": {"val": bits, "test": bits + 0.5},
        "peak_bytes": 5_000_000,
    } | changes


def test_every_entry_is_a_complete_configuration_within_the_parameters(leaderboard: ModuleType) -> None:
    jobs = leaderboard.load_jobs(300, [1, 2, 3], "text")  # it exits for an entry that is not within 5 %
    for job in jobs:
        assert resolve(flags=job.settings).config.model.name
        assert not {"dataset", "max_iters", "eval_interval"} & set(job.settings)
    ngram = [job for job in jobs if job.entry == "ngram"]
    assert [(job.track, job.seed) for job in ngram] == [("time", 1)], "a counted model: one seed, one table"
    gpt2 = {job.key for job in jobs if job.entry == "gpt2"}
    assert len(gpt2) == 3, "the same settings in both tables are trained once a seed"
    assert [job.seed for job in jobs] == sorted(job.seed for job in jobs)


def test_an_entry_outside_the_parameters_or_unknown_is_one_line(leaderboard: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"small has [\d,]+ parameters: not within 5% of 804,096"):
        leaderboard.check_parameters("small", {"n_layer": 3}, "char", 804_096)
    with pytest.raises(SystemExit, match="no entry gpt3; "):
        leaderboard.load_jobs(300, [1], "text", ["gpt3"])


def test_the_page_has_mean_and_spread_the_order_of_the_test_split_and_what_is_missing(leaderboard: ModuleType) -> None:
    jobs = leaderboard.load_jobs(300, [1, 2], "text")
    lstm = [job for job in jobs if (job.entry, job.track) == ("lstm", "time")]
    mlp = [job for job in jobs if (job.entry, job.track) == ("mlp", "time")]
    results = [result(lstm[0], 2.0), result(lstm[1], 2.2, cores_used_by_others=1.5), result(mlp[0], 1.9)]
    rows = [line for line in leaderboard.page(results, jobs, 300, [1, 2]).splitlines() if line.startswith("| ")][1:]
    # √((0.1² + 0.1²) / (2 - 1)) = 0.1414 bits around the mean of 2.1
    assert rows[0].startswith("| mlp | 1,000 | 1.9000 | 2.4000 | 10 |")
    assert rows[1].startswith("| lstm | 1,000 | 2.1000 ± 0.1414 | 2.6000 ± 0.1414 |")
    assert rows[0].endswith("| 5 MB | 300 s | 1 |")
    assert rows[1].endswith("| 2* |")
    page = leaderboard.page(results, jobs, 300, [1, 2])
    assert "missing: for equal time ngram 1, mlp 1, wavenet 2, " in page
    assert "other programs used" in page
    assert "No results yet." in page, "of the second table"


def test_a_changed_setting_is_measured_again(leaderboard: ModuleType, tmp_path: Path) -> None:
    (job, *_) = leaderboard.load_jobs(300, [1], "text", ["lstm"])
    path = tmp_path / "results.json"
    leaderboard.write_results(path, [result(job, 2.0)])
    assert set(leaderboard.results_of(HERE, leaderboard.read_results(path))) == {job.key}
    other = leaderboard.load_jobs(301, [1], "text", ["lstm"])[0]
    assert other.key not in leaderboard.results_of(HERE, leaderboard.read_results(path))


def test_results_of_two_machines_are_kept_apart_and_the_page_shows_the_one_with_most(
    leaderboard: ModuleType, tmp_path: Path
) -> None:
    one, two = leaderboard.load_jobs(300, [1, 2], "text", ["megabyte"])[::2]
    there, path = {"cpu": "6502", "bfloat16": True}, tmp_path / "results.json"
    leaderboard.write_results(path, [result(one, 2.0), result(one, 3.0, machine=there), result(one, 2.1)])
    results = leaderboard.read_results(path)
    assert [each["bits_per_byte"]["val"] for each in results] == [2.1, 3.0], "the last one of each machine"
    assert leaderboard.results_of(there, results) == {one.key: results[1]}
    page = leaderboard.page(results, [one, two], 300, [1, 2])
    assert "| megabyte | 1,000 | 2.1000 " in page
    assert "Z80, without bfloat16" in page
    page = leaderboard.page([*results, result(two, 3.2, machine=there)], [one, two], 300, [1, 2])
    assert "| megabyte | 1,000 | 3.1000 ± 0.1414 " in page
    assert "6502, with bfloat16" in page


@pytest.mark.slow
def test_a_call_that_is_killed_loses_one_training_and_the_next_call_does_the_rest(text_file: Path) -> None:
    page = text_file.parent / "leaderboard.md"
    results, small = page.with_suffix(".json"), ["--seconds=0.1", "--seeds", "1", "--only", "ngram", "gpt2"]
    command = [sys.executable, str(PROGRAM), *small, f"--text={text_file}", f"--page={page}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as call:
        assert call.stdout is not None
        for line in call.stdout:
            if line.startswith("gpt2"):  # the second training, of which nothing is recorded yet
                break
        os.kill(call.pid, signal.SIGKILL)
    (first,) = json.loads(results.read_text(encoding="utf-8"))
    assert first["conditions"]["settings"]["architecture"] == "ngram"
    again = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [line for line in again.splitlines() if line.endswith("…")] == ["gpt2, time, seed 1 …"]
    recorded = json.loads(results.read_text(encoding="utf-8"))
    assert len(recorded) == 2
    assert first in recorded
    assert all(set(one["bits_per_byte"]) == {"val", "test"} and one["peak_bytes"] > 1e7 for one in recorded)
    assert page.read_text(encoding="utf-8").count("| gpt2 | ") == 2, "in both tables"
