"""How long the loss chart takes to draw, and how much it sends: `python benchmarks/chart.py [--points 100000]`.

Draws a run of that many points at 100 × 20 and 200 × 60 cells: from nothing, again with ten points more (what happens
four times a second), and zoomed. Then the same chart in a real app without a terminal, counting the bytes that Textual
would send for a whole frame and for the rows that ten new points change.
"""

import argparse
import asyncio
import time
from collections.abc import Callable

import numpy as np
from textual.app import App, ComposeResult
from textual.geometry import Region

from nanogpt_tui import theme
from nanogpt_tui.widgets.chart import LossChart
from nanogpt_tui.widgets.curve import Curve
from nanogpt_tui.widgets.plot import Picture, draw


def milliseconds(work: Callable[[], object], repeats: int = 20) -> float:
    """The median of `repeats` runs."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken)) * 1000


def points(start: int, count: int) -> tuple[np.ndarray, ...]:
    """Steps, tokens, seconds and losses of a training that falls from 5 to 1.5."""
    steps = np.arange(start + 1, start + count + 1)
    losses = (1.5 + 3.5 * np.exp(-steps / 5000)) * (1 + 0.06 * np.random.default_rng(start).standard_normal(count))
    return steps, steps * 768.0, steps * 0.05, losses


Window = tuple[float, float]


class Bench(App[None]):
    def get_theme_variable_defaults(self) -> dict[str, str]:
        return theme.DEFAULTS

    def compose(self) -> ComposeResult:
        yield LossChart()


async def bytes_sent(count: int) -> tuple[int, int]:
    """(whole frame, what ten more points change) in bytes at 100 × 20, as Textual renders them for a terminal."""
    app = Bench()
    async with app.run_test(size=(100, 20)) as pilot:
        chart = app.query_one(LossChart)
        chart.append(*points(0, count))
        await pilot.pause()
        whole = sum(len(strip.render(app.console).encode()) for strip in app.screen._compositor.render_strips())
        regions: list[Region] = []
        refresh = chart.refresh

        def record(*dirty: Region, **options: bool) -> LossChart:
            regions.extend(dirty)
            return refresh(*dirty, **options)

        chart.refresh = record  # type: ignore[method-assign]
        chart.append(*points(count, 10))
        await pilot.pause()
        # a terminal is sent each row from the widget's left edge up to where the change ends
        part = sum(len(chart.render_line(area.y).crop(0, area.right).render(app.console).encode()) for area in regions)
    return whole, part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=100_000)
    count = parser.parse_args().points
    whole_run = points(0, count)
    print(f"{count:,} points")
    print(f"  append all, with smoothing   {milliseconds(lambda: Curve(0.95).append(*whole_run)):7.2f} ms")
    for width, height in ((100, 20), (200, 60)):
        curve = Curve(0.95)
        curve.append(*whole_run)

        def first(curve: Curve = curve, width: int = width, height: int = height) -> None:
            curve._cache.clear()
            draw(Picture(curve), width, height)

        print(f"  {width} × {height}, from nothing        {milliseconds(first):7.2f} ms")

        def more(curve: Curve = curve, width: int = width, height: int = height) -> None:
            curve.append(*points(len(curve), 10))
            draw(Picture(curve), width, height)

        print(f"  {width} × {height}, ten points more     {milliseconds(more):7.2f} ms")
        window = (count * 0.4, count * 0.6)

        def zoomed(curve: Curve = curve, width: int = width, height: int = height, window: Window = window) -> None:
            curve._cache.clear()
            draw(Picture(curve, window=window), width, height)

        print(f"  {width} × {height}, zoomed              {milliseconds(zoomed):7.2f} ms")
    whole, part = asyncio.run(bytes_sent(count))
    print(f"  bytes at 100 × 20: whole frame {whole:,}, ten points more {part:,}")


if __name__ == "__main__":
    main()
