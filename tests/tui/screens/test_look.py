"""The Look screen: its drawings from made-up figures, and the screen over real runs, beside inspection's figures."""

import math
import shutil
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from rich.cells import cell_len

from nanogpt import runs
from nanogpt.config import ARCHITECTURE, SamplingConfig, component, resolve
from nanogpt.config.components import Capabilities
from nanogpt.inspection.attention import HeadScores, attention_of, score_heads
from nanogpt.inspection.embeddings import embeddings_of, map_of, nearest_tokens
from nanogpt.inspection.logit_lens import logit_lens
from nanogpt.inspection.token_losses import TokenLosses
from nanogpt.runs.load import load_model
from nanogpt.tokenizers.char import Tokenizer as CharTokenizer
from nanogpt.training import Save, Stop
from nanogpt_tui.screens.look.attention_view import caption, heat
from nanogpt_tui.screens.look.embeddings_view import embeddings_view, places
from nanogpt_tui.screens.look.losses_view import change, losses_view, mean_at, ranges
from nanogpt_tui.screens.look.parts import (
    Frame,
    bars,
    beside,
    first_shown,
    fit,
    short_layers,
    token_label,
    token_lines,
)
from nanogpt_tui.session import inspector as inspecting
from nanogpt_tui.session.completions import LIVE, Completion, Source
from nanogpt_tui.session.inspector import EmbeddingsFound, LensFound, LossesFound, Request, losses_of
from nanogpt_tui.widgets.shades import shade, shade_legend, shade_lines
from tests.made_events import started
from tests.tui.conftest import SMALL

LONG = {"max_iters": 1_000_000, "eval_interval": 500_000, "eval_iters": 1, "sample_interval": 0}


@pytest.fixture
def with_data(two_runs: Path, trained: Path, home: Path) -> Path:
    """The two runs with their data set; "one" is the newest."""
    copytree(trained.parent / "data", home / "data")
    (two_runs / "one" / "note.txt").write_text("the newest")
    return two_runs


# ---- drawings


def test_a_shade_grows_with_the_root_of_a_share() -> None:
    # five shades: the root of 1/16 is a quarter of the way, that of 1/4 half
    assert [shade(share, False) for share in (0.0, 1 / 16, 1 / 4, 9 / 16, 1.0)] == list(" ░▒▓█")
    shares = np.linspace(0, 1, 60, dtype=np.float32).reshape(2, 30)
    for ascii_only in (False, True):
        assert shade_lines(shares, ascii_only) == [
            "".join(shade(s, ascii_only) for s in row) for row in shares.tolist()
        ]
    assert shade_legend(False) == "░ 6%  ▒ 25%  ▓ 56%  █ 100%"
    assert shade_legend(True).isascii()
    assert len({shade(share, True) for share in np.linspace(0, 1, 100)}) == 10


def test_a_tiny_heat_map_has_the_largest_weight_of_each_part() -> None:
    weights = np.zeros((4, 4), np.float32)
    weights[0, 0] = weights[3, 1] = 1.0
    assert heat(weights, 2, 2, False) == ["█ ", "█ "]
    assert heat(weights[:1, :1], 3, 2, False) == ["███", "███"]


def test_a_head_is_captioned_with_its_kind() -> None:
    scores = HeadScores("h.0.attn", 3, {"previous token": 0.9, "first token": 0.1, "induction": 0.0})
    assert caption(3, scores, 8) == "3 prev"
    assert caption(3, scores, 4) == "3p"
    assert caption(3, None, 4) == "3"


def test_layers_lose_the_end_that_they_have_in_common() -> None:
    assert short_layers(["h.0.attn", "h.1.attn"]) == ["h.0", "h.1"]
    assert short_layers(["h.0.attn"]) == ["h.0.attn"]
    assert short_layers(["a", "b.c"]) == ["a", "b.c"]


def test_the_chosen_place_is_always_among_those_that_are_shown() -> None:
    for total in range(1, 9):
        for shown in range(1, total + 1):
            for at in range(total):
                first = first_shown(at, shown, total)
                assert 0 <= first <= at < first + shown <= total


