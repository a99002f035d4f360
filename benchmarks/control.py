"""How soon a training of another process applies a command, and what looking for commands costs it.

    python benchmarks/control.py TEXT_FILE

Every command is sent some times to a detached run, and the time until its acknowledgement is
measured from outside; then 50 commands at once; then the cost of one look for commands and at the disk's state.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from kills import command

from nanogpt import runs
from nanogpt.events import Acknowledged, Event, Step
from nanogpt.runs.control_files import FileCommandQueue, send_command
from nanogpt.training import control

TIMES = 5
KINDS: dict[str, control.RemoteCommand] = {
    "pause": control.Pause(),
    "learning rate, while paused": control.SetLearningRateScale(0.5),
    "resume": control.Resume(),
    "learning rate": control.SetLearningRateScale(0.5),
    "evaluation interval": control.SetEvalInterval(10**6),
    "last step": control.SetMaxIters(10**7),
    "sample": control.Sample("\n"),
    "save": control.Save(),
}
Followed = Generator[Event, None, None]


def main() -> int:
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"NANOGPT_HOME": home, "NANOGPT_CACHE_DIR": f"{home}/cache"}
        subprocess.run(command("prepare", "textfile", sys.argv[1], "--output=text"), check=True, capture_output=True)
        settings = ["--preset=macbook", "--dataset=text", "--max_iters=1000000", "--eval_interval=100000"]
        subprocess.run(command("train", "--name=one", "--detach", *settings), check=True, capture_output=True)
        run = runs.find("one")
        try:
            events = runs.follow(run, from_start=False, poll_s=0.005)
            seconds = [event.elapsed_s for event in islice((e for e in events if isinstance(e, Step)), 200)]
            step_s = (seconds[-1] - seconds[0]) / (len(seconds) - 1)
            print(f"one step: {1000 * step_s:.1f} ms")
            for name, each in KINDS.items():
                delays = [applied(run, events, [each]) for _ in range(TIMES)]
                print(f"{name:<28} {1000 * statistics.median(delays):4.0f} ms, at most {1000 * max(delays):4.0f} ms")
            many: list[control.RemoteCommand] = [control.SetMaxIters(10**7 + number) for number in range(50)]
            print(f"{'50 commands at once':<28} {1000 * applied(run, events, many):4.0f} ms for all, in order")
            delay = applied(run, events, [control.Stop(save=False)])
            print(f"{'stop':<28} {1000 * delay:4.0f} ms")
        finally:
            with suppress(ProcessLookupError):
                os.kill(runs.summary(run).pid, signal.SIGTERM)
        commands, looks = FileCommandQueue(run), 200_000
        began = time.perf_counter()
        for _ in range(looks):
            commands.take()
        print(f"a look for commands at each step: {1e6 * (time.perf_counter() - began) / looks:.2f} µs")
    return 0


def applied(run: Path, events: Followed, sent: list[control.RemoteCommand]) -> float:
    """Seconds until all were acknowledged, in the order in which they were sent."""
    began = time.monotonic()
    ids = [send_command(run, each) for each in sent]
    for event in events:
        if isinstance(event, Acknowledged) and event.id == ids[0]:
            ids.pop(0)
            if not ids:
                break
    if ids:
        sys.exit(f"{len(ids)} commands were not applied in order")
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
