"""The Runs screen: the table, what it shows of a run, and everything that can be done with one."""

import csv
import json
import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from nanogpt import runs
from nanogpt.errors import UserError
from nanogpt.events import Event
from nanogpt.runs import following
from nanogpt.runs.folder import lock
from nanogpt.runs.manage import read_note, write_note
from nanogpt.runs.state import RunState
from nanogpt_tui.screens.runs import run_panel
from nanogpt_tui.screens.runs import screen as screen_module
from nanogpt_tui.screens.runs.run_details import description
from nanogpt_tui.screens.runs.run_table import RunTable, age, sorted_runs
from nanogpt_tui.session import history
from nanogpt_tui.session.completions import Source
from nanogpt_tui.widgets.dialog import Ask


def listed(at: Any) -> list[str]:
    table = at.app.screen.query_one(RunTable)
    return [str(key.value) for key in table.rows]


async def opened(at: Any, *keys: str) -> None:
    """Goes to the Runs screen and waits for the two runs and the chart of the first."""
    await at.press("4")
    await at.until(lambda: len(listed(at)) == 2 and at.app.screen.chart is not None)
    await at.until(lambda: at.app.screen.query_one(RunTable).has_focus)
    await at.press(*keys)


async def on(at: Any, name: str) -> None:
    """Puts the cursor on a run."""
    at.app.screen.query_one(RunTable).move_cursor(row=listed(at).index(name))
    await at.until(lambda: at.app.screen.current and at.app.screen.current.name == name)


async def test_an_empty_folder_says_what_to_do(lab: Any) -> None:
    async with lab() as at:
        await at.press("4")
        await at.sees("No runs yet")
        await at.press("d", "R", "e", "enter", "s", "r", "i", "space", "o", "v")
        await at.sees("No runs yet")


async def test_every_run_is_a_row_with_its_figures(lab: Any, two_runs: Path) -> None:
    async with lab(size=(140, 40)) as at:
        await opened(at)
        for summary in runs.list_runs():
            line = next(line for line in at.seen().splitlines() if f" {summary.name} " in line and "rhymes" in line)
            assert f"{summary.best_val_loss:.4f}" in line
            assert f"{summary.step}" in line
            assert "finished" in line


async def test_a_value_that_grows_while_the_table_is_open_is_shown_whole(lab: Any, two_runs: Path) -> None:
    async with lab(size=(160, 40)) as at:  # all columns have room, before and after
        await opened(at)
        file = two_runs / "one" / "status.json"
        status = json.loads(file.read_text())
        file.write_text(json.dumps(status | {"step": 1_234_567, "state": "interrupted"}))
        await at.sees(" 1,234,567 ", "! interrupted ")