def test_the_line_of_tokens_shows_the_cursor_and_its_marks() -> None:
    tokens, marks = token_lines(["ab", "c", "def"], 1, 20, ["▒", " ", "█"])
    assert tokens.plain == "abcdef"
    assert marks.plain == "▒▒▲███"
    labels = [f"{number:03}" for number in range(100)]
    for cursor in (0, 50, 99):
        tokens, marks = token_lines(labels, cursor, 30)
        assert labels[cursor] in tokens.plain
        assert tokens.plain.index(labels[cursor]) == marks.plain.index("▲")
        assert len(tokens.plain) <= 30


def test_bars_and_columns_keep_their_width() -> None:
    lines = bars([("a", 1.0, "100%"), ("日本", 0.5, "50%")], 20)
    assert {line.cell_length for line in lines} == {20}
    assert lines[0].plain.count("━") == 2 * lines[1].plain.count("━")
    assert fit("日本語", 5).rstrip() == "日本…"
    joined = beside(lines[:1], lines, 20)
    assert [line.plain.index(line.plain.strip()[0]) for line in joined] == [0, 23]


def test_positions_are_in_ranges_that_double() -> None:
    assert list(ranges(10)) == [(1, 1), (2, 2), (3, 4), (5, 8), (9, 10)]
    by_position = np.array([4.0, 3.0, 2.0, 1.0, np.nan])
    assert mean_at(by_position, 3, 4) == 1.5
    assert math.isnan(mean_at(by_position, 5, 5))
    assert change(1.0, 1.5).plain.strip() == "-0.500"
    assert change(1.0, math.nan).plain.strip() == ""


def test_the_map_has_its_second_axis_upwards() -> None:
    assert places(np.array([[0.0, 0.0], [1.0, 1.0], [0.5, 1.0]], np.float32), 11, 5) == ([0, 10, 5], [4, 0, 0])


@pytest.mark.parametrize("mark", ["\u0301", "\u093f", "\u0e31"])  # an accent, a sign of Hindi, one of Thai
def test_a_token_that_is_a_combining_mark_alone_has_a_cell_of_its_own(mark: str) -> None:
    tokenizer = CharTokenizer(f"a{mark}")
    labels = tuple(token_label(tokenizer, id, False) for id in range(2))
    assert mark in labels[1]
    width = cell_len(labels[1])
    assert width > 0
    _, marks = token_lines([labels[1], "a"], 0, 20, ["▒", "█"])
    assert marks.plain == "▲" + " " * (width - 1) + "█"
    points = np.array([[0.0, 0.0], [1.0, 1.0]], np.float32)
    found = EmbeddingsFound(points, 1.0, {0: [(1, 0.5)], 1: [(0, 0.5)]})
    for token in range(2):
        frame = Frame(labels, token, 0, 0, 80, 12, ascii_only=False)
        assert mark in embeddings_view(found, tokenizer, (0, 1), frame).plain


def test_losses_of_zero_are_shown_without_bars() -> None:
    """In float32 a prediction that is certain costs exactly nothing."""
    losses = TokenLosses(np.zeros(4), np.zeros(1), np.array([8]))
    frame = Frame(("a",), 0, 0, 0, 80, 12, ascii_only=False)
    shown = losses_view(LossesFound(losses, None, 0), CharTokenizer("a"), frame).plain
    assert "0.000" in shown
    assert "0.0%" in shown
    assert "━" not in shown


# ---- the screen


async def open_look(at: Any) -> Any:
    """Opens Look from Train, and waits for its first figures."""
    await at.app.switch_mode("train")
    await at.until(lambda: at.session.history and at.session.history.saves)
    await at.press("I")
    await at.until(lambda: type(at.app.screen).__name__ == "LookScreen" and at.app.screen.inspection is not None)
    return at.app.screen


async def switch(at: Any, view: str) -> Any:
    """Goes to a view, and returns its figures."""
    screen = at.app.screen
    while screen._view != view:
        await at.press("v")
    await at.until(lambda: screen.inspection.request.view == view and screen.inspection.request.source == screen.source)
    return screen.inspection.found


