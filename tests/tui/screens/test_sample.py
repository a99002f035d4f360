"""The Sample screen: writing, turning knobs meanwhile, looking at alternatives, branching, sides, history, harm."""

import dataclasses
import json
import os
import time
from pathlib import Path
from shutil import copytree, rmtree
from types import SimpleNamespace
from typing import Any

import pytest
from rich.color import ColorSystem
from textual.events import MouseScrollUp, Paste

from nanogpt.config import SamplingConfig, sampling_settings
from nanogpt.errors import SettingError, UserError
from nanogpt.events import Alternative, Token
from nanogpt.tokenizers.byte import Tokenizer as ByteTokenizer
from nanogpt_tui.screens.sample.completion_controller import branched
from nanogpt_tui.screens.sample.completion_list import summary
from nanogpt_tui.screens.sample.knobs import BY_NAME, set_typed, turn
from nanogpt_tui.screens.sample.pane import status_line, weights_line
from nanogpt_tui.screens.sample.pick_source import PickSource
from nanogpt_tui.screens.sample.prompt import Prompt, without_control_characters
from nanogpt_tui.screens.sample.text_flow import TextFlow
from nanogpt_tui.screens.sample.token_text import KNOBS_CHANGED, shade
from nanogpt_tui.session import completion_store, generation_job
from nanogpt_tui.session.completions import LIVE, Completion, Source, export, settings_text
from nanogpt_tui.session.generation_job import ModelCache
from nanogpt_tui.theme import NAMES
from nanogpt_tui.widgets.dialog import AskValue


@pytest.fixture
def run(two_runs: Path) -> Path:
    """The run "one" alone."""
    rmtree(two_runs / "two")
    return two_runs / "one"


def set_knobs(at: Any, **knobs: Any) -> None:
    at.app.screen.knobs = dataclasses.replace(at.app.screen.knobs, **knobs)


async def scroll_up(at: Any, knob: str) -> None:
    """Turns the mouse wheel over a knob."""
    row = at.app.screen.query_one(f"#{knob}")
    row.post_message(MouseScrollUp(row, 0, 0, 0, 0, 0, False, False, False))
    await at.settle()


async def written(at: Any, *keys: str) -> Completion:
    """Presses keys on the Sample screen, and waits for the text to end."""
    await at.press(*keys)
    await at.until(lambda: at.app.screen.completion is not None and at.app.screen.completion.reason)
    completion: Completion = at.app.screen.completion
    return completion


async def test_enter_writes_from_the_prompt_and_says_how_fast_and_why_it_ended(lab: Any, run: Path) -> None:
    async with lab() as at:
        await at.press("3")
        set_knobs(at, max_new_tokens=30)
        completion = await written(at, "i", *"ab", "enter")
        assert (completion.prompt, completion.run, completion.step, completion.reason) == ("ab", "one", 60, "length")
        assert len(completion.tokens) == 30
        seen = at.seen()
        assert "one · step 60" in seen
        assert "30 tokens" in seen
        assert "tokens/s" in seen
        assert "length reached" in seen
        for line in ("ab" + completion.text).split("\n")[:2]:
            assert line[:20] in seen


async def test_in_the_editor_only_its_own_keys_are_promised(lab: Any, run: Path) -> None:
    async with lab(size=(80, 24)) as at:
        await at.press("3")
        await at.sees("i edits it, enter continues it")
        await at.press("i")
        await at.sees("enter continues it, alt+enter adds a line")
        await at.until(lambda: "⏎ write" in at.seen().splitlines()[-1])
        assert at.seen().splitlines()[-1].rstrip().endswith("f1 help")
        await at.press("escape")
        await at.until(lambda: at.seen().splitlines()[-1].rstrip().endswith("? help"))
        assert "⏎ write" in at.seen().splitlines()[-1]
        await at.sees("i edits it, enter continues it")


async def test_enter_with_alt_or_shift_adds_a_line_and_a_question_mark_is_text(lab: Any, run: Path) -> None:
    async with lab() as at:
        await at.press("3")
        set_knobs(at, max_new_tokens=3)
        completion = await written(at, "i", "o", "?", "alt+enter", "a", "shift+enter", "b", "enter")
        assert completion.prompt == "o?\na\nb"


async def test_a_paste_into_the_prompt_is_there_once(lab: Any) -> None:
    async with lab() as at:
        await at.press("3", "i", *"ad", "left")
        at.app.post_message(Paste("one\r\ntwo\x1b[2J\u202e"))
        await at.settle()
        assert at.app.screen.query_one(Prompt).text == "aone\ntwo[2Jd"


