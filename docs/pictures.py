"""Makes the pictures of the screens in docs/pictures/: prepares a text, trains on it, and takes each screen as SVG.

    python docs/pictures.py [TEXT] [--steps=400]

Without a text, tiny Shakespeare is fetched. All of it happens in the app itself, without a terminal and in a home of
its own that is gone afterwards, so the pictures show real figures of the machine that made them.
"""

import argparse
import asyncio
import dataclasses
import html
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

PICTURES = Path(__file__).parent / "pictures"
SIZE = (120, 40)
NAME = "shakespeare_char"
FONTS = "'DejaVu Sans Mono', 'Cascadia Mono', Menlo, Consolas, monospace"
SHAPE = {
    "preset": "speedrun",
    "dataset": NAME,
    "batch_size": 32,
    "learning_rate": 1e-2,
    "eval_interval": 50,
    "eval_iters": 10,
}
WATCHED = {"sample_interval": 50, "sample_start": "ROMEO:", "sample_tokens": 300, "device": "cpu", "compile": "false"}


TEXT = re.compile(
    r'<text class="([^"]+)" x="([\d.]+)" y="([\d.]+)" textLength="[\d.]+" clip-path="[^"]+">((?:&#160;)*)(.*?)</text>',
    re.DOTALL,
)
CELL, LINE, ASCENT = 12.2, 24.4, 18.5  # a cell's width and height, and how far its top is above what text stands on
BRAILLE = re.compile("[\u2800-\u28ff ]+")
PLACES = (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)  # of a dot, by bit
DOT = 4.4


def dots(text: str, left: float, base: float) -> str:
    """Braille as squares, since not every viewer's font has it: a path's description."""
    return "".join(
        f"M{left + CELL * (at + column / 2 + 0.25) - DOT / 2:.1f} "
        f"{base - ASCENT + LINE * (row / 4 + 0.125) - DOT / 2:.1f}h{DOT}v{DOT}h-{DOT}z"
        for at, letter in enumerate(text)
        for bit, (column, row) in enumerate(PLACES)
        if letter != " " and ord(letter) >> bit & 1
    )


def placed(found: re.Match[str]) -> str:
    """A piece of text that begins and ends with what is seen: not every viewer keeps a space at the start of one."""
    style, x, y, gap, text = found.groups()
    text = re.sub(r"(&#160;|\s)+$", "", text)
    words = html.unescape(text).replace("\N{NO-BREAK SPACE}", " ")
    start, width = float(x) + CELL * gap.count(";"), CELL * cell_len(words)
    if not words:
        return ""
    if BRAILLE.fullmatch(words):
        return f'<path class="{style}" d="{dots(words, start, float(y))}"/>'
    return f'<text class="{style}" x="{start:.1f}" y="{y}" textLength="{width:.1f}">{text}</text>'


def plain(svg: str) -> str:
    """The picture without fonts from elsewhere, and with names that do not change from one making to the next."""
    svg = TEXT.sub(placed, svg)
    svg = re.sub(r'<clipPath id="terminal-(?:\d+-)?line-\d+">.*?</clipPath>', "", svg, flags=re.DOTALL)
    svg = re.sub(r"@font-face\s*{.*?}", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: ?[^;]+;", f"font-family: {FONTS};", svg)
    svg = re.sub(r"terminal-\d+", "terminal", svg)
    svg = re.sub(r"<!--.*?-->\n?", "", svg)
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"


def take(app: Any, name: str) -> None:
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / f"{name}.svg").write_text(plain(app.export_screenshot(title="nanogpt-tui")), encoding="utf-8")


async def until(pilot: Pilot[Any], condition: Callable[[], object], rest_s: float = 0.7) -> None:
    """Waits, without hurry, until `condition()` holds and what came of it is drawn."""
    while not condition():
        await pilot.pause(0.1)
    await pilot.pause(rest_s)


async def go(pilot: Pilot[Any], mode: str) -> Any:
    """The screen of a mode, once it is in front: a key that is pressed before would be another screen's."""
    await pilot.app.switch_mode(mode)
    await until(pilot, lambda: pilot.app.screen.is_mounted and pilot.app.current_mode == mode)
    return pilot.app.screen


async def train_tokenizer(pilot: Pilot[Any]) -> None:
    """Opens the tokenizers from the Data screen, and trains one there on the data set under the cursor."""
    from nanogpt_tui.screens.tokenizers.screen import TokenizersScreen

    await pilot.press("t")
    await until(pilot, lambda: isinstance(pilot.app.screen, TokenizersScreen) and not pilot.app.screen.is_reading)
    training = pilot.app.screen.training
    await pilot.press("ctrl+t")
    await until(pilot, lambda: len(training.chart.marks) > 1)
    await pilot.press(*"4096", "ctrl+s")
    await until(pilot, lambda: training.trained and not training.is_training)