async def test_the_table_sorts_by_each_column_and_turns_round(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await opened(at)
        screen = at.app.screen
        by = {run.name: run for run in runs.list_runs()}
        for name, key in (("step", lambda run: -run.step), ("best", lambda run: run.best_val_loss)):
            while screen.by != name:
                await at.press("o")
            assert listed(at) == sorted(by, key=lambda each: key(by[each]))
            before = listed(at)
            await at.press("O")
            assert listed(at) == before[::-1]


async def test_a_click_on_a_head_sorts(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await opened(at)
        await at.pilot.click("RunTable", offset=(6, 0))
        await at.until(lambda: at.app.screen.by == "name")
        assert listed(at) == ["one", "two"]


async def test_words_filter_the_table_and_escape_shows_all_again(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await opened(at, "slash", *"two fin")
        assert listed(at) == ["two"]
        await at.press("escape")
        assert sorted(listed(at)) == ["one", "two"]


async def test_words_that_no_run_has_say_so_and_how_all_come_back(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await opened(at, "slash", *"three", "enter")
        await at.sees("No matching runs. esc shows all runs again.")
        await at.press("escape")
        await at.until(lambda: sorted(listed(at)) == ["one", "two"])
        await at.sees("one", "two")
        assert at.app.screen.focused is at.app.screen.table


async def test_rows_and_ticks_stay_while_the_folder_cannot_be_read_which_is_said_once(
    lab: Any, two_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[None] = []

    def fail() -> list[RunState]:
        tries.append(None)
        raise UserError("cannot read the runs")

    monkeypatch.setattr(screen_module, "LIST_INTERVAL_S", 0.05)
    async with lab() as at:
        await opened(at)
        await on(at, "one")
        await at.press("space")
        said: list[str] = []
        with monkeypatch.context() as failing:
            failing.setattr(at.app.screen, "notify", lambda text, **_: said.append(text))
            failing.setattr(at.session, "list_runs", fail)
            await at.until(lambda: len(tries) > 5)
            assert sorted(listed(at)) == ["one", "two"]
            assert at.app.screen.ticked == ["one"]
            assert said == ["cannot read the runs"]
    async with lab() as at:
        monkeypatch.setattr(at.session, "list_runs", fail)
        await at.press("4")
        await at.until(lambda: not at.app.screen.is_reading)
        assert at.app.screen.query_one("#none").render().plain == "cannot read the runs"


async def test_ticked_runs_lie_over_the_chart_and_their_differences_are_listed(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await opened(at)
        await on(at, "one")
        await at.press("space")
        await on(at, "two")
        await at.press("space")
        screen = at.app.screen
        await at.until(lambda: screen.chart.overlays == ["one"] and "differ in" in at.seen())
        lines = [line for line in at.seen().splitlines() if "n_layer" in line or "max_iters" in line]
        assert [line.split()[-2:] for line in lines] == [["1", "2"], ["60", "20"]]
        await at.until(lambda: "batch_size" not in at.seen())
        await at.press("escape")
        await at.until(lambda: screen.chart.overlays == [] and "differ in" not in at.seen())


async def test_a_ticked_run_stays_on_the_chart_while_the_one_under_the_cursor_changes(
    lab: Any, two_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen_module, "LIST_INTERVAL_S", 3600)  # which would show the runs as they are
    monkeypatch.setattr(run_panel, "MAX_HISTORIES", 2)
    monkeypatch.setattr(run_panel, "READ_DELAY_S", 0.01)
    async with lab() as at:
        await opened(at)
        screen = at.app.screen
        one, two = screen.summary("one"), screen.summary("two")
        overlays: list[list[str]] = []
        monkeypatch.setattr(screen.table, "set_mark_styles", lambda _: overlays.append(list(screen.chart.overlays)))
        for number in range(4):
            before = len(overlays)
            screen.panel.show(replace(two, updated=float(number)), [one], 80)
            await at.until(lambda before=before: len(overlays) > before)
        assert overlays[-3:] == [["one"]] * 3


async def test_a_run_that_changes_while_its_record_is_read_is_drawn_and_read_once_more(
    lab: Any, two_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen_module, "LIST_INTERVAL_S", 3600)  # which would show the runs as they are
    read, begun, may_end, drawn = history.load_history, list[Path](), threading.Event(), list[Any]()

    def read_slowly(folder: Path) -> history.History:
        begun.append(folder)
        may_end.wait(60)
        return read(folder)

    async with lab() as at:
        await opened(at)
        screen = at.app.screen
        two, panel = screen.summary("two"), screen.panel
        monkeypatch.setattr(history, "load_history", read_slowly)
        monkeypatch.setattr(screen.table, "set_mark_styles", drawn.append)
        panel.show(replace(two, updated=1.0), [], 80)
        await at.until(lambda: begun)
        for updated in (2.0, 3.0):
            panel.show(replace(two, updated=updated), [], 80)
            panel.reload()
        may_end.set()
        await at.until(lambda: len(drawn) == 2, timeout_s=20)
        assert len(begun) == 2


async def test_a_read_that_hangs_holds_up_no_other_run_and_is_not_begun_again(
    lab: Any, two_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen_module, "LIST_INTERVAL_S", 3600)  # which would show the runs as they are
    read, begun, may_end, drawn = history.load_history, list[str](), threading.Event(), list[dict[str, Any]]()

    def read_slowly(folder: Path) -> history.History:
        begun.append(folder.name)
        if folder.name == "two":
            may_end.wait(60)
        return read(folder)

    async with lab() as at:
        await opened(at)
        screen = at.app.screen
        panel = screen.panel
        one, two = (replace(screen.summary(name), updated=1.0) for name in ("one", "two"))
        monkeypatch.setattr(history, "load_history", read_slowly)
        monkeypatch.setattr(screen.table, "set_mark_styles", drawn.append)
        panel.show(two, [], 80)
        await at.until(lambda: begun)
        panel.show(one, [], 80)
        await at.until(lambda: drawn and "one" in drawn[-1])
        panel.show(two, [], 80)
        may_end.set()
        await at.until(lambda: "two" in drawn[-1])
        assert begun == ["two", "one"]


async def test_the_chart_of_a_run_that_trains_keeps_its_window_and_crosshair(
    lab: Any, two_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen_module, "LIST_INTERVAL_S", 3600)  # which would show the runs as they are
    async with lab() as at:
        await opened(at)
        await on(at, "one")
        screen, drawn = at.app.screen, list[Any]()
        one, two, chart = screen.summary("one"), screen.summary("two"), screen.chart
        await at.until(lambda: chart.picture.extent()[1] >= 60)
        monkeypatch.setattr(screen.table, "set_mark_styles", drawn.append)
        chart.window, chart.cursor, chart.x_axis = (20.0, 40.0), 30.0, "tokens"
        window = chart.window
        screen.panel.show(replace(one, updated=1.0), [], 80)
        await at.until(lambda: len(drawn) == 1)
        assert (chart.window, chart.cursor, chart.x_axis) == (window, 30.0, "tokens")
        screen.panel.show(two, [], 80)
        await at.until(lambda: len(drawn) == 2)
        assert (chart.window, chart.cursor) == (None, None)


async def test_runs_with_different_tokenizers_are_compared_in_bits_per_byte(lab: Any, two_runs: Path) -> None:
    record = two_runs / "one" / "events.jsonl"
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    starts = [line for line in lines if line["event"] == "Started"]
    assert all(line["val_bytes"] >= line["val_characters"] > 0 for line in starts)
    for line in starts:
        line["vocab_size"] += 1
    record.write_text("".join(json.dumps(line) + "\n" for line in lines))
    async with lab() as at:
        await opened(at)
        await on(at, "one")
        await at.until(lambda: at.seen().count("bits per byte") == 1)  # in the details, while the chart is in nats
        assert at.app.screen.chart.unit == "loss"
        await at.press("space")
        await on(at, "two")
        await at.press("space")
        chart = at.app.screen.chart
        await at.until(lambda: chart.overlays == ["one"] and chart.unit == "bits per byte")
        await at.press("L")
        assert chart.unit == "loss"
        assert at.app.settings.loss_unit == "loss"
        await at.press("L", "L", "L", "escape")
        await at.until(lambda: chart.overlays == [] and chart.unit == "loss")
        await at.press("L")
        assert chart.unit == at.app.settings.loss_unit == "perplexity"


async def test_a_run_is_renamed_and_a_taken_name_is_refused_where_it_is_typed(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await opened(at)
        await on(at, "one")
        await at.press("R")
        field = at.app.screen.query_one("Input")
        field.value = "two"
        await at.press("enter")
        await at.sees("already")
        field.value = "[bold]no"
        await at.press("enter")
        await at.sees("cannot name a run")
        field.value = "three"
        await at.press("enter")
        await at.until(lambda: sorted(listed(at)) == ["three", "two"])
        assert (two_runs / "three" / "run.toml").is_file()


async def test_the_cursor_stays_on_a_run_whose_new_name_has_another_place(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await opened(at)
        while at.app.screen.by != "name":
            await at.press("o")
        await on(at, "one")
        table = at.app.screen.table
        await at.press("R")
        at.app.screen.query_one("Input").value = "zzz"
        await at.press("enter")
        await at.until(lambda: table.current == "zzz")


async def test_a_run_that_was_trained_here_has_its_new_name_everywhere(lab: Any) -> None:
    async with lab() as at:
        await at.press("g")
        await at.until(lambda: at.session.history and at.session.history.phase == "finished")
        await at.until(lambda: not at.session.is_training)
        await at.press("4")
        await at.until(lambda: listed(at) == ["quickstart"])
        await on(at, "quickstart")
        await at.press("R")
        at.app.screen.query_one("Input").value = "three"
        await at.press("enter")
        await at.until(lambda: listed(at) == ["three"])
        await at.until(lambda: " three" in at.seen().splitlines()[0])
        assert at.session.history.run == at.session.folder.name == "three"
        assert at.session.history.log[-1].text == "renamed: quickstart is now three"


async def test_a_run_of_that_name_in_another_place_is_not_renamed_with_it(
    lab: Any, two_runs: Path, tmp_path: Path
) -> None:
    async with lab() as at:
        await opened(at)
        copytree(two_runs / "one", tmp_path / "one")
        at.session.show_run(tmp_path / "one")
        await at.until(lambda: at.session.folder == tmp_path / "one")
        await on(at, "one")
        await at.press("R")
        at.app.screen.query_one("Input").value = "three"
        await at.press("enter")
        await at.until(lambda: sorted(listed(at)) == ["three", "two"])
        await at.until(lambda: at.session.history.reading is None)
        assert at.session.folder == tmp_path / "one"


async def test_a_note_is_kept_with_the_run_and_shown_as_plain_text(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await opened(at)
        await on(at, "one")
        await at.press("i")
        await at.sees("A note on the run")
        at.app.screen.query_one("Input").value = "best so far [red]"
        await at.press("enter")
        await at.until(lambda: len(at.app.screen_stack) == 1)
        await at.sees("best so far [red]")
        assert read_note(two_runs / "one") == "best so far [red]"


async def test_a_note_of_several_lines_keeps_them(lab: Any, two_runs: Path) -> None:
    first = "learning rate: 3e-3\n\nin C:\\new"
    write_note(two_runs / "one", first)
    async with lab() as at:
        await opened(at)
        await on(at, "one")
        await at.press("i")
        await at.sees("3e-3\\n\\nin C:\\\\new")
        await at.press("enter")
        await at.until(lambda: len(at.app.screen_stack) == 1)
        assert read_note(two_runs / "one") == first  # nothing was changed
        await at.press("i")
        await at.sees("A note on the run")
        at.app.screen.query_one("Input").value = "one\\ntwo in C:\\\\new"
        await at.press("enter")
        await at.until(lambda: len(at.app.screen_stack) == 1)
        assert read_note(two_runs / "one") == "one\ntwo in C:\\new"


async def test_a_note_in_wide_characters_loses_no_letter_where_it_is_wrapped(lab: Any, two_runs: Path) -> None:
    write_note(two_runs / "two", "漢字" * 20 + " one two three four five six seven eight")
    async with lab() as at:
        await opened(at)
        await at.sees("one two three four", "eight")
        words = " ".join(line.partition("│")[2].strip() for line in at.seen().splitlines())
        assert "one two three four five six seven eight" in words


def test_details_show_the_last_step_as_it_was_changed_on_the_way(two_runs: Path) -> None:
    file = two_runs / "one" / "status.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_iters": 90}))
    shown = [line.split() for line in description(two_runs / "one").plain.splitlines()]
    assert ["step", "60", "of", "90"] in shown
    assert ["max_iters", "90"] in shown


async def test_keys_that_the_bottom_line_has_no_room_for_leave_a_sign(lab: Any, two_runs: Path) -> None:
    async with lab(size=(80, 24)) as at:
        await opened(at)
        assert at.seen().splitlines()[-1].rstrip().endswith(" … ? help")
    async with lab(size=(160, 40)) as at:
        await opened(at)
        assert "…" not in at.seen().splitlines()[-1]


async def test_a_run_is_deleted_only_after_a_yes(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await opened(at)
        await on(at, "one")
        await at.press("d", "d")
        await at.until(lambda: isinstance(at.app.screen, Ask))
        await at.press("escape")
        assert (two_runs / "one").is_dir()
        await at.press("d", "y")
        await at.until(lambda: listed(at) == ["two"])
        assert not (two_runs / "one").exists()


async def test_a_run_that_a_trainer_holds_is_not_deleted(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await opened(at)
        await on(at, "one")
        with lock(two_runs / "one").acquire():
            await at.press("d", "y")
            await at.sees("is training")
        assert (two_runs / "one" / "run.toml").is_file()


async def test_the_run_in_training_can_be_neither_deleted_nor_renamed(lab: Any) -> None:
    async with lab(max_iters=100_000, eval_interval=50_000, sample_interval=0) as at:
        await at.press("g")
        await at.until(lambda: at.session.history and at.session.history.step > 5)
        await at.press("4")
        await at.until(lambda: listed(at) == ["quickstart"])
        await at.press("d", "R", "r")
        assert type(at.app.screen).__name__ == "RunsScreen"
        await at.sees("training")
        await at.press("s")
        assert at.app.screen.sources[0].which == "live"


async def test_metrics_are_exported_as_csv(lab: Any, two_runs: Path, tmp_path: Path) -> None:
    async with lab() as at:
        await opened(at)
        await on(at, "one")
        await at.press("e")
        at.app.screen.query_one("Input").value = str(tmp_path / "out.csv")
        await at.press("enter")
        await at.until((tmp_path / "out.csv").exists)
        with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as lines:
            assert len(list(csv.DictReader(lines))) == 61


async def test_an_export_has_a_name_also_if_the_current_folder_has_been_removed(
    lab: Any, two_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lab() as at:
        await opened(at)
        await on(at, "one")
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        await at.press("e")
        assert at.app.screen.query_one("Input").value.startswith("one-")


async def test_sampling_from_a_run_goes_to_the_sample_screen_with_it(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await opened(at)
        await on(at, "one")
        await at.press("s")
        assert at.app.current_mode == "sample"
        assert at.app.screen.sources == [Source("one", "best")]


async def test_looking_at_a_run_shows_it_in_train(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await opened(at)
        await on(at, "one")
        await at.press("enter")
        await at.until(lambda: at.app.current_mode == "train" and at.session.folder == two_runs / "one")
        assert at.session.history.step == 60


async def test_a_run_whose_record_could_not_be_followed_is_opened_again(
    lab: Any, two_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Iterator[Event]:
        raise UserError("the disk is gone")

    async with lab() as at:
        session = at.session
        await opened(at)
        with monkeypatch.context() as broken:
            broken.setattr(following, "follow_blocks", fail)
            session.show_run(two_runs / "one")
            await at.until(lambda: session.folder == two_runs / "one" and session.remote.done)
        lost = session.remote
        await on(at, "one")
        await at.press("enter")
        await at.until(lambda: session.remote is not lost, timeout_s=20)
        assert not session.remote.done
        assert at.app.current_mode == "train"


async def test_a_complete_run_goes_on_up_to_a_step_that_is_asked_for(lab: Any, trained: Path, two_runs: Path) -> None:
    from shutil import copytree

    copytree(trained.parent / "data", two_runs.parent / "data")
    async with lab() as at:
        await opened(at)
        await on(at, "one")
        await at.press("r")
        at.app.screen.query_one("Input").value = "60"
        await at.press("enter")
        await at.sees("the run is at step 60: choose a later one")
        at.app.screen.query_one("Input").value = "80"
        await at.press("enter")
        await at.until(lambda: at.app.current_mode == "train" and at.session.history.step > 60)
        await at.until(lambda: at.session.history.phase == "finished")
        assert at.session.history.step == 80
        assert runs.summary(two_runs / "one").max_iters == 80


async def test_unreadable_runs_and_hostile_names_are_harmless_rows(lab: Any, two_runs: Path) -> None:
    (two_runs / "two" / "status.json").write_text("{[")
    (two_runs / "one").rename(two_runs / "[bold]x\x1b]0;y")
    async with lab() as at:
        await opened(at)
        seen = at.seen()
        assert "[bold]x␛]0;y" in seen
        assert "× failed" in seen
        assert not [c for c in seen if ord(c) < 32 and c != "\n"]


async def test_impossible_values_in_the_files_of_a_run_end_nothing(lab: Any, two_runs: Path) -> None:
    status, record = two_runs / "two" / "status.json", two_runs / "one" / "events.jsonl"
    status.write_text(json.dumps(json.loads(status.read_text()) | {"state": "queued"}))
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    lines = [line | {"vocab_size": 0} if line["event"] == "Started" else line for line in lines]
    lines.append({"event": "Notice", "time": 1e18, "level": "info", "text": "from far away"})
    record.write_text("".join(json.dumps(line) + "\n" for line in lines))
    async with lab() as at:
        await opened(at)
        await at.sees("× failed")
        await on(at, "one")
        await at.until(lambda: at.app.screen.chart.uniform == 0)
        await at.press("enter")
        await at.sees("–         from far away")
    assert "its state is 'queued'" in next(run.message for run in runs.list_runs() if run.name == "two")


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_table_chart_and_details_have_room(lab: Any, two_runs: Path, size: tuple[int, int]) -> None:
    async with lab(size=size) as at:
        await opened(at)
        await at.until(lambda: "train (EMA" in at.seen() or "loss" in at.seen())
        await at.sees("best val")
        if size[0] < 110:
            await at.press("v")
        await at.until(lambda: "differs from the defaults" in at.seen())


async def test_the_first_frame_of_the_table_has_the_widths_of_its_cells(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await opened(at)
        table = at.app.screen.query_one(RunTable)
        rows = [RunState(f"a-name-of-28-characters-{n:04}", "", "finished", 10**n, 10**6, 1.0) for n in range(3)]
        table.show(rows, [], "step", False)
        frame = [table.render_line(y).text for y in range(3)]  # before the table is idle
        assert all(run.name in line and "finished" in line for run, line in zip(rows, frame[1:], strict=False))
        table.show([replace(run, step=123_456_789) for run in rows], [], "step", False)
        assert "123,456,789" in table.render_line(1).text


def test_unknown_values_come_last_however_it_is_sorted() -> None:
    losses = {"a": None, "b": 1.0, "c": math.nan, "d": 2.0}
    rows = [RunState(name, "", "finished", 2, 9, best_val_loss=loss) for name, loss in losses.items()]
    for reverse, names in ((False, "bdac"), (True, "dbac")):
        assert [run.name for run in sorted_runs(rows, "best", reverse, "")] == [*names]


def test_ages_are_in_one_unit() -> None:
    assert [age(seconds) for seconds in (-1, 59, 60, 7200, 3e5)] == ["0 s", "59 s", "1 min", "2 h", "3 d"]


async def test_the_letters_move_as_in_data(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await opened(at)
        order = listed(at)
        for keys, place in ((("G",), -1), (("g",), 0), (("j",), 1), (("k",), 0), (("end",), -1), (("home",), 0)):
            await at.press(*keys)
            await at.until(lambda place=place: at.app.screen.current.name == order[place])


async def test_a_timer_that_ticks_when_the_app_has_no_screen_left_lists_nothing(
    lab: Any, two_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lab() as at:
        await at.app.switch_mode("runs")
        await at.sees("two")
        screen = at.app.screen
        with monkeypatch.context() as ending:
            ending.setitem(at.app._screen_stacks, "runs", [])
            ending.setattr(screen, "_list_job", None)
            screen._list()
            assert screen._list_job is None


async def test_a_run_that_cannot_be_read_leaves_the_others_their_curves(lab: Any, two_runs: Path) -> None:
    async with lab(size=(140, 40)) as at:
        await opened(at)
        await on(at, "two")
        await at.press("space")
        (two_runs / "two" / "status.json").write_text("{")
        await at.until(lambda: any(run.name == "two" and run.state == "failed" for run in at.app.screen.runs))
        await on(at, "one")
        panel = at.app.screen.query_one(run_panel.RunPanel)
        await at.until(lambda: any(path.endswith("one") for path, _ in panel._histories))
        await on(at, "two")
        await at.sees("status.json")
