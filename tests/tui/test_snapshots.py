"""Every screen, as it was looked at and found good: its characters, and the names of its colours, cell by cell.

The files in snapshots/ are what is compared with. `UPDATE_SNAPSHOTS=1 pytest tests/tui/test_snapshots.py` writes them
anew: look at what differs before it is committed. The home shown is made up, so that nothing depends on the machine.
"""

import asyncio
import dataclasses
import json
import math
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Iterator
from difflib import unified_diff
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tomli_w
from textual._compositor import Compositor
from textual._context import visible_screen_stack
from textual.pilot import Pilot
from textual.strip import Strip
from textual.widgets import Input, OptionList

from nanogpt import data
from nanogpt.config import SamplingConfig, config_to_toml, resolve
from nanogpt.data import sources
from nanogpt.events import (
    Alternative,
    Evaluated,
    Event,
    Finished,
    Health,
    Measured,
    Sampled,
    Saved,
    Started,
    Step,
    Token,
    to_json,
)
from nanogpt.files import write_atomically
from nanogpt.learn.lesson import Catalog
from nanogpt.runs.folder import LOST_S
from nanogpt.runs.state import RunState, reduce, state_to_dict
from nanogpt_tui.app import LabApp
from nanogpt_tui.screens.data.screen import DataScreen
from nanogpt_tui.screens.learn import screen as learn
from nanogpt_tui.screens.sample.screen import SampleScreen
from nanogpt_tui.screens.tokenizers import choices
from nanogpt_tui.session import speed_measurement as measuring
from nanogpt_tui.session import token_distribution as distribution
from nanogpt_tui.session.completions import Completion, Source
from nanogpt_tui.session.speed_measurement import FreeMemory, Result
from nanogpt_tui.session.token_distribution import Distribution
from nanogpt_tui.settings import Settings
from nanogpt_tui.terminal import input_queue
from tests.made_lessons import SHOWN
from tests.narrowing import expect
from tests.tui.conftest import forget_frame, frame

SNAPSHOTS = Path(__file__).parent / "snapshots"
SIZES = ((80, 24), (120, 40), (200, 60))  # in the dark theme
LIGHT, ASCII = (120, 40), (80, 24)  # the size of the views in the light theme, and of those in ASCII
SCREENS = (
    *("welcome", "train", "training", "data", "tokenizers", "new_run", "sample", "alternatives", "runs", "comparison"),
    *("learn", "help"),
)
NOON = 1_767_268_800.0  # 2026-01-01 12:00:00 UTC
SHAPE = {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 64, "batch_size": 12, "device": "cpu"}
TOKENS = 12 * 64


# ---- a home that is the same everywhere


def furnish(home: Path, text: str) -> None:
    """A prepared data set and four runs: one that is being trained, one finished, one stopped, one that failed."""
    book = home / "verses.txt"
    book.write_text(text, encoding="utf-8")
    for _ in data.prepare(data.textfile_recipe([book], name="verses")):
        pass
    meta = home / "data" / "verses" / "meta.json"
    known = json.loads(meta.read_text(encoding="utf-8"))
    known["source"]["path"] = "/home/ada/texts/verses.txt"
    meta.write_text(json.dumps(known), encoding="utf-8")
    record(home, text, "verses-small", hours_ago=26.5, seed=1, steps=1200, best=1.62)
    record(home, text, "verses-wide", hours_ago=5.5, seed=2, steps=700, best=1.71, n_embd=192, learning_rate=3e-3)
    record(home, text, "too-fast", hours_ago=3.5, seed=3, steps=140, best=2.4, learning_rate=0.5)
    record(home, text, "verses-long", hours_ago=0, seed=4, steps=820, best=1.52, max_iters=2000)
    beat(home)


