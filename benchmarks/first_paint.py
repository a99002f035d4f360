"""How long the app takes from its start to its first picture, in a real pseudo-terminal.

    python benchmarks/first_paint.py [--rounds 10] [--limit_s 0.5]

The first round warms the disk cache and is left out. Exit code 1 where the median is above the limit.
"""

import argparse
import fcntl
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
from statistics import median


def first_paint_s(columns: int = 120, rows: int = 40, timeout_s: float = 20.0) -> float:
    """Seconds until the empty state's text has arrived at the terminal."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with tempfile.TemporaryDirectory() as home:
        folders = {f"NANOGPT_{name}": home for name in ("HOME", "RUNS_DIR", "CONFIG_DIR", "DATA_DIR", "CACHE_DIR")}
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "nanogpt_tui"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, **folders, "TERM": "xterm-256color"},
        )
        os.close(slave)
        seen = b""
        try:
            while b"Nothing has been" not in seen:
                if time.perf_counter() - began > timeout_s:
                    raise TimeoutError(f"no picture within {timeout_s} s")
                if select.select([master], [], [], 0.1)[0]:
                    seen += os.read(master, 65536)
            return time.perf_counter() - began
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # the app is a child of what was started
            process.wait()
            os.close(master)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--limit_s", type=float, default=0.5)
    options = parser.parse_args()
    taken = [first_paint_s() for _ in range(options.rounds + 1)][1:]
    print(f"first paint: median {median(taken):.3f} s, slowest {max(taken):.3f} s of {len(taken)}")
    return int(median(taken) > options.limit_s)


if __name__ == "__main__":
    sys.exit(main())