async def test_enter_in_the_prompt_writes_from_it_also_while_a_token_is_chosen(lab: Any, run: Path) -> None:
    async with lab() as at:
        await at.press("3")
        set_knobs(at, max_new_tokens=3)
        for number, key in enumerate(("enter", "f5", "ctrl+j"), 1):
            await written(at, "i", "a", key)
            assert at.app.screen.completion.prompt == "a" * number
            await at.press("right")
            assert at.app.screen.view.cursor == 0
        assert len(at.app.screen.completions.groups) == 3


async def test_the_end_of_a_line_of_the_prompt_is_deleted_and_not_the_line(lab: Any) -> None:
    async with lab() as at:
        await at.press("3", "i", *"ab", "ctrl+k", "left", "ctrl+k")
        assert at.app.screen.query_one(Prompt).text == "a"


async def test_the_end_of_what_is_written_stays_in_sight_until_somebody_scrolls_up(lab: Any, run: Path) -> None:
    async with lab(size=(80, 24)) as at:
        await at.press("3")
        screen = at.app.screen
        set_knobs(at, max_new_tokens=300)
        screen.query_one(Prompt).text = "a\n" * 40
        await written(at, "g")
        view = screen.view
        assert view.scroll_offset.y == view.max_scroll_y > 40
        await at.press(*["pageup"] * 4)
        assert view.scroll_offset.y == 0
        set_knobs(at, max_new_tokens=100_000)
        await at.press("g")
        await at.until(lambda: len(screen.completion.tokens) > 100 and view.scroll_offset.y == view.max_scroll_y > 40)
        await at.press("pageup")
        length, at_line = len(screen.completion.tokens), view.scroll_offset.y
        await at.until(lambda: len(screen.completion.tokens) > length + 300)
        assert view.scroll_offset.y == at_line < view.max_scroll_y - 1
        await at.press("escape")


async def test_a_text_of_the_history_is_shown_from_its_beginning(lab: Any, run: Path) -> None:
    async with lab(size=(80, 24)) as at:
        await at.press("3")
        screen = at.app.screen
        set_knobs(at, max_new_tokens=30)
        screen.query_one(Prompt).text = "a\n" * 40
        await written(at, "g")
        await written(at, "a")
        await at.press("left_square_bracket")
        assert screen.view.scroll_offset.y == 0
        await at.press("c")
        await at.until(lambda: screen.view.scroll_offset.y == screen.view.max_scroll_y > 0)


async def test_characters_that_the_model_does_not_know_are_named_and_not_continued(lab: Any, run: Path) -> None:
    async with lab(size=(80, 24)) as at:
        await at.press("3")
        await at.press("i", "§", "漢")
        completion = await written(at, "f5")
        assert "'§' (U+00A7), '漢' (U+6F22)" in completion.error
        await at.until(lambda: completion.error in " ".join(at.seen().split()))
        assert "continue" not in at.seen().splitlines()[-1]


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (78, "from shakespeare-baby · step 15,240   val loss 1.7183"),
        (48, "from shakespear… · step 15,240   val loss 1.7183"),
        (37, "from shakespeare-baby · step 15,240"),
        (28, "from shakespe… · step 15,240"),
    ],
)
def test_the_step_of_the_weights_is_never_cut_before_their_name(width: int, line: str) -> None:
    completion = Completion("", Source(), SamplingConfig(), "shakespeare-baby", 15_240, 1.71834)
    assert weights_line(completion, Source(), width).plain == line


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (78, "from shakespeare-baby · step 15,240   averaged weights   val loss 1.7183"),
        (54, "from shakespeare-baby · step 15,240   averaged weights"),
        (42, "from shakespeare-baby · step 15,240"),
    ],
)
def test_averaged_weights_are_named_before_the_loss(width: int, line: str) -> None:
    completion = Completion("", Source(), SamplingConfig(), "shakespeare-baby", 15_240, 1.71834, is_average=True)
    assert weights_line(completion, completion.exact_source, width).plain == line


def test_why_a_text_ended_is_told_before_how_fast_it_came() -> None:
    completion = Completion("", Source(), SamplingConfig(), reason="length", branched_at=11, tokens_per_second=2000.0)
    shown = {width: " ".join(status_line(completion, width).plain.split()) for width in (70, 60, 37)}
    assert shown == {
        70: "0 tokens 2,000 tokens/s length reached branched at token 12",
        60: "0 tokens length reached branched at token 12",
        37: "0 tokens length reached",
    }


async def test_the_same_seed_writes_the_same_again_and_the_next_seed_another(lab: Any, run: Path) -> None:
    async with lab() as at:
        await at.press("3")
        set_knobs(at, max_new_tokens=30)
        first = await written(at, "g")
        again = await written(at, "g")
        other = await written(at, "a")
        assert first is not again
        assert first.text == again.text != other.text
        assert (first.knobs.seed, other.knobs.seed) == (1337, 1338)