def record(
    home: Path, text: str, name: str, *, hours_ago: float, seed: int, steps: int, best: float, **changes: Any
) -> None:
    """Writes a run's folder: its settings, what happened in it, how it stands."""
    config = resolve(flags=SHAPE | {"dataset": "verses", "max_iters": 1200, "eval_interval": 100} | changes).config
    folder = home / "runs" / name
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "run.toml").write_text(tomli_w.dumps({"run": {"name": name}, **config_to_toml(config)}), encoding="utf-8")
    state = RunState(dataset="verses", pid=os.getpid(), host=socket.gethostname())
    events = list(happened(name, text, random.Random(seed), steps, best, config.schedule.max_iters))
    for event in events:
        state = reduce(state, event)
    status = {
        key: None if value != value else value for key, value in state_to_dict(state).items()
    }  # a file has no NaN
    (folder / "events.jsonl").write_text("".join(to_json(event) + "\n" for event in events), encoding="utf-8")
    (folder / "status.json").write_text(json.dumps(status), encoding="utf-8")
    stamp(folder, time.time() - 3600 * hours_ago)


def stamp(run: Path, at: float) -> None:
    """Makes `at` the time when the run's status was written."""
    file = run / "status.json"
    status = json.loads(file.read_text(encoding="utf-8")) | {"updated": at}
    write_atomically(file, json.dumps(status))
    os.utime(file, (at, at))


def beat(home: Path) -> None:
    """The heartbeat of the run that is being trained, if there is one yet: a little ahead, so that its age stays 0."""
    run = home / "runs" / "verses-long"
    if run.exists():
        stamp(run, time.time() + LOST_S / 2)


def happened(run: str, text: str, draw: random.Random, steps: int, best: float, max_iters: int) -> Iterator[Event]:
    """The events of a training whose loss falls towards `best`, with noise; one of under 200 steps runs away."""
    choices = {"device": "the only one here", "dtype": "the CPU has no faster one"}
    yield Started(
        time=NOON, run=run, step=0, max_iters=max_iters, n_parameters=804_096, tokens_per_iteration=TOKENS,
        train_tokens=37_888, val_tokens=4_210, vocab_size=38, device="cpu", dtype="float32", compile=False, threads=2,
        peak_flops=1e11, choices=choices, val_characters=4_210, val_bytes=4_210, flops_per_token=4_800_000,
    )  # fmt: skip
    low = math.inf
    for step in range(1, steps + 1):
        at = NOON + 0.05 * step
        mean = best + (3.4 - best) * math.exp(-step / 90)
        loss = mean + draw.gauss(0, 0.06) if steps >= 200 or step < 120 else math.nan
        speed = 15_000 + 300 * math.sin(step / 9)
        rate = 1e-3 * min(1, step / 100) * (0.55 + 0.45 * math.cos(math.pi * step / max_iters))
        yield Step(
            time=at, step=step, loss=loss, learning_rate=rate, grad_norm=0.5 + abs(draw.gauss(0, 0.1)),
            tokens=step * TOKENS, tokens_per_second=speed, mfu=0.41, memory_bytes=412_000_000, elapsed_s=0.05 * step,
            eta_s=0.05 * (max_iters - step),
        )  # fmt: skip
        if math.isnan(loss):
            yield Health(time=at, step=step, state="nan", message=f"the loss at step {step} is not a number")
            yield Finished(
                time=at, step=step, reason="nan", train_loss=None, val_loss=None, best_val_loss=low, elapsed_s=6.0
            )
            return
        if step % 100 == 0:
            val_loss = mean + 0.02 + 0.05 * step / 1200
            low, is_best = min(low, val_loss), val_loss < low
            yield Evaluated(
                time=at, step=step, train_loss=mean, val_loss=val_loss, best_val_loss=low, is_best=is_best, tokens=9600,
                elapsed_s=0.05 * step,
            )  # fmt: skip
            yield Saved(time=at, step=step, path=f"checkpoints/step-{step:08d}", is_best=is_best, stall_s=0.01)
        if step % 200 == 0:
            yield Sampled(time=at, step=step, prompt="\n", text=babble(text, draw, 1 / math.sqrt(step / 20)), seed=1337)
    if steps < max_iters and max_iters == 1200:
        yield Finished(
            time=at, step=steps, reason="stopped", train_loss=mean, val_loss=low, best_val_loss=low, elapsed_s=35.0
        )
    elif steps == max_iters:
        yield Finished(
            time=at, step=steps, reason="max_iters", train_loss=mean, val_loss=low, best_val_loss=low, elapsed_s=60.0
        )


