"""Kills one of several processes of a training at random moments, resumes it in another number each time.

    python benchmarks/rank_kills.py TEXT_FILE [--kills 20] [--seed 1]

On a CPU in float32, one thread each, in a temporary home. Every attempt has two or three processes, forks of this one,
which has imported torch and computed nothing; the one that gets SIGKILL is drawn. After every kill the others have to
end by themselves within 30 s, with one line at most, and the checkpoints have to be readable. At the end one process
does the remaining steps, and every loss is compared with those of a run of one process left alone. Exit code 1 if
anything differs.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: a pool of threads does not survive a fork

import argparse
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from kills import import_everything, readable

SETTINGS = {"dataset": "kills", "n_layer": 1, "n_head": 2, "n_embd": 32, "block_size": 32, "batch_size": 6}
SETTINGS |= {"max_iters": 1500, "eval_interval": 25, "eval_iters": 2, "device": "cpu", "dtype": "float32"}
SETTINGS |= {"compile": "false", "threads": 1, "sample_tokens": 0, "learning_rate": 1e-3}
LIMIT_S = 30.0
LONGEST_S = 2.0  # the latest moment of a kill, after the start of the processes or after their first event
TOLERANCE = 1e-4  # of a loss: the order of sums differs, and 1500 steps add that up


def start(run: Path, rank: int, size: int, port: int, lines: Path) -> int:
    """Fork a process of the training and return its id. Its errors go to the file `lines`."""
    pid = os.fork()
    if pid:
        return pid
    try:
        from nanogpt import runs
        from nanogpt.config import resolve
        from nanogpt.errors import ReportedError, UserError
        from nanogpt.runs.folder import is_run

        if size > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "NANOGPT_JOIN_TIMEOUT": "20"}
        flags = {name: str(value) for name, value in SETTINGS.items()}
        try:
            for _ in runs.resume(run) if is_run(run) else runs.start(resolve(flags=flags).config, run):
                pass
        except ReportedError:
            os._exit(1)
        except UserError as error:
            with lines.open("a") as file:
                file.write(f"{error}\n")
            os._exit(2)
        os._exit(0)
    finally:
        os._exit(3)


def wait_for_events(run: Path) -> None:
    """Wait until the record of the run grows."""
    record, until = run / "events.jsonl", time.monotonic() + 60
    size = record.stat().st_size if record.exists() else 0
    while (record.stat().st_size if record.exists() else 0) <= size and time.monotonic() < until:
        time.sleep(0.01)


def wait_all(pids: list[int], limit_s: float) -> bool:
    """Wait until the processes have ended; return whether they did in time. Kill those that did not."""
    until = time.monotonic() + limit_s
    while pids and time.monotonic() < until:
        pids = [pid for pid in pids if os.waitpid(pid, os.WNOHANG) == (0, 0)]
        time.sleep(0.02)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return not pids


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", help="a text file to train on")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    import_everything()
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    from nanogpt.data import prepare, textfile_recipe
    from nanogpt.runs import latest

    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"NANOGPT_HOME": home, "NANOGPT_CACHE_DIR": f"{home}/cache"}
        list(prepare(textfile_recipe([Path(args.text)], name="kills")))
        whole, cut, lines = Path(home, "runs", "whole"), Path(home, "runs", "cut"), Path(home, "lines")
        ended = wait_all([start(whole, 0, 1, 0, lines)], 600)
        good, slowest = ended, 0.0
        for number in range(args.kills):
            size = draw.choice((2, 3))
            store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            lines.unlink(missing_ok=True)
            pids = [start(cut, rank, size, store.port, lines) for rank in range(size)]
            if draw.random() < 0.8:
                wait_for_events(cut)
            time.sleep(draw.uniform(0, LONGEST_S))
            victim = draw.randrange(size)
            os.kill(pids[victim], signal.SIGKILL)
            os.waitpid(pids[victim], 0)
            began, others = time.monotonic(), [pid for pid in pids if pid != pids[victim]]
            good &= wait_all(others, LIMIT_S)
            slowest = max(slowest, time.monotonic() - began)
            readable(cut)
            said = lines.read_text().splitlines() if lines.exists() else []
            good &= len(said) <= 1
            at = latest(cut)
            print(f"{number + 1}: rank {victim} of {size} killed, ended in {time.monotonic() - began:.1f} s, "
                  f"checkpoint {at.step if at else None}; {' | '.join(said)}", flush=True)  # fmt: skip
        good &= wait_all([start(cut, 0, 1, 0, lines)], 600)
        good &= compare(whole, cut)
        print(f"{args.kills} kills, the others ended within {slowest:.1f} s: {'as expected' if good else 'WRONG'}")
        return 0 if good else 1


def compare(whole: Path, cut: Path) -> bool:
    """Return whether both runs have the same losses."""
    from nanogpt.events import Step
    from nanogpt.runs import history

    expected, found = (
        {event.step: event.loss for event in history(run) if isinstance(event, Step)} for run in (whole, cut)
    )
    worst = max((abs(found.get(step, 1e9) - loss) for step, loss in expected.items()), default=1e9)
    print(f"{len(expected):,} losses, the largest difference {worst:.1e}")
    return worst < TOLERANCE and found.keys() == expected.keys()


if __name__ == "__main__":
    sys.exit(main())