async def test_knobs_turned_while_it_writes_change_the_tokens_that_come(lab: Any, run: Path) -> None:
    async with lab() as at:
        await at.press("3")
        set_knobs(at, max_new_tokens=100_000, temperature=1.5)
        await at.press("g")
        screen = at.app.screen
        await at.until(lambda: len(screen.completion.tokens) > 20)
        await at.press("t")
        assert screen.knobs.temperature == pytest.approx(1.45)
        await at.until(lambda: len(screen.completion.knob_changes) == 1)
        set_knobs(at, temperature=0.0)
        await at.until(lambda: len(screen.completion.knob_changes) == 2)
        assert [turn.temperature for _, turn in screen.completion.knob_changes] == pytest.approx([1.45, 0])
        cold_from = screen.completion.knob_changes[-1][0]
        await at.until(lambda: len(screen.completion.tokens) > cold_from + 30)
        await at.press("escape")
        completion = screen.completion
        assert completion.reason == "esc"
        warm, cold = completion.tokens[:20], completion.tokens[cold_from + 1 : cold_from + 30]
        assert all(token.id == token.alternatives[0].id for token in cold)
        assert not all(token.id == token.alternatives[0].id for token in warm)
        length = len(completion.tokens)
        await at.pilot.pause(0.3)
        assert len(completion.tokens) == length
        await at.sees("stopped by you")


async def test_continuing_goes_on_as_if_it_had_not_stopped(lab: Any, run: Path) -> None:
    async with lab() as at:
        await at.press("3")
        set_knobs(at, max_new_tokens=40)
        whole = await written(at, "g")
        set_knobs(at, max_new_tokens=20)
        part = await written(at, "g")
        assert len(part.tokens) == 20
        await at.press("c")
        await at.until(lambda: len(part.tokens) == 40 and part.reason)
        assert part.text == whole.text
        assert part.is_continued
        assert not whole.is_continued