def babble(text: str, draw: random.Random, wrong: float) -> str:
    """A piece of the text with a share of its letters replaced."""
    start = draw.randrange(len(text) - 400)
    letters = sorted(set(text))
    return "".join(draw.choice(letters) if draw.random() < wrong else each for each in text[start : start + 400])


def written(text: str) -> Completion:
    """A text as the Sample screen has it once it is written, each token with what else could have come."""
    draw, letters = random.Random(7), sorted(set(text))
    completion = Completion("\n", Source("verses-small", "best"), SamplingConfig(), "verses-small", 1200, 1.6934, "cpu")
    for letter in babble(text, draw, 0.05):
        share, others = draw.random() ** 0.5, draw.sample(letters, 9)
        places = [share, *((1 - share) * 0.6**rank * 0.4 for rank in range(1, 10))]
        chosen = [Alternative(letters.index(each), each, p) for each, p in zip([letter, *others], places, strict=True)]
        ranked = tuple(sorted(chosen, key=lambda each: -each.probability))
        token = Token(sample=0, id=letters.index(letter), text=letter, probability=share, alternatives=ranked)
        completion.tokens.append(token)
    completion.reason, completion.tokens_per_second, completion.started_at = "length", 1234.0, NOON
    return completion


def measured(config: Any, dataset: str) -> Iterator[Result]:
    """What the form measures, without the machine: 12 ms a step."""
    yield FreeMemory(device="cpu", free=8_000_000_000)
    yield Measured(seconds_per_step=0.012, batch_size=config.data.batch_size, device="cpu", dtype="float32", threads=2)


def drawn_from(models: Any, completion: Completion, number: int) -> Distribution:
    """What token `number` of the text was drawn from, without weights: its alternatives, and nothing else."""
    best = completion.tokens[number].alternatives
    shares = np.full((1, 1 + max(each.id for each in best)), 1e-9, np.float32)
    shares[0, [each.id for each in best]] = [each.probability for each in best]
    return Distribution(np.log(shares), np.zeros(shares.shape, np.bool_), best)


# ---- what is on the screen


class Shot(NamedTuple):
    characters: str
    colours: str


def characters(strips: list[Strip]) -> str:
    """The characters of the screen."""
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips) + "\n"


def shot(app: LabApp, strips: list[Strip]) -> Shot:
    """The characters of the screen, and a line of runs for each of its rows: 12a 4b …, with a legend above them."""
    colours, legend = [], dict[str, str]()
    names = {str(app.theme_variables[name]).lower(): name for name in reversed(NAMED)}
    for strip in strips:
        cells = [(named(segment.style, names), segment.cell_length) for segment in strip if segment.cell_length]
        runs = []
        for name, pieces in groupby(cells, key=lambda cell: cell[0]):
            letter = legend.setdefault(name, LETTERS[len(legend)])
            runs.append(f"{sum(length for _, length in pieces)}{letter}")
        colours.append(" ".join(runs))
    key = [f"{letter}: {name}" for name, letter in legend.items()]
    return Shot(characters(strips), "\n".join([*key, "", *colours]) + "\n")


LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZαβγδεζηθικλμνξοπρστυφχψω"
NAMED = ("foreground", "background", "surface", "panel", "quiet", "accent", "alive", "raw", "rule", "warning", "error")


def named(style: Any, names: dict[str, str]) -> str:
    """A style in words: colours by the theme's names where they have one."""
    if style is None:
        return "plain"
    over, under = (
        names.get(colour.name.lower(), colour.name.lower()) if colour else "default"
        for colour in (style.color, style.bgcolor)
    )
    marks = [word for word in ("bold", "dim", "italic", "underline", "reverse", "strike") if getattr(style, word)]
    return " ".join([f"{over} on {under}", *marks])


