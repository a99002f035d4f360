"""How long a key takes to be seen while a model is trained in the app: on the Train screen, and on Sample.

    python benchmarks/key_latency.py [--keys 200] [--history 100000] [--n_layer=4 … any setting of the quick start]

`--history` puts that many recorded steps before the first one. The time is from the key to the finished frame that was
begun after it was obeyed. On Train the key is the one for a logarithmic axis, which changes the whole chart; on Sample
it turns the temperature, while the weights in training write.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from textual.events import Key
from textual.keys import _character_to_key

from nanogpt.events import Event, Started, Step
from nanogpt_tui.app import LabApp
from nanogpt_tui.settings import Settings


def lengthen(history: Any, steps: int) -> None:
    """Adds steps as an hour's training would have."""
    for number in range(1, steps + 1):
        history.add(
            Step(
                step=number,
                loss=4.0 / (1 + number / steps) + 0.1 * (number % 7),
                learning_rate=1e-3,
                grad_norm=0.5 + 0.01 * (number % 11),
                tokens=768 * number,
                tokens_per_second=20_000.0 + number % 97,
                mfu=0.4,
                memory_bytes=10**9,
                elapsed_s=0.036 * number,
                eta_s=100.0,
            )
        )


async def measure(keys: int, past: int, changes: dict[str, Any]) -> dict[str, list[float]]:
    """Seconds of each key, by screen."""
    app = LabApp(Settings(quickstart={"max_iters": 10**6, "eval_interval": 10**6, "sample_interval": 0} | changes))
    async with app.run_test(size=(120, 40)):
        await asyncio.sleep(0.2)
        training = app.session.quick_start(app.settings.quickstart)
        history, on_item = training.history, training.on_item

        def shifted(event: Event) -> None:
            """The recorded steps come first, and the real ones after them."""
            if isinstance(event, Step):
                event = replace(event, step=event.step + past, elapsed_s=event.elapsed_s + 0.036 * past)
            on_item(event)
            if isinstance(event, Started):
                lengthen(history, past)

        training.on_item = shifted  # type: ignore[method-assign]
        while history.step < past + 5 and not training.done:
            await asyncio.sleep(0.05)
        if training.error:
            sys.exit(training.error)
        await asyncio.sleep(1)
        before, began, busy = history.last, time.perf_counter(), time.thread_time()
        found = {"Train": await pressed(app, keys, "ll", lambda: app.screen.run_view.chart.log_y)}
        elapsed = time.perf_counter() - began
        share = (time.thread_time() - busy) / elapsed
        steps = history.last.step - before.step if history.last and before else 0
        print(f"{steps / elapsed:.1f} steps/s meanwhile; the interface's thread was busy {share:.0%} of the time")
        app.post_message(Key("3", "3"))
        while getattr(app.screen, "knobs", None) is None:
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        app.screen.knobs = replace(app.screen.knobs, max_new_tokens=10_000)
        app.post_message(Key("g", "g"))
        while app.screen.completion is None or len(app.screen.completion.tokens) < 3:
            await asyncio.sleep(0.1)
        found["Sample"] = await pressed(app, keys, "tT", lambda: app.screen.knobs.temperature)
        print(f"{len(app.screen.completion.tokens):,} tokens were written meanwhile")
    app.session.close()
    return found


async def pressed(app: LabApp, keys: int, letters: str, state: Callable[[], Any]) -> list[float]:
    """Presses two keys in turn, each of which changes `state()`: the seconds of each, sorted."""
    painted, display, taken, before = asyncio.Event(), app._display, [], state()

    def seen(*frame: Any) -> None:
        obeyed = state() != before
        display(*frame)
        if obeyed:
            painted.set()

    app._display = seen  # type: ignore[method-assign]
    for number in range(keys):
        await asyncio.sleep(0.03 + 0.002 * (number % 31))
        letter, before = letters[number % 2], state()
        painted.clear()
        began = time.perf_counter()
        app.post_message(Key(_character_to_key(letter), letter))
        await asyncio.wait_for(painted.wait(), 30)
        taken.append(time.perf_counter() - began)
    app._display = display  # type: ignore[method-assign]
    return sorted(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--history", type=int, default=0)
    options, rest = parser.parse_known_args()
    changes = dict(item.removeprefix("--").split("=", 1) for item in rest)
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"NANOGPT_RUNS_DIR": f"{home}/runs", "NANOGPT_CONFIG_DIR": f"{home}/config"}
        found = asyncio.run(measure(options.keys, options.history, changes))
    for screen, taken in found.items():
        half, most = taken[len(taken) // 2] * 1e3, taken[int(0.95 * len(taken))] * 1e3
        print(f"{screen}: key to repaint: median {half:.0f} ms, 95 % within {most:.0f}, slowest {taken[-1] * 1e3:.0f}")


if __name__ == "__main__":
    main()
