"""How long it takes to look at a long run, to print its events and to resume it, and how much memory that needs.

    python benchmarks/long_history.py [--steps 1000000] [--health 50] [--package FOLDER]

Trains a small run for a moment, then writes the events of a long one into its record: steps, evaluations every 250,
checkpoints every 5,000, and measurements of ten layers every `--health` steps (0: none). Prints

- of the app in a pseudo-terminal: when the run is named, when a curve is drawn, when all is read, and its memory;
- of the app without a terminal: the longest time for which its event loop stood still meanwhile, and the time from
  resuming to the first step;
- of the commands `watch --json`, `info --health`, `spikes` and `train --init_from=resume`: the time.

`--package` is the folder of another version's checkout, to compare. Linux only.
"""

import argparse
import asyncio
import dataclasses
import fcntl
import json
import os
import pty
import random
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nanogpt.events import Evaluated, Event, Finished, LayerHealth, Saved, Started, Step, from_json, to_json

CURVE = range(0x2801, 0x2900)  # braille
SMALL = [
    "--n_layer=1", "--n_head=1", "--n_embd=8", "--block_size=16", "--batch_size=2", "--eval_iters=1", "--device=cpu",
    "--dtype=float32", "--compile=false", "--threads=1", "--sample_tokens=0", "--dropout=0",
]  # fmt: skip
TRAINED = 5  # steps of the small run


def command(module: str, *words: str) -> list[str]:
    return [sys.executable, "-m", module, *words]


def measurement(step: int) -> LayerHealth:
    """The layers of a GPT of four blocks; the numbers have as many digits as real ones."""
    draw = random.Random(step)
    layers = ("token_embedding", "position_embedding", *(f"blocks.{i}.{p}" for i in range(4) for p in ("attn", "mlp")))

    def figures() -> tuple[float, ...]:
        return tuple(float(f"{draw.random():.5g}") for _ in layers)

    heads = [tuple(float(f"{draw.random():.5g}") for _ in range(4)) if "attn" in layer else () for layer in layers]
    return LayerHealth(
        step=step, layers=layers, gradient_norm=figures(), weight_norm=figures(), update_ratio=figures(),
        dead_units=figures(), activation_mean=figures(), activation_std=figures(), activation_kurtosis=figures(),
        attention_entropy=tuple(heads), clipped=0.1,
        histograms=tuple(tuple(draw.randrange(10_000) for _ in range(24)) for _ in layers),
    )  # fmt: skip


def events(started: Started, steps: int, health: int) -> Iterator[Event]:
    yield dataclasses.replace(started, max_iters=steps)
    best = 9.0
    for number in range(1, steps + 1):
        loss = 4.2 - 2.0 * number / steps + 0.1 * ((number * 7919) % 100) / 100
        yield Step(
            step=number, loss=loss, learning_rate=1e-3 / number, grad_norm=1 / (1 + loss), tokens=384 * number,
            tokens_per_second=2434.871653537463, mfu=0.0015329974292815215, memory_bytes=266199040,
            elapsed_s=number * 0.0108, eta_s=(steps - number) * 0.0108,
        )  # fmt: skip
        if health and number % health == 0:
            yield measurement(number)
        if number % 250 == 0:
            is_best, best = loss < best, min(loss, best)
            yield Evaluated(
                step=number, train_loss=loss, val_loss=loss + 0.1, best_val_loss=best + 0.1, is_best=is_best,
                tokens=384 * number, elapsed_s=number * 0.0108,
            )  # fmt: skip
            if number % 5000 == 0:
                yield Saved(step=number, path=f"checkpoints/step-{number:08}", is_best=is_best, stall_s=0.01)
    losses = {"train_loss": 2.2, "val_loss": 2.3, "best_val_loss": 2.3}
    yield Finished(step=steps, reason="max_iters", elapsed_s=0.0108 * steps, **losses)


def make_run(run: Path, steps: int, health: int) -> None:
    text = run.parent.parent / "text.txt"
    text.write_text("one two three four five six seven eight nine ten\n" * 400)
    for words in (
        ["prepare", "textfile", str(text), "--output=lines", "--tokenizer=char"],
        ["train", "--dataset=lines", f"--name={run.name}", f"--max_iters={TRAINED}", *SMALL],
    ):
        subprocess.run(command("nanogpt", *words), check=True, stdout=subprocess.DEVNULL)
    record = run / "events.jsonl"
    first = next(from_json(line) for line in record.read_text().splitlines() if '"event":"Started"' in line)
    assert isinstance(first, Started)
    with record.open("w") as file:
        for event in events(first, steps, health):
            file.write(to_json(event) + "\n")
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps(status | {"step": steps, "max_iters": steps}))