async def until(pilot: Pilot[Any], *words: str, view: str = "") -> Shot:
    """Waits until the screen is what the files have of the view; else until it says all these words and keeps still."""
    known = remembered(view)
    patience_s = 20.0 if known else 0.3 if view else 0.06
    app, before, text, since = expect(LabApp, pilot.app), list[Strip](), "", time.monotonic()
    end = since + 60
    while time.monotonic() < end:
        await asyncio.sleep(0.03)
        app.screen._on_timer_update()
        visible_screen_stack.set(app._background_screens)  # which are seen beside the help
        strips = frame(app.screen).strips
        if strips is not before and strips != before:
            since, text, before = time.monotonic(), characters(strips), strips
            if any(text == each.characters for each in known):  # naming the colours takes longer than a repaint
                now = shot(app, strips)
                if known & {now, now._replace(colours="")}:
                    return now
        keeps_still = time.monotonic() - since >= patience_s
        if keeps_still and all(word in text for word in words):
            return shot(app, strips)
    raise AssertionError(f"not all of {words} on the screen:\n{characters(before)}")


def remembered(view: str) -> set[Shot]:
    """What the files have of it, without colours for ASCII; nothing while they are written anew."""
    place, _, theme = view.rpartition("_")
    names = [f"{view}.txt"] if theme == "ascii" else [f"{place}.txt", f"{view}.colours"]
    if not view or "UPDATE_SNAPSHOTS" in os.environ or not all((SNAPSHOTS / name).exists() for name in names):
        return set()
    characters, *colours = ((SNAPSHOTS / name).read_text(encoding="utf-8") for name in names)
    return {Shot(characters, "".join(colours))}


async def seen(home: Path, text: str, glyphs: str) -> AsyncIterator[tuple[str, Shot]]:
    """(name, shot) of every screen, by one app that begins in an empty home; in braille in all sizes, once in light."""
    app = LabApp(Settings(glyphs=glyphs, repaints_per_second=20))

    async with app.run_test(size=(120, 40)) as pilot:

        async def views(screen: str, *words: str, keys: tuple[str, ...] = ()) -> AsyncIterator[tuple[str, Shot]]:
            for width, height in SIZES if glyphs == "braille" else [ASCII]:
                await pilot.resize_terminal(width, height)
                app.training_changed()
                await pilot.press(*keys)
                for theme in ("light", "dark") if (glyphs, (width, height)) == ("braille", LIGHT) else ("dark",):
                    if theme != app.settings.theme:
                        app.apply_settings(dataclasses.replace(app.settings, theme=theme))
                    beat(home)
                    name = f"{screen}_{width}x{height}_{theme if glyphs == 'braille' else 'ascii'}"
                    yield name, await until(pilot, *words, view=name)
            await pilot.resize_terminal(*SIZES[-1])  # where all that is waited for next has room

        async def look(run: str) -> None:
            app.session.show_run(home / "runs" / run)
            await until(pilot, run)

        async for view in views("welcome", "quick start"):
            yield view
        furnish(home, text)
        await look("verses-small")
        async for view in views("train", "finished", "perplexity", "verses-long"):
            yield view
        await look("verses-long")
        async for view in views("training", "training", "4 of 4"):
            yield view
        await pilot.press("1")
        while not (isinstance(app.screen, DataScreen) and app.screen.entries):
            await asyncio.sleep(0.03)
        await until(pilot, "verses")
        rows = app.screen.query_one(OptionList)
        rows.highlighted = rows.get_option_index("verses")
        async for view in views("data", "most common"):
            yield view
        await pilot.press("t")
        await until(pilot, "token 1 of", "bytes per token", "verses")  # also the marks in the chart
        app.screen.query_one(Input).cursor_blink = False
        async for view in views("tokenizers", "token 1 of 63", "vocabulary 256"):
            yield view
        await pilot.press("escape")
        await until(pilot, "most common")
        expect(DataScreen, app.screen).action_new_run()
        await until(pilot, "ms per step")
        async for view in views("new_run", "start"):
            yield view
        await pilot.press("escape", "3")
        await until(pilot, "temperature")
        sample = expect(SampleScreen, app.screen)
        sample.completions.groups, sample.completions.shown = [[written(text)]], 0
        sample.repaint()
        async for view in views("sample", "1,234 tokens/s"):
            yield view
        to_a_token = "escape", "home", *["right"] * 12
        async for view in views("alternatives", "token 13 of 400", "after knobs", keys=to_a_token):
            yield view
        await pilot.press("4")
        await until(pilot, "verses-wide")
        await pilot.press("down", "down")
        async for view in views("runs", "verses-wide", "stopped"):
            yield view
        await pilot.press("space", "down", "space")
        async for view in views("comparison", "verses-wide"):
            yield view
        await pilot.press("5", "enter")
        await until(pilot, "lesson done")
        async for view in views("learn", "lesson done", "s one step"):
            yield view
        await pilot.press("1")  # behind the help a screen that does nothing by itself
        await until(pilot, "licence")
        await pilot.press("question_mark")
        app.screen.query_one(Input).cursor_blink = False
        async for view in views("help", "recipe"):
            yield view
    app.session.close()


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory, text: str) -> dict[str, Shot]:
    """Every view, by name."""

    async def all_of(home: Path, glyphs: str) -> dict[str, Shot]:
        return {name: each async for name, each in seen(home, text, glyphs)}

    found: dict[str, Shot] = {}
    for glyphs in ("braille", "ascii"):
        home = tmp_path_factory.mktemp(glyphs)
        with pytest.MonkeyPatch.context() as patch:
            for name in ("RUNS", "DATA", "CACHE", "CONFIG"):
                patch.setenv(f"NANOGPT_{name}_DIR", str(home / name.lower()))
            patch.setenv("NANOGPT_HOME", str(home))
            patch.setenv("TZ", "UTC")
            patch.setattr(input_queue, "READY_TIMEOUT_S", 30.0)
            patch.setattr(Compositor, "render_update", forget_frame)
            patch.setattr(Compositor, "render_partial_update", forget_frame)
            patch.setattr(measuring, "measure", measured)
            patch.setattr(distribution, "compute_distribution", drawn_from)
            patch.setattr(learn, "lessons", lambda: Catalog(SHOWN, ()))
            patch.setattr(choices, "available_offline", lambda spec: spec == "byte")
            for kind in set(sources.names()) - {"stdlib"}:
                patch.setattr(sources.source_class(kind), "available_offline", lambda source: False)
            time.tzset()
            found |= asyncio.run(all_of(home, glyphs))
    time.tzset()
    return found


