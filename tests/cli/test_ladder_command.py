"""`nanogpt ladder`: a table, a chart and a page of what each rung brings."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nanogpt.cli import main
from nanogpt.cli.ladder_report import Report, chart_lines, page, table_rows
from nanogpt.events import RungFailed, RungFinished, RungStarted


def finished(name: str, bits_per_byte: float) -> RungFinished:
    return RungFinished(
        name=name,
        adds=f"the idea of {name}",
        n_parameters=1234,
        steps=10,
        tokens_per_second=5678.0,
        loss=bits_per_byte * 0.7,
        nats_per_character=bits_per_byte * 0.7,
        bits_per_byte=bits_per_byte,
        elapsed_s=1.0,
        device="cpu",
        threads=2,
    )


def ladder(dataset: str, *options: str) -> list[str]:
    return ["ladder", f"--dataset={dataset}", "--seconds=0.05", "--device=cpu", *options]


def test_the_rungs_are_a_table_and_a_chart_on_stdout_and_a_page(
    dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ladder.md"
    assert main(ladder(dataset, "--only=bigram,one-head", f"--out={out}", "--seed=3")) == 0
    stdout, stderr = capsys.readouterr()
    header, bigram, one_head, _, chart, *marks = stdout.splitlines()
    assert header.split()[:3] == ["rung", "parameters", "steps"]
    assert bigram.split()[0] == "bigram"
    assert one_head.endswith("attention to the whole window, one head alone")
    assert chart.startswith("bits per byte")
    assert len(marks) == 2
    assert "rung 2 of 2, one-head: attention to the whole window, one head alone" in stderr
    page = out.read_text(encoding="utf-8")
    assert f"nanogpt ladder --dataset={dataset} --seconds=0.05 --only=bigram,one-head --seed=3" in page
    assert all(" ".join(line.split()[:6]) in page.replace(" | ", " ") for line in (bigram, one_head))
    assert "`block_size=1`" in page
    assert "Interrupted" not in page


def test_json_has_the_figures(dataset: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(ladder(dataset, "--only=mlp", "--json")) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["dataset"], result["total"], result["failed"]) == (dataset, 1, [])
    (rung,) = result["rungs"]
    assert rung["name"] == "mlp"
    assert rung["bits_per_byte"] > 0


def test_ctrl_c_keeps_the_finished_rungs_and_says_how_many(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_, **__):
        yield RungStarted(name="bigram", adds="a table", number=1, total=13)
        yield finished("bigram", 3.5)
        yield RungStarted(name="mlp", adds="a window", number=2, total=13)
        raise KeyboardInterrupt

    monkeypatch.setattr("nanogpt.runs.ladder.climb_ladder", interrupted)
    out = tmp_path / "ladder.md"
    assert main(ladder(dataset, f"--out={out}")) == 130
    stdout, stderr = capsys.readouterr()
    assert "3.5000" in stdout
    assert stderr.splitlines()[-1] == "nanogpt ladder: interrupted, 1 of 13 rungs finished"
    assert "1 of 13 rungs finished" in out.read_text(encoding="utf-8")


def test_a_failed_rung_is_one_line_and_only_failed_rungs_are_exit_code_1(
    dataset: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_, **__):
        yield RungStarted(name="bigram", adds="a table", number=1, total=1)
        yield RungFailed(name="bigram", reason="out of memory")

    monkeypatch.setattr("nanogpt.runs.ladder.climb_ladder", failing)
    assert main(ladder(dataset, "--only=bigram")) == 1
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert stderr.splitlines()[-1].strip() == "bigram failed: out of memory"


def test_the_gain_is_over_the_rung_before_and_the_lowest_is_leftmost_in_the_chart() -> None:
    rungs = [finished("a", 3.5), finished("b", 2.5), finished("c", 2.75)]
    assert [row[6] for row in table_rows(rungs, "abc")] == ["–", "+1.0000", "-0.2500"]
    lines = list(chart_lines(rungs, is_unicode=False))
    assert [line.index("o") - line.index("|") - 1 for line in lines[1:]] == [47, 0, 12]  # 47 · 0.25 is 11.75
    assert "".join(lines).isascii()
    assert [*chart_lines(rungs[:1], is_unicode=True)][1].endswith("│●")


def test_the_page_says_all_numbers_of_threads_that_the_rungs_had() -> None:
    rungs = [replace(finished("a", 3.5), threads=1), finished("b", 2.5), finished("c", 2.75)]
    report = Report("nanogpt ladder", "text", 1.0, 3, rungs)
    assert "on text, on 1 to 2 CPU cores in float32" in page(report, [])
    report.finished.pop(0)
    assert "on text, on 2 CPU cores in float32" in page(report, [])


def test_a_rung_has_no_gain_if_the_one_before_was_not_trained() -> None:
    rungs = [finished("a", 3.5), finished("c", 2.75), finished("d", 2.5)]
    assert [row[6] for row in table_rows(rungs, "abcd")] == ["–", "–", "+0.2500"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seconds=0"], "--seconds=0: has to be above 0"),
        (["--seconds=nan"], "--seconds=nan: has to be above 0"),
        (["--only=bigran"], "no rung 'bigran'"),
        (["--out=nowhere/ladder.md"], "there is no folder nowhere"),
        (["--out=."], "--out=."),
        (["--seed=-1"], "seed=-1"),
        (["--device=gpu"], "device='gpu'"),
        (["--dataset=no_such_set"], "no_such_set"),
    ],
)
def test_bad_input_is_one_line_before_any_training(
    dataset: str, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ladder", f"--dataset={dataset}", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1