async def test_every_view_shows_the_figures_of_inspection(lab: Any, with_data: Path) -> None:
    async with lab() as at:
        screen = await open_look(at)
        ids = screen.inspection.ids
        loaded = load_model(str(screen.inspection.folder), str(screen.inspection.step))
        sequence = torch.tensor(ids)
        found = await switch(at, "attention")
        layers = attention_of(loaded.model, sequence)
        assert [each.name for each in found.layers] == [each.name for each in layers]
        assert all(np.array_equal(one.weights, other.weights) for one, other in zip(found.layers, layers, strict=True))
        assert list(found.scores.values()) == score_heads(loaded.model)
        most = int(layers[0].weights[0][-1].argmax())
        await at.sees(f"{layers[0].name} head 0", f"{layers[0].weights[0][-1][most]:.0%}")
        await at.press("h")
        await at.sees(f"{layers[0].name} head 1", f"{layers[0].weights[1][-1].max():.0%}")

        found = await switch(at, "lens")
        assert isinstance(found, LensFound)
        lens = logit_lens(loaded.model, sequence, inspecting.TOP)
        assert np.array_equal(found.layers[0].probabilities, lens[0].probabilities)
        await at.sees(f"{lens[0].probabilities[-1, 0]:.1%}")
        await at.press("left")
        await at.sees(f"{lens[0].target_probability[-1]:.1%}", "which does come next")

        found = await switch(at, "embeddings")
        assert isinstance(found, EmbeddingsFound)
        vectors = embeddings_of(loaded.model)
        points, share = map_of(vectors)
        assert np.array_equal(found.points, points)
        (_, similarity), *_ = nearest_tokens(vectors, ids[-2])
        await at.sees(f"{share:.0%} of the variance", f"{similarity:.2f}")

        found = await switch(at, "losses")
        assert isinstance(found, LossesFound)
        losses = losses_of(loaded, screen.inspection.folder, lambda: True)
        assert np.array_equal(found.losses.by_position, losses.by_position)
        (_, mean, count), *_ = losses.costliest()
        await at.sees(f"{losses.by_position[0]:.3f}", f"{mean:.3f}", f"{count:,}")


async def test_the_checkpoints_of_a_run_are_scrubbed_and_compared(lab: Any, with_data: Path) -> None:
    async with lab() as at:
        at.session.show_run(with_data / "one")
        await at.until(lambda: at.session.history and at.session.history.run == "one")
        screen = await open_look(at)
        await at.sees("one · step 60", "3 of 3")
        first = screen.inspection.found.layers[0].weights
        await at.press("[")
        await at.sees("one · step 40", "2 of 3")
        assert not np.array_equal(screen.inspection.found.layers[0].weights, first)
        found = await switch(at, "losses")
        assert found.before_step == 20
        earlier = losses_of(load_model(str(with_data / "one"), "20"), with_data / "one", lambda: True)
        assert np.array_equal(found.before.by_token, earlier.by_token)
        await at.sees("change: since step 20", f"{found.losses.by_position[0] - earlier.by_position[0]:+.3f}")
        await at.press("c", "]")
        await at.sees("one · step 60", "change: since step 40")
        await at.press("escape")
        await at.until(lambda: len(at.app.screen_stack) == 1)


async def test_checkpoints_that_were_removed_are_not_waited_for(lab: Any, with_data: Path) -> None:
    async with lab() as at:
        at.session.show_run(with_data / "one")
        await at.until(lambda: at.session.history and at.session.history.run == "one")
        screen = await open_look(at)
        await at.sees("one · step 60")
        shutil.rmtree(with_data / "one" / "checkpoints")
        await at.press("[")
        await at.until(lambda: screen.inspector.error)
        about = str(screen.query_one("#about").render())
        assert "one · step 60" in about
        assert "…" not in about


async def test_after_no_checkpoint_was_found_the_next_one_is_looked_at(lab: Any, with_data: Path) -> None:
    folder = with_data / "one"
    (folder / "checkpoints").rename(folder / "later")
    async with lab() as at:
        at.session.show_run(folder)
        await at.until(lambda: at.session.history and at.session.history.run == "one" and at.session.history.saves)
        await at.app.switch_mode("train")
        await at.press("I")
        await at.sees("no checkpoint yet")
        (folder / "later").rename(folder / "checkpoints")
        at.session.history.add(at.session.history.saves[-1])
        at.app.training_changed()
        await at.sees("one · step 60", "head 0")