def with_children(pid: int) -> list[str]:
    return [str(pid), *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def memory(pid: int, name: str = "VmHWM") -> int:
    """Bytes that the largest of a process's children, or itself, has or had at most."""
    found = [0]
    for each in with_children(pid):
        for line in Path(f"/proc/{each}/status").read_text().splitlines():
            if line.startswith(name):
                found.append(1024 * int(line.split()[1]))
    return max(found)


def used_s(pid: int) -> float:
    """Return the processor seconds that a process and its children have used."""
    used = 0
    for each in with_children(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        used += int(fields[11]) + int(fields[12])
    return used / os.sysconf("SC_CLK_TCK")


def app_in_terminal(name: str) -> None:
    import pyte

    screen = pyte.Screen(120, 40)
    stream = pyte.ByteStream(screen)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    began = time.perf_counter()
    process = subprocess.Popen(
        command("nanogpt_tui", "watch", name),
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"},
    )  # fmt: skip
    os.close(slave)

    def until(condition: Callable[[str], bool]) -> float:
        while time.perf_counter() - began < 300:
            if select.select([master], [], [], 0.05)[0]:
                data = os.read(master, 65536)
                stream.feed(data.replace(b"\x1b[<u", b"").replace(b"\x1b[>1u", b""))
            if condition("\n".join(screen.display)):
                return time.perf_counter() - began
        raise TimeoutError("\n".join(screen.display))

    def has_curve(text: str) -> bool:
        return sum(ord(char) in CURVE for char in text) > 40

    try:
        named = until(lambda text: name in text)
        drawn = until(has_curve)
        print(f"app: the run is named after {named:.2f} s, a curve is drawn after {drawn:.2f} s")
        read = until(lambda text: "reading" not in text and has_curve(text))
        print(f"     all is read after {read:.2f} s, {used_s(process.pid):.2f} of the processor", end="")
        end = time.perf_counter() + 1
        until(lambda _: time.perf_counter() > end)
        print(f", at most {memory(process.pid) / 1e6:,.0f} MB, then {memory(process.pid, 'VmRSS') / 1e6:,.0f} MB")
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the app is a child of what was started
        process.wait()
        os.close(master)


def has_resumed(history: Any) -> bool:
    started = history.started
    return history.reading is None and started is not None and started.step == TRAINED and history.last is not None


async def app_inside(run: Path) -> None:
    """Open the run in the app of this process, then resume it."""
    from nanogpt.training import Stop
    from nanogpt_tui.app import LabApp
    from nanogpt_tui.settings import Settings

    app, pauses = LabApp(Settings()), [0.0]

    async def heartbeat() -> None:
        before = time.perf_counter()
        while True:
            await asyncio.sleep(0.005)
            now = time.perf_counter()
            pauses.append(now - before - 0.005)
            before = now

    async with app.run_test(size=(120, 40)):
        await asyncio.sleep(0.5)
        beating = asyncio.create_task(heartbeat())
        began, busy = time.perf_counter(), time.process_time()
        app.session.show_run(run)
        while app.session.history is None or app.session.history.reading is not None:
            await asyncio.sleep(0.01)
        read, busy = time.perf_counter() - began, time.process_time() - busy
        await asyncio.sleep(1)
        beating.cancel()
        print(f"app without a terminal: read in {read:.2f} s, {busy:.2f} of the processor; its event loop")
        print(f"     stood still for {max(pauses) * 1e3:.0f} ms at most", flush=True)
        began, busy = time.perf_counter(), time.process_time()
        app.session.resume(run, {"max_iters": 10**7})
        while (training := app.session.training) is None or not has_resumed(training.history):
            if training is not None and training.done:
                sys.exit(training.error or "it ended")
            await asyncio.sleep(0.002)
        print(f"     resumed there: its first step is done after {time.perf_counter() - began:.2f} s", end="")
        print(f", {time.process_time() - busy:.2f} of the processor")
        app.session.send(Stop(save=False))
        app.session.training.wait()


def timed_command(*words: str) -> tuple[float, float]:
    """Return the seconds and the processor seconds of a command."""
    began, before = time.perf_counter(), processor_s()
    subprocess.run(command("nanogpt", *words), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began, processor_s() - before


def processor_s() -> float:
    """Return the processor seconds of the processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--health", type=int, default=50)
    parser.add_argument("--package", default="", help="the checkout of another version")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        asyncio.run(app_inside(options.inside))
        return 0
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"NANOGPT_HOME": home, "NANOGPT_RUNS_DIR": f"{home}/runs", "NANOGPT_CACHE_DIR": f"{home}/cache"}
        os.environ.pop("NANOGPT_DATA_DIR", None)
        if options.package:
            os.environ["PYTHONPATH"] = options.package
            os.chdir(options.package)
        run = Path(home) / "runs" / "long"
        make_run(run, options.steps, options.health)
        size = (run / "events.jsonl").stat().st_size
        print(f"{options.steps:,} steps, {size / 1e6:,.0f} MB", flush=True)
        app_in_terminal("long")
        sys.stdout.flush()
        resuming = [f"--max_iters={TRAINED + 1}", f"--out_dir={run}", "--init_from=resume"]
        for words in (["watch", "long", "--json"], ["info", "long", "--health"], ["spikes", "long"]):
            taken, busy = timed_command(*words)
            print(f"nanogpt {' '.join(words)}: {taken:.2f} s, {busy:.2f} of the processor", flush=True)
        inside = [sys.executable, str(Path(__file__).resolve()), f"--inside={run}"]
        subprocess.run(inside, check=True)
        taken, busy = timed_command("train", *resuming)
        print(f"nanogpt train {' '.join(resuming)}: {taken:.2f} s, {busy:.2f} of the processor")
    return 0


if __name__ == "__main__":
    sys.exit(main())