async def take_inside(pilot: Pilot[Any]) -> None:
    """Takes the layers of the run in Train, and what its weights do with a text that repeats."""
    app = pilot.app
    await pilot.press("h", *["down"] * 3, "[", "[")
    await until(pilot, lambda: True)
    take(app, "health")
    await pilot.press("escape", "I")
    await until(pilot, lambda: getattr(app.screen, "inspection", None) is not None)
    screen = app.screen
    await pilot.press("i", "ctrl+u", *"ROMEO: my lord, my lord,", "enter")
    await until(pilot, lambda: screen.inspection.prompt.endswith("my lord,"))
    take(app, "look")
    await pilot.press("escape")


async def take_lesson(pilot: Pilot[Any]) -> None:
    """Takes the lesson of a training step, with some steps done."""
    screen = await go(pilot, "learn")
    await until(pilot, lambda: not screen.is_reading)
    screen.highlight("one_step")
    await pilot.press("enter")
    await until(pilot, lambda: screen.experiment.started)
    for key in "ts":
        await pilot.press(key)
        await until(pilot, lambda: not screen.experiment.running)
    take(pilot.app, "learn")


async def tour(steps: int) -> None:
    """Takes every screen: the finished runs of two short trainings, and a third one while it is trained."""
    from nanogpt import runs
    from nanogpt.config import resolve
    from nanogpt_tui.app import LabApp
    from nanogpt_tui.screens.new_run.screen import NewRunScreen
    from nanogpt_tui.settings import Settings
    from nanogpt_tui.widgets.help import Help

    def config(**changes: Any) -> Any:
        flags = {name: value for name, value in SHAPE.items() if name != "preset"} | WATCHED | changes
        return resolve(preset=SHAPE["preset"], flags=flags).config

    app = LabApp(Settings())
    async with app.run_test(size=SIZE) as pilot:
        session = app.session
        await until(pilot, lambda: "-empty" in app.screen.classes)
        for name, changes in {
            "narrow": {"n_embd": 64, "max_iters": steps // 2},
            "fast": {"learning_rate": 3e-2, "max_iters": steps // 2},
        }.items():
            session.start_training(config(**changes), runs.new_folder(name))
            await until(pilot, lambda: not session.is_training)
        session.start_training(config(max_iters=steps), runs.new_folder("shakespeare"))
        await until(pilot, lambda: session.history.step > 0.7 * steps)
        take(app, "train")

        await until(pilot, lambda: not session.is_training)
        await take_inside(pilot)
        screen = await go(pilot, "runs")
        await until(pilot, lambda: len(screen.runs) == 3)
        for key in ("space", "down", "down", "space", "up", "up"):
            await pilot.press(key)
        await until(pilot, lambda: True, 1.5)
        take(app, "runs")

        await pilot.press("s")  # with the best weights of the run that the cursor is on
        await until(pilot, lambda: pilot.app.current_mode == "sample" and pilot.app.screen.is_mounted)
        screen = pilot.app.screen
        await pilot.press("i", "ctrl+a", "ctrl+k", *"ROMEO:", "escape")
        screen.knobs = dataclasses.replace(screen.knobs, max_new_tokens=420)
        await pilot.press("g")
        await until(pilot, lambda: screen.completion is not None and screen.completion.reason)
        if not screen.completion.tokens:
            raise SystemExit("the picture of Sample would show no text")
        await pilot.press("home", *["right"] * 27)
        await until(pilot, lambda: True)
        take(app, "sample")

        screen = await go(pilot, "data")
        await until(pilot, lambda: screen.entries)
        rows = screen.query_one(OptionList)
        rows.highlighted = rows.get_option_index(NAME)
        await until(pilot, lambda: NAME in screen.details.previews, 1)
        take(app, "data")
        await train_tokenizer(pilot)
        take(app, "tokenizers")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen)

        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen) and app.screen.datasets)
        app.screen.choice("preset").value = SHAPE["preset"]
        await until(pilot, lambda: app.screen.measuring.speed.seconds_per_step, 5)
        take(app, "new_run")

        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, NewRunScreen))
        await take_lesson(pilot)
        await go(pilot, "train")
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, Help))
        await pilot.press(*"perplexity")
        await until(pilot, lambda: app.screen.query_one(Input).value == "perplexity")
        take(app, "help")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="?", type=Path, help="tiny Shakespeare, where it should not be fetched")
    parser.add_argument("--steps", type=int, default=400, help="of the longest training")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp())
    os.environ.update({f"NANOGPT_{name}_DIR": str(home / name) for name in ("RUNS", "DATA", "CACHE", "CONFIG")})
    os.environ |= {"NANOGPT_HOME": str(home), "TZ": "UTC"}
    from nanogpt import data

    try:
        for _ in data.prepare(NAME, source=options.text):
            pass
        asyncio.run(tour(options.steps))
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