async def test_the_live_weights_are_looked_at_again_while_they_are_trained(lab: Any) -> None:
    async with lab(**LONG) as at:
        at.session.quick_start(at.app.settings.quickstart)
        await at.until(lambda: at.session.history.step > 3)
        await at.press("I")
        await at.sees("live weights, step", "head 0")
        first = at.app.screen.inspection
        assert first.request.source.which == LIVE
        await at.until(lambda: at.app.screen.inspection.step > first.step)
        assert not np.array_equal(at.app.screen.inspection.found.layers[0].weights, first.found.layers[0].weights)
        at.session.send(Stop(save=True))
        await at.until(lambda: not at.session.is_training)
        folder = at.session.folder
        await at.sees(f"{folder.name} · step {runs.list_checkpoints(folder)[-1].step:,}", "head 0")


async def test_a_prompt_is_edited_and_one_that_the_model_cannot_read_is_one_line(
    lab: Any, with_data: Path, text: str
) -> None:
    async with lab() as at:
        screen = await open_look(at)
        prompt = text[20:30].replace("\n", " ")
        await at.press("i", "ctrl+u")
        await at.paste(prompt)
        await at.press("enter")
        await at.until(lambda: screen.inspection.prompt == prompt)
        assert screen.inspection.tokenizer.decode(list(screen.inspection.ids)) == prompt
        await at.press("home")
        await at.until(lambda: screen._cursor() == 0)
        await at.press("i", "ctrl+u")
        await at.paste("€[bold]")
        await at.press("enter")
        await at.sees("nknown character")
        assert "Traceback" not in at.seen()


async def test_a_prompt_that_is_confirmed_unchanged_stays_as_it_is(lab: Any, with_data: Path) -> None:
    prompt = "a backslash and a letter, \\n\nand a line break"
    async with lab() as at:
        await at.app.look(Source("one", "40"), prompt)
        screen = at.app.screen
        await at.press("i")
        await at.sees("Look at this prompt", "letter, \\\\n\\nand a line")
        await at.press("enter")
        await at.until(lambda: at.app.screen is screen)
        assert screen._prompt == prompt


async def test_a_text_of_sample_is_looked_at_with_its_weights(lab: Any, with_data: Path) -> None:
    async with lab() as at:
        await at.press("3")
        screen = at.app.screen
        screen.use_source(Source("one", "40"))
        await at.press("i", *"ab", "enter")
        await at.until(lambda: screen.completion is not None and screen.completion.reason)
        await at.press("home", "I")
        await at.until(lambda: type(at.app.screen).__name__ == "LookScreen" and at.app.screen.inspection is not None)
        inspection = at.app.screen.inspection
        assert (inspection.run, inspection.step) == ("one", 40)
        assert inspection.prompt == "ab" + screen.completion.tokens[0].text


async def test_a_text_by_the_live_weights_of_another_run_is_looked_at_with_that_run(lab: Any, with_data: Path) -> None:
    async with lab() as at:
        await at.until(lambda: at.session.folder is not None and at.session.folder.name == "two")
        await at.press("3")
        text = Completion("ab", Source(None, LIVE), SamplingConfig(), "one", 3, reason="esc")
        at.app.screen.completions.add([text])
        await at.press("I")
        await at.until(lambda: type(at.app.screen).__name__ == "LookScreen" and at.app.screen.inspection is not None)
        assert at.app.screen.inspection.run == "one"


