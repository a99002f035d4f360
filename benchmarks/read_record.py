"""How long a long run takes to be looked at: the app in a pseudo-terminal, and `nanogpt watch --json`.

    python benchmarks/read_record.py [--steps 1000000] [--package FOLDER]

Makes the record of a run that never was. Prints for the app when a word of the run was on the screen, when a curve was,
when all was read, and the most memory that it had by then; and for the command how long it took. `--package` is the
folder of another version's checkout, to compare. Linux only.
"""

import argparse
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path

import tomli_w

from nanogpt.config import config_to_toml, resolve
from nanogpt.events import Finished, Started, Step, to_json

CURVE = range(0x2801, 0x2900)  # braille


def made(run: Path, steps: int) -> None:
    """A run of so many reported steps that is finished."""
    run.mkdir(parents=True)
    (run / "run.toml").write_text(tomli_w.dumps(config_to_toml(resolve().config)))
    status = {"state": "finished", "step": steps, "max_iters": steps, "updated": time.time(), "host": "elsewhere"}
    (run / "status.json").write_text(json.dumps(status))
    sizes = dict.fromkeys(("n_parameters", "tokens_per_iteration", "train_tokens", "val_tokens", "vocab_size"), 9)
    began = Started(
        run=run.name, step=0, max_iters=steps, device="cpu", dtype="float32", compile=False, threads=1,
        peak_flops=None, choices={}, **sizes,
    )  # fmt: skip
    with (run / "events.jsonl").open("w") as file:
        file.write(to_json(began) + "\n")
        for number in range(1, steps + 1):
            loss = 4.2 - 2.0 * number / steps + 0.1 * ((number * 7919) % 100) / 100
            step = Step(
                step=number, loss=loss, learning_rate=1e-3 / number, grad_norm=1 / (1 + loss), tokens=384 * number,
                tokens_per_second=2434.871653537463, mfu=0.0015329974292815215, memory_bytes=266199040,
                elapsed_s=number * 0.0108, eta_s=(steps - number) * 0.0108,
            )  # fmt: skip
            file.write(to_json(step) + "\n")
        losses = {"train_loss": 2.2, "val_loss": 2.3, "best_val_loss": 2.3}
        file.write(to_json(Finished(step=steps, reason="max_iters", elapsed_s=1.0, **losses)) + "\n")


def command(package: str, module: str, *words: str) -> list[str]:
    return [str(Path(package) / ".venv/bin/python") if package else sys.executable, "-m", module, *words]


def memory(pid: int, name: str = "VmHWM") -> int:
    """Bytes that the largest of a process's children, or itself, has or had at most."""
    pids = [str(pid), *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    found = [0]
    for each in pids:
        for line in Path(f"/proc/{each}/status").read_text().splitlines():
            if line.startswith(name):
                found.append(1024 * int(line.split()[1]))
    return max(found)


def app(package: str, name: str) -> None:
    import pyte

    screen = pyte.Screen(120, 40)
    stream = pyte.ByteStream(screen)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    began = time.perf_counter()
    process = subprocess.Popen(
        command(package, "nanogpt_tui", "watch", name),
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}, cwd=package or None,
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

    try:
        print(f"app: the run is named after {until(lambda text: name in text):5.2f} s")
        drawn = until(lambda text: sum(ord(char) in CURVE for char in text) > 40)
        print(f"     a curve is drawn after  {drawn:5.2f} s")
        read = until(lambda text: "reading" not in text and sum(ord(char) in CURVE for char in text) > 40)
        print(f"     all is read after       {read:5.2f} s", end="")
        end = time.perf_counter() + 1
        until(lambda _: time.perf_counter() > end)
        print(f", at most {memory(process.pid) / 1e6:,.0f} MB, then {memory(process.pid, 'VmRSS') / 1e6:,.0f} MB")
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the app is a child of what was started
        process.wait()
        os.close(master)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--package", default="", help="the checkout of another version")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"NANOGPT_HOME": home, "NANOGPT_RUNS_DIR": f"{home}/runs", "NANOGPT_CACHE_DIR": f"{home}/cache"}
        os.environ.pop("NANOGPT_DATA_DIR", None)
        run = Path(home) / "runs" / "long"
        made(run, options.steps)
        print(f"{options.steps:,} steps, {(run / 'events.jsonl').stat().st_size / 1e6:,.0f} MB")
        app(options.package, "long")
        began = time.perf_counter()
        words = command(options.package, "nanogpt", "watch", "long", "--json")
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd=options.package or None)
        print(f"nanogpt watch --json: {time.perf_counter() - began:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