VIEWS = [f"{screen}_{width}x{height}" for screen in SCREENS for width, height in SIZES]
LIGHT_VIEWS = [f"{screen}_{LIGHT[0]}x{LIGHT[1]}" for screen in SCREENS]
ASCII_VIEWS = [f"{screen}_{ASCII[0]}x{ASCII[1]}" for screen in SCREENS]


def check(name: str, now: str) -> None:
    """Compares with the file, or writes it."""
    file = SNAPSHOTS / name
    if os.environ.get("UPDATE_SNAPSHOTS"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(now, encoding="utf-8")
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    if now != before:
        lines = unified_diff(before.splitlines(), now.splitlines(), "as it was", "now", n=1, lineterm="")
        changes = "\n".join(lines)
        pytest.fail(f"{name} differs; UPDATE_SNAPSHOTS=1 takes it as it is now\n{changes}", pytrace=False)


@pytest.mark.parametrize("view", VIEWS)
def test_the_screen_looks_as_it_did_when_it_was_found_good(shots: dict[str, Shot], view: str) -> None:
    check(f"{view}.txt", shots[f"{view}_dark"].characters)
    check(f"{view}_dark.colours", shots[f"{view}_dark"].colours)


@pytest.mark.parametrize("view", LIGHT_VIEWS)
def test_the_light_theme_changes_colours_alone(shots: dict[str, Shot], view: str) -> None:
    assert shots[f"{view}_light"].characters == shots[f"{view}_dark"].characters
    check(f"{view}_light.colours", shots[f"{view}_light"].colours)


@pytest.mark.parametrize("view", ASCII_VIEWS)
def test_ascii_is_ascii_and_fills_the_same_screen(shots: dict[str, Shot], view: str) -> None:
    assert shots[f"{view}_ascii"].characters.isascii()
    check(f"{view}_ascii.txt", shots[f"{view}_ascii"].characters)


def test_there_is_no_snapshot_of_nothing() -> None:
    wanted = {f"{view}{kind}" for view in VIEWS for kind in (".txt", "_dark.colours")}
    wanted |= {f"{view}_light.colours" for view in LIGHT_VIEWS} | {f"{view}_ascii.txt" for view in ASCII_VIEWS}
    assert {file.name for file in SNAPSHOTS.iterdir()} == wanted