async def test_a_model_without_attention_says_so_in_one_line(
    lab: Any, with_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(component(ARCHITECTURE, "gpt2"), "capabilities", Capabilities(logit_lens=True))
    async with lab() as at:
        await open_look(at)
        await at.sees("Attention is not shown for the architecture gpt2")
        await switch(at, "lens")
        await at.sees("h.0", "next")
        await switch(at, "embeddings")
        await at.sees("Embeddings are not shown for the architecture gpt2")


async def test_without_the_data_set_a_prompt_is_asked_for(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await open_look(at)
        await at.sees("The data set of the run is not here")


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_every_line_fits(lab: Any, with_data: Path, size: tuple[int, int]) -> None:
    async with lab(size=size) as at:
        screen = await open_look(at)
        for view in ("attention", "lens", "embeddings", "losses"):
            await switch(at, view)
            lines = screen.query_one("#view").render().plain.split("\n")
            assert len(lines) <= screen.query_one("#view").size.height
            assert max(map(len, lines)) <= screen.query_one("#view").size.width


def shown_request(inspector: inspecting.Inspector) -> Request | None:
    return inspector.shown.request if inspector.shown is not None else None


async def test_of_several_requests_the_last_one_is_answered(lab: Any, with_data: Path) -> None:
    async with lab() as at:
        answered: list[Request | None] = []
        inspector = inspecting.Inspector(at.session, lambda: answered.append(shown_request(inspector)))
        await at.until(lambda: at.session.history and at.session.history.reading is None)
        requests = [Request(Source("one", step), "attention") for step in ("20", "40", "60")]
        for request in requests:
            inspector.request(request)
        await at.until(lambda: answered)
        assert answered == requests[-1:]
        inspector.request(requests[0])
        await at.until(lambda: len(answered) == 2)
        inspector.request(requests[2])  # kept
        assert answered[-1] == requests[2]
        inspector.request(Request(Source("nowhere"), "lens"))
        await at.until(lambda: inspector.error)
        assert "nowhere" in inspector.error


async def test_a_step_that_is_trained_anew_is_computed_anew(lab: Any, with_data: Path) -> None:
    async with lab() as at:
        await at.until(lambda: at.session.history and at.session.history.reading is None)
        found: list[Any] = []
        inspector = inspecting.Inspector(at.session, lambda: found.append(inspector.shown and inspector.shown.found))
        request = Request(Source("one", "20"), "losses")
        inspector.request(request)
        await at.until(lambda: len(found) == 1)
        shutil.rmtree(with_data / "one")
        copytree(with_data / "two", with_data / "one")
        at.session.history.add(started())
        inspector.request(request)
        await at.until(lambda: len(found) == 2)
        expected = losses_of(load_model(str(with_data / "one"), "20"), with_data / "one", lambda: True)
        assert np.array_equal(found[1].losses.by_token, expected.by_token)
        assert not np.array_equal(found[0].losses.by_token, expected.by_token)


async def test_a_checkpoint_is_looked_at_again_after_a_rollback(lab: Any, with_data: Path) -> None:
    async with lab() as at:
        await at.until(lambda: at.session.history and at.session.history.reading is None)
        screen = await open_look(at)
        first = screen.inspection
        shutil.rmtree(first.folder / "checkpoints")
        other = with_data / ("two" if first.run == "one" else "one")
        copytree(other / "checkpoints", first.folder / "checkpoints")
        at.session.history.add(started())
        at.app.training_changed()
        await at.until(lambda: screen.inspection is not first)
        assert not np.array_equal(screen.inspection.found.layers[0].weights, first.found.layers[0].weights)


@pytest.mark.parametrize("is_detached", [False, True])
async def test_a_lora_run_is_looked_at_while_it_trains_by_a_read_only_viewer_too(
    lab: Any, looking: Any, with_data: Path, is_detached: bool
) -> None:
    config = resolve(flags=SMALL | LONG | {"init_from": "one", "lora_rank": 2}).config
    async with lab() as at:
        folder = runs.new_folder("tuned", name="tuned")
        (at.session.start_detached if is_detached else at.session.start_training)(config, folder)
        await at.until(lambda: at.session.history is not None and at.session.history.step > 3)
        at.session.send(Save())
        await at.until(lambda: at.session.history.saves)
        await at.press("I")
        await at.sees("tuned · step" if is_detached else "tuned · live weights, step", "head 0")
        async with looking(folder, readonly=True) as viewer:
            await viewer.until(lambda: viewer.session.history and viewer.session.history.saves)
            await viewer.press("I")
            await viewer.sees("tuned · step", "head 0")
        at.session.send(Stop(save=False))
        await at.until(lambda: not at.session.is_alive)


async def test_opening_another_run_closes_the_look_at_the_one_before(lab: Any, with_data: Path) -> None:
    async with lab() as at:
        look = await open_look(at)
        other = "two" if at.session.history.run == "one" else "one"
        await at.press("4")
        at.app.screen.highlight(other)
        await at.until(lambda: at.app.screen.current and at.app.screen.current.name == other)
        await at.press("enter")
        await at.until(lambda: at.session.history.run == other and type(at.app.screen).__name__ == "TrainScreen")
        assert look not in at.app.screen_stack