async def test_a_text_is_continued_by_its_own_run_also_when_another_one_is_the_newest(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await at.press("3")
        set_knobs(at, max_new_tokens=10)
        text = await written(at, "g")
        assert text.run == "two"
        start = text.text
        os.utime(two_runs / "one" / "status.json")
        await at.press("c")
        await at.until(lambda: len(text.tokens) == 20 and text.reason)
        assert text.run == "two"
        assert text.text.startswith(start)


def test_a_text_is_continued_by_its_own_checkpoint_also_if_another_is_the_best_by_now(two_runs: Path) -> None:
    session: Any = SimpleNamespace(runs_dir=None)
    models = ModelCache(session)
    for which in ("best", "latest"):
        text = Completion("", Source("one", which), SamplingConfig(), "one", 20)
        assert models.load(text, lambda: True).step == 20
    rmtree(two_runs / "one" / "checkpoints" / "step-00000020")
    with pytest.raises(UserError, match="no checkpoint '20'"):
        models.load(text, lambda: True)


@pytest.mark.parametrize("is_old", [False, True], ids=["fingerprint", "text"])
async def test_a_text_is_not_continued_by_a_later_run_of_the_name_with_another_tokenizer(
    lab: Any, run: Path, is_old: bool
) -> None:
    async with lab() as at:
        await at.press("3")
        set_knobs(at, max_new_tokens=5)
        text = await written(at, "g")
        chosen = Alternative(text.tokens[4].id, text.tokens[4].text, 0.5)
    tokenizer = run / "tokenizer.json"
    content = json.loads(tokenizer.read_bytes())
    content["characters"] = "".join(chr(ord(each) + 256) for each in content["characters"])
    tokenizer.write_text(json.dumps(content), encoding="utf-8")
    os.utime(tokenizer.parent)
    if is_old:  # an earlier version wrote no fingerprint
        stored = completion_store.store_path()
        stored.write_text(stored.read_text().replace(f'"tokenizer": "{text.tokenizer}", ', ""))
    [text] = completion_store.load()[0]
    assert bool(text.tokenizer) != is_old
    models = ModelCache(SimpleNamespace(runs_dir=None))  # type: ignore[arg-type]
    for each in (text, branched(text, 4, chosen, text.knobs)):
        with pytest.raises(UserError, match="another tokenizer"):
            models.load(each, lambda: True)
        with pytest.raises(UserError, match="another tokenizer"):
            models.load_exact(each)


@pytest.mark.parametrize(
    ("texts", "is_its"),
    [
        (("a", "b", "\N{REPLACEMENT CHARACTER}"), True),  # it ends within a character
        (("a", "", ""), True),  # and here within a stop string too
        (("a", "c", ""), False),
    ],
)
def test_a_text_of_an_earlier_version_has_been_written_by_the_tokenizer_that_gives_it(
    texts: tuple[str, str, str], is_its: bool
) -> None:
    ids_texts = zip(b"ab\xc3", texts, strict=True)
    tokens = [Token(sample=0, id=id, text=text, probability=1.0, alternatives=()) for id, text in ids_texts]
    text = Completion("", Source(), SamplingConfig(), "a", 3, tokens=tokens)
    assert generation_job.has_written(ByteTokenizer(), text) == is_its


def test_a_text_is_not_continued_by_the_live_weights_of_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    other: Any = SimpleNamespace(run="b", step=5)
    session: Any = SimpleNamespace()
    monkeypatch.setattr(generation_job, "copy_live_weights", lambda session, is_wanted: other)
    models = ModelCache(session)
    text = Completion("", Source(None, LIVE), SamplingConfig(), "a", 3)
    with pytest.raises(UserError, match="this text is by a, and b is training now"):
        models.load(text, lambda: True)


async def test_the_cursor_shows_alternatives_and_another_one_leads_elsewhere(lab: Any, run: Path) -> None:
    async with lab() as at:
        await at.press("3")
        set_knobs(at, max_new_tokens=20, temperature=0.0)
        completion = await written(at, "g")
        await at.press("left", "left", "left")
        token = completion.tokens[17]
        assert at.app.screen.view.cursor == 17
        seen = at.seen()
        assert "token 18 of 20" in seen
        assert f"{token.probability:.3f}" in seen
        assert f"{token.alternatives[1].probability:.1%}" in seen
        await at.press("down")
        branch = await written(at, "enter")
        assert branch is not completion
        assert branch.branched_at == 17
        assert [each.id for each in branch.tokens[:17]] == [each.id for each in completion.tokens[:17]]
        assert branch.tokens[17].id == token.alternatives[1].id
        assert len(branch.tokens) == 18 + 20
        assert len(completion.tokens) == 20
        await at.press("left_square_bracket")
        assert at.app.screen.completion is completion


async def test_a_click_puts_the_cursor_on_a_token(lab: Any, run: Path) -> None:
    async with lab() as at:
        await at.press("3")
        set_knobs(at, max_new_tokens=20)
        await written(at, "i", *"ab", "f5")
        await at.pilot.click("TokenText", offset=(2, 0))  # behind the prompt's two characters
        await at.until(lambda: at.app.screen.view.cursor == 0)


async def test_an_answer_goes_into_its_own_text_whatever_is_shown(lab: Any, run: Path) -> None:
    async with lab() as at:
        await at.press("3")
        screen = at.app.screen
        set_knobs(at, max_new_tokens=10)
        short = await written(at, "g")
        text = short.text
        set_knobs(at, max_new_tokens=100_000)
        await at.press("g")
        long = screen.completion
        await at.until(lambda: len(long.tokens) > 20)
        await at.press("left_square_bracket")  # look at the earlier one while the new one is written
        length = len(long.tokens)
        await at.until(lambda: len(long.tokens) > length + 20)
        assert screen.completion is short
        assert short.text == text
        await at.sees("10 tokens")
        await at.press("1", "3")
        assert screen.completion is short
        await at.press("right_square_bracket", "escape")
        assert long.reason == "esc"


async def test_any_checkpoint_of_any_run_can_be_chosen(lab: Any, two_runs: Path) -> None:
    (two_runs / "broken" / "run.toml").mkdir(parents=True)
    async with lab() as at:
        await at.press("3", "f")
        await at.until(lambda: isinstance(at.app.screen, PickSource))
        await at.until(lambda: "two" in at.seen())
        await at.sees(*(f"step {step:>9}" for step in (20, 40, 60)))
        await at.paste("one 40")
        await at.press("enter")
        set_knobs(at, max_new_tokens=5)
        completion = await written(at, "g")
        assert (completion.run, completion.step) == ("one", 40)


def test_a_run_that_replaces_another_of_its_name_writes_with_its_own_weights(two_runs: Path) -> None:
    session: Any = SimpleNamespace(runs_dir=None)
    models, source = ModelCache(session), Source("two", "20")

    def layers() -> Any:
        model: Any = models.load_source(source, lambda: True).model
        return model.config.n_layer

    assert layers() == 2
    rmtree(two_runs / "two")
    copytree(two_runs / "one", two_runs / "two")
    assert layers() == 1


async def test_two_checkpoints_write_side_by_side_with_the_same_seed(lab: Any, run: Path) -> None:
    async with lab(size=(140, 40)) as at:
        await at.press("3")
        screen = at.app.screen
        await at.press("b")
        await at.paste("one 20")
        await at.press("enter")
        await at.until(lambda: at.app.screen is screen)
        set_knobs(at, max_new_tokens=25)
        await at.press("g")
        await at.until(lambda: len(screen.current) == 2 and all(completion.reason for completion in screen.current))
        left, right = screen.current
        assert (left.step, right.step) == (60, 20)
        assert left.knobs == right.knobs
        assert [pane.completion for pane in screen.panes] == [left, right]
        await at.sees("step 60")
        await at.sees("step 20")
        await at.press("w", "left")
        assert screen.completion is right
        await at.press("escape", "b")  # one side again, for the next text
        await at.press("g")
        await at.until(lambda: len(screen.current) == 1 and screen.completion.reason)
        assert len(screen.panes) == 1


async def test_a_text_stays_where_another_is_put_beside_it_and_when_it_is_shown_alone_again(
    lab: Any, run: Path
) -> None:
    async with lab(size=(140, 40)) as at:
        await at.press("3")
        set_knobs(at, max_new_tokens=20)
        completion = await written(at, "g")
        screen = at.app.screen
        await at.press("b")
        await at.paste("one 20")
        await at.press("enter")
        await at.until(lambda: len(screen.panes) == 2)
        assert [pane.completion for pane in screen.panes] == [completion, None]
        await at.sees("from one · step 20", completion.text.split("\n")[0][:10])
        await at.press("g")
        await at.until(lambda: len(screen.current) == 2 and all(each.reason for each in screen.current))
        left, right = screen.current
        await at.press("w", "b")
        assert [pane.completion for pane in screen.panes] == [right]
        await at.press("left_square_bracket", "right_square_bracket")
        assert [pane.completion for pane in screen.panes] == [left, right]


async def test_other_weights_leave_the_text_and_say_that_they_write_the_next_one(lab: Any, run: Path) -> None:
    async with lab() as at:
        await at.press("3")
        set_knobs(at, max_new_tokens=5)
        completion = await written(at, "g")
        await at.press("f")
        await at.paste("one 20")
        await at.press("enter")
        await at.sees("next: one · step 20")
        assert at.app.screen.completion is completion


async def test_the_cursor_is_in_sight_at_80_by_24(lab: Any, run: Path) -> None:
    async with lab(size=(80, 24)) as at:
        await at.press("3")
        set_knobs(at, max_new_tokens=900)
        await written(at, "g")
        view = at.app.screen.view
        for key in ("left", "home", "end"):
            await at.press(key)
            line = view._flow.line_of(view.cursor)
            await at.until(lambda line=line: 0 <= line - view.scroll_offset.y < view.scrollable_content_region.height)
            await at.sees("token 1 of" if key == "home" else "token 900 of")


async def test_shades_have_a_legend_and_a_knob_that_does_nothing_says_so(lab: Any, run: Path) -> None:
    async with lab() as at:
        await at.press("3")
        set_knobs(at, max_new_tokens=5)
        completion = await written(at, "g")
        await at.sees("50%+", "20%+", "5%+", "less", f"200 of {completion.vocab_size}: no effect")
        await at.press("h")
        await at.until(lambda: "50%+" not in at.seen())
        set_knobs(at, temperature=0.05)
        await at.press(*"K" * 3, "t")
        await at.until(lambda: "no effect" not in at.seen() or "1337: no effect at T 0" in at.seen())


async def test_a_token_has_a_bar_of_the_model_and_one_that_moves_with_the_knobs(lab: Any, run: Path) -> None:
    async with lab() as at:
        await at.press("3")
        set_knobs(at, max_new_tokens=5, temperature=1.0, top_k=0)
        completion = await written(at, "g")
        await at.press("right", "right")
        token, screen = completion.tokens[1], at.app.screen
        await at.until(lambda: screen.lookup.distribution is not None)
        after = screen.lookup.distribution.probabilities(screen.knobs)
        assert after[token.id] == pytest.approx(token.probability, rel=1e-3)  # these knobs change nothing
        await at.sees("model", "after knobs")
        set_knobs(at, temperature=0.05)
        await at.press("t")
        await at.until(lambda: "100.0%" in at.seen())  # at temperature 0 the likeliest has all
        assert f"{token.alternatives[0].probability:.1%}" in at.seen()


async def test_a_text_of_an_earlier_session_has_its_alternatives_again(lab: Any, run: Path) -> None:
    async with lab() as at:
        await at.press("3")
        set_knobs(at, max_new_tokens=5)
        completion = await written(at, "g")
    async with lab() as at:
        await at.press("3")
        screen = at.app.screen
        await at.until(lambda: screen.completions.groups)
        await at.press("left_square_bracket", "right")
        await at.sees(f"{completion.tokens[0].alternatives[0].probability:.1%}", "after knobs")


async def test_where_a_knob_was_turned_is_marked_in_the_text(lab: Any, run: Path) -> None:
    async with lab() as at:
        await at.press("3")
        set_knobs(at, max_new_tokens=100_000)
        await at.press("g")
        screen = at.app.screen
        await at.until(lambda: len(screen.completion.tokens) > 20)
        await at.press("t")
        await at.until(
            lambda: (
                screen.completion.knob_changes and len(screen.completion.tokens) > screen.completion.knob_changes[0][0]
            )
        )
        await at.press("escape")
        screen.view.move_cursor(screen.completion.knob_changes[0][0])
        screen.repaint()
        await at.sees(KNOBS_CHANGED, "from here on: temperature=0.75")
        cells = [cell for line in screen.view._flow.lines for cell in line]
        assert [cell.piece for cell in cells if cell.is_mark] == [screen.completion.knob_changes[0][0]]
        assert (
            "".join(cell.text for cell in cells if not cell.is_mark and cell.piece >= 0).split()
            == screen.completion.text.split()
        )


async def test_the_weights_in_training_are_sampled_without_stopping_the_training(lab: Any) -> None:
    async with lab(max_iters=100_000, eval_interval=50_000, sample_interval=0) as at:
        await at.press("g")
        await at.until(lambda: at.session.history and at.session.history.step > 5)
        await at.press("3")
        screen = at.app.screen
        assert screen.sources == [Source(None, LIVE)]
        set_knobs(at, max_new_tokens=20)
        first = await written(at, "g")
        assert first.step is not None
        assert first.step > 5
        assert len(first.tokens) == 20
        await at.until(lambda: at.session.history.step > first.step)
        second = await written(at, "g")
        assert second.step is not None
        assert second.step > first.step
        assert at.session.is_training
        await at.sees("live weights")


async def test_live_weights_without_a_training_and_an_empty_home_are_one_line(lab: Any) -> None:
    async with lab() as at:
        await at.press("3")
        completion = await written(at, "g")
        assert completion.reason == "error"
        await at.sees("no runs in")
        at.app.screen.use_source(Source(None, LIVE))
        await written(at, "g")
        await at.sees("no run is training")


async def test_a_prompt_that_the_model_cannot_read_is_one_line(lab: Any, run: Path) -> None:
    async with lab() as at:
        await at.press("3")
        at.app.screen.query_one(Prompt).text = "π"
        await written(at, "g")
        await at.sees("unknown character 'π'")


async def test_the_history_is_exported_as_markdown_and_json(lab: Any, run: Path, tmp_path: Path) -> None:
    async with lab() as at:
        await at.press("3")
        set_knobs(at, max_new_tokens=10)
        group = [await written(at, "g"), await written(at, "a")]
        for name in ("all.json", "all.md"):
            await at.press("e")
            at.app.screen.query_one("Input").value = str(tmp_path / name)
            await at.press("enter")
            await at.until(lambda: not isinstance(at.app.screen, AskValue))
        exported = json.loads((tmp_path / "all.json").read_text())["rounds"]
        assert [each[0]["text"] for each in exported] == [completion.text for completion in group]
        assert [each[0]["knobs"]["seed"] for each in exported] == [1337, 1338]
        assert {(each[0]["run"], each[0]["step"]) for each in exported} == {("one", 60)}
        markdown = (tmp_path / "all.md").read_text()
        assert all(completion.text in markdown for completion in group)
        assert "seed=1338" in markdown
        with pytest.raises(UserError, match=r"all\.md: it already exists; choose another place"):
            export([], tmp_path / "all.md")
        assert (tmp_path / "all.md").read_text() == markdown
        await at.press("e")
        at.app.screen.query_one("Input").value = str(tmp_path / "all.txt")
        await at.press("enter")
        await at.sees("must end in .md")


async def test_an_earlier_text_s_prompt_and_knobs_are_taken_over(lab: Any, run: Path) -> None:
    async with lab() as at:
        await at.press("3")
        set_knobs(at, max_new_tokens=5, temperature=0.5)
        await written(at, "i", *"ab", "f5")
        set_knobs(at, temperature=1.5)
        at.app.screen.query_one(Prompt).text = "other"
        await written(at, "g")
        await at.press("left_square_bracket", "u")
        assert at.app.screen.query_one(Prompt).text == "ab"
        assert at.app.screen.knobs.temperature == 0.5


async def test_a_prompt_that_an_earlier_one_replaced_is_brought_back_by_undo(lab: Any) -> None:
    async with lab() as at:
        await at.press("3")
        screen = at.app.screen
        prompt = screen.query_one(Prompt)
        for earlier in ("ab", "a", ""):
            screen.completions.add([Completion(earlier, Source(), SamplingConfig(), reason="esc")])
            await at.press("i", "ctrl+u", *"other", "escape", "u")
            assert prompt.text == earlier
            await at.press("i", "ctrl+underscore")
            assert prompt.text == "other"
            await at.press("escape")


@pytest.mark.parametrize(
    ("source", "taken"),
    [(Source(), Source("one", "40")), (Source(None, LIVE), Source("one", "latest"))],
    ids=["checkpoint", "live"],
)
async def test_the_weights_that_wrote_an_earlier_text_are_taken_over(lab: Any, source: Source, taken: Source) -> None:
    async with lab() as at:
        await at.press("3")
        screen = at.app.screen
        screen.completions.add([Completion("ab", source, SamplingConfig(), "one", 40, reason="esc")])
        await at.press("u")
        assert screen.sources == [taken]


async def test_after_the_last_seed_comes_the_first(lab: Any) -> None:
    last = sampling_settings()["seed"].high
    async with lab() as at:
        await at.press("3")
        screen = at.app.screen
        screen.completions.add([Completion("", Source(), SamplingConfig(), reason="esc")])
        set_knobs(at, seed=last)
        await at.press("S")
        assert screen.knobs.seed == last
        await at.press("a")
        assert screen.completion.knobs.seed == 0


HOSTILE = [
    "[bold]",
    "[/x]",
    "\x1b]0;owned\x07",
    "\x00",
    "\u202egnp.exe",
    "🙂",
    "👩\u200d👧",
    "\ufffd",
    "\udce2",
    "e\u0301",
    "\x9b2J",
]


async def test_hostile_output_is_harmless_text(lab: Any, run: Path) -> None:
    async with lab(size=(80, 24)) as at:
        await at.press("3")
        screen = at.app.screen
        completion = Completion(
            "[red]p\x1b[2J", Source("one", "60"), SamplingConfig(), run="one", step=60, reason="length"
        )
        for number, text in enumerate(HOSTILE):
            others = tuple(Alternative(100 + i, other, 0.1) for i, other in enumerate(HOSTILE[:5]))
            completion.tokens.append(Token(sample=0, id=number, text=text, probability=0.3, alternatives=others))
        screen.completions.groups.append([completion])
        screen.completions.shown = 0
        screen.repaint()
        await at.press("left")
        for _ in HOSTILE:
            seen = at.seen()
            assert not [c for c in seen if (ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0]
            assert not set(seen) & set("\u202e\u200d\u200f\udce2")
            await at.press("left")
        for shown in ("[red]p␛[2J", "[bold][/x]", "␛]0;owned␇", "␀", "\\u202e", "🙂"):
            assert shown in at.seen().replace("\n", "")


async def test_shades_differ_in_256_colours_and_without_colours(lab: Any) -> None:
    async with lab() as at:
        await at.press("3")
        view = at.app.screen.view
        for theme in ("dark", "light", "ansi"):
            at.app.theme = NAMES[theme]
            await at.settle()
            styles = [view.rich_style, *(view.get_component_rich_style(f"tokentext--shade-{n}") for n in (1, 2, 3))]
            if theme == "ansi":
                shades = {(style.italic, style.underline, style.bold) for style in styles}
            else:
                shades = {style.bgcolor.downgrade(ColorSystem.EIGHT_BIT).number for style in styles}
            assert len(shades) == 4, theme


def test_knobs_step_along_their_scales_and_switch_off_at_the_end() -> None:
    knobs = SamplingConfig()
    assert turn(knobs, BY_NAME["temperature"], 1).temperature == pytest.approx(0.85)
    assert turn(dataclasses.replace(knobs, top_k=1000), BY_NAME["top_k"], 1).top_k == 0
    assert turn(dataclasses.replace(knobs, top_k=0), BY_NAME["top_k"], -1).top_k == 1000
    assert turn(dataclasses.replace(knobs, top_p=0.99), BY_NAME["top_p"], 1).top_p == 1
    assert turn(dataclasses.replace(knobs, min_p=0.01), BY_NAME["min_p"], -1).min_p == 0
    assert turn(dataclasses.replace(knobs, temperature=0.0), BY_NAME["temperature"], -1).temperature == 0
    assert turn(dataclasses.replace(knobs, temperature=0.83), BY_NAME["temperature"], 1).temperature == 0.85
    assert turn(dataclasses.replace(knobs, temperature=0.83), BY_NAME["temperature"], -1).temperature == 0.8
    assert turn(knobs, BY_NAME["seed"], -1).seed == 1336


@pytest.mark.parametrize(
    ("name", "typed", "down", "up"),
    [
        ("min_p", 0.03, 0.02, 0.05),
        ("min_p", 0.005, 0.0, 0.01),
        ("temperature", 2.5, 2.0, 2.5),
        ("max_new_tokens", 20_000, 10_000, 20_000),
        ("max_new_tokens", 5, 5, 10),
        ("repetition_penalty", 0.5, 0.5, 0.8),
        ("top_k", 2000, 1000, 0),
        ("top_p", 0.995, 0.99, 1.0),
    ],
)
def test_a_typed_value_between_or_beyond_the_scale_never_turns_the_wrong_way(
    name: str, typed: Any, down: float, up: float
) -> None:
    knobs = dataclasses.replace(SamplingConfig(), **{name: typed})
    turned = [getattr(turn(knobs, BY_NAME[name], by), name) for by in (-1, 1)]
    assert turned == [down, up]


def test_typed_knobs_are_checked_and_stop_texts_split() -> None:
    knobs = SamplingConfig()
    assert set_typed(knobs, "top_k", "40").top_k == 40
    assert set_typed(dataclasses.replace(knobs, top_p=0.5), "top_p", "off").top_p == 1
    assert set_typed(knobs, "stop", "\\n\\n|END").stop == ("\n\n", "END")
    with pytest.raises(SettingError, match="min_p"):
        set_typed(knobs, "min_p", "3")


async def test_a_knob_s_value_is_typed_where_it_stands(lab: Any, run: Path) -> None:
    async with lab() as at:
        await at.press("3")
        await at.pilot.click("#top_k")
        await at.until(lambda: isinstance(at.app.screen, AskValue) and at.app.screen.query("Input"))
        at.app.screen.query_one("Input").value = "-4"
        await at.press("enter")
        await at.sees("top_k=-4: has to be at least 0")
        at.app.screen.query_one("Input").value = "42"
        await at.press("enter")
        assert at.app.screen.knobs.top_k == 42
        await at.press("x")
        at.app.screen.query_one("Input").value = "\\n"
        await at.press("enter")
        assert at.app.screen.knobs.stop == ("\n",)
        await scroll_up(at, "stop")
        await scroll_up(at, "top_k")
        await at.until(lambda: at.app.screen.knobs.top_k == 50)
        assert at.app.screen.knobs.stop == ("\n",)


def test_shades_go_from_sure_to_surprised() -> None:
    assert [shade(p) for p in (1.0, 0.5, 0.49, 0.2, 0.19, 0.05, 0.04, 0.0)] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_lines_break_at_spaces_and_know_their_pieces() -> None:
    flow = TextFlow(12)
    for piece, text in enumerate(["the qu", "ick brown", " fox\n", "", "jumped"]):
        flow.add(text, piece)
    lines = ["".join(cell.text for cell in line).rstrip() for line in flow.lines]
    assert lines == ["the quick", "brown fox", "jumped"]
    assert [flow.line_of(piece) for piece in range(5)] == [0, 0, 1, 2, 2]
    assert (flow.piece_at(0, 0), flow.piece_at(0, 6), flow.piece_at(1, 6), flow.piece_at(2, 40)) == (0, 1, 2, None)


@pytest.mark.parametrize("width", [3, 7, 20])
def test_no_line_is_wider_than_the_text_area_and_nothing_is_lost(width: int) -> None:
    text = "wide 漢字漢字 emoji 🙂🙂🙂 and averyveryverylongwordwithoutend\n\n  indented\n"
    flow = TextFlow(width)
    for piece, character in enumerate(text):
        flow.add(character, piece)
    assert all(sum(cell.width for cell in line[:-1]) <= width for line in flow.lines)
    assert "".join(cell.text for line in flow.lines for cell in line) == text.replace("\n", " ")


def test_pasted_control_characters_are_left_out() -> None:
    assert without_control_characters("a\r\nb\x1b[2J\x00\tc\u202e") == "a\nb[2J\tc"


def test_a_seed_is_shown_with_all_its_digits() -> None:
    assert "seed=20240131" in settings_text(SamplingConfig(seed=20240131)).split(", ")


def test_a_line_of_the_history_names_the_run_before_the_settings() -> None:
    """At 120 columns a line has 41 cells: 5 + 1 + 8 + 1 for time and prompt, 7 for T 0.8 and 10 for seed 1337."""
    knobs = SamplingConfig(temperature=0.8, seed=1337)
    began = time.mktime((2026, 3, 14, 12, 0, 0, 0, 0, -1))
    completion = Completion(
        "O\nRomeo, Romeo", Source("shakespeare", "150"), knobs, "shakespeare", 150, started_at=began
    )
    start = "03-14 O\\nRome… "
    weights = "shakespeare · 150"
    assert summary([completion], 60) == f"{start}T 0.8 seed 1337 {weights}"
    assert summary([completion], 41) == f"{start}T 0.8 {weights}"
    assert summary([completion], 36) == f"{start}{weights}"
    assert summary([completion], 30) == f"{start}shakespe… · 150"
    other = dataclasses.replace(completion, step=1000)
    assert summary([completion, other], 42) == f"{start}{weights} and 1,000"


def test_a_text_is_not_continued_by_a_later_run_of_the_name_with_other_weights(two_runs: Path) -> None:
    models = ModelCache(SimpleNamespace(runs_dir=None))  # type: ignore[arg-type]
    text = Completion("", Source("one", "20"), SamplingConfig(), "one", 20)
    text.val_loss = models.load(text, lambda: True).val_loss
    assert text.val_loss is not None
    assert models.load(text, lambda: True).step == 20
    text.val_loss += 0.1
    with pytest.raises(UserError, match="an earlier run one with other weights"):
        models.load(text, lambda: True)
