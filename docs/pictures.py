"""Makes the pictures of the screens in docs/pictures/: prepares a text, trains on it, and takes each screen as SVG.

    python docs/pictures.py [TEXT] [--steps=900]

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
from textual.widgets import OptionList

PICTURES = Path(__file__).parent / "pictures"
SIZE = (120, 40)
NAME = "shakespeare_char"
FONTS = "'DejaVu Sans Mono', 'Cascadia Mono', Menlo, Consolas, monospace"
SHAPE = {"preset": "macbook", "dataset": NAME, "device": "cpu", "eval_interval": 100, "eval_iters": 10}
WATCHED = {"sample_interval": 100, "sample_start": "ROMEO:", "sample_tokens": 300, "compile": "false"}


TEXT = re.compile(
    r'<text class="([^"]+)" x="([\d.]+)" y="([\d.]+)" textLength="[\d.]+" clip-path="[^"]+">((?:&#160;)*)(.*?)</text>',
    re.DOTALL,
)
CELL = 12.2  # the width of a character


def placed(found: re.Match[str]) -> str:
    """A piece of text that begins and ends with what is seen: not every viewer keeps a space at the start of one."""
    style, x, y, gap, text = found.groups()
    text = re.sub(r"(&#160;|\s)+$", "", text)
    start, width = float(x) + CELL * gap.count(";"), CELL * cell_len(html.unescape(text))
    return f'<text class="{style}" x="{start:.1f}" y="{y}" textLength="{width:.1f}">{text}</text>' if text else ""


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


async def tour(steps: int) -> None:
    """Takes every screen: the finished runs of two short trainings, and a third one while it is trained."""
    from nanogpt import runs
    from nanogpt.config import resolve
    from nanogpt_tui.app import LabApp
    from nanogpt_tui.settings import Settings

    def config(**changes: Any) -> Any:
        flags = {name: value for name, value in SHAPE.items() if name != "preset"} | WATCHED | changes
        return resolve(preset=SHAPE["preset"], flags=flags).config

    app = LabApp(Settings())
    async with app.run_test(size=SIZE) as pilot:
        session = app.session
        await until(pilot, lambda: "-empty" in app.screen.classes)
        for name, changes in {
            "narrow": {"n_embd": 64, "max_iters": steps // 2},
            "fast": {"learning_rate": 1e-2, "max_iters": steps // 2},
        }.items():
            session.start_training(config(**changes), runs.new_folder(name))
            await until(pilot, lambda: not session.is_training)
        session.start_training(config(max_iters=steps), runs.new_folder("shakespeare"))
        await until(pilot, lambda: session.history.step > 0.7 * steps)
        take(app, "train")

        await pilot.press("3")
        await pilot.press("i", *"ROMEO:", "escape")
        screen: Any = app.screen
        screen.knobs = dataclasses.replace(screen.knobs, max_new_tokens=420)
        await pilot.press("g")
        await until(pilot, lambda: screen.take is not None and screen.take.reason)
        await pilot.press("home", *["right"] * 27)
        await until(pilot, lambda: True)
        take(app, "sample")

        await until(pilot, lambda: not session.is_training)
        await pilot.press("4")
        await until(pilot, lambda: len(app.screen.runs) == 3)
        for key in ("space", "down", "down", "space", "up", "up"):
            await pilot.press(key)
        await until(pilot, lambda: True, 1.5)
        take(app, "runs")

        await pilot.press("1")
        await until(pilot, lambda: app.screen.entries)
        rows = app.screen.query_one(OptionList)
        rows.highlighted = rows.get_option_index(NAME)
        await until(pilot, lambda: NAME in app.screen.looks, 1)
        take(app, "data")

        await pilot.press("enter")
        await until(pilot, lambda: app.screen.speed.seconds_per_step, 3)
        take(app, "new_run")

        await pilot.press("escape", "2")
        await pilot.press("question_mark", *"perplexity")
        await until(pilot, lambda: True)
        take(app, "help")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="?", type=Path, help="tiny Shakespeare, where it should not be fetched")
    parser.add_argument("--steps", type=int, default=900, help="of the longest training")
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
