"""Runs on disk: folders, checkpoints, recorded events; starting, resuming, following and loading them.

The exports are lazy: listing runs imports no torch.
"""

from typing import TYPE_CHECKING

from nanogpt.lazy import exports

if TYPE_CHECKING:
    from nanogpt.runs.benchmark import run_benchmark
    from nanogpt.runs.checkpoints import Checkpoint, best, choose, latest, list_checkpoints
    from nanogpt.runs.control_files import FileCommandQueue, send_command
    from nanogpt.runs.detached import resume_detached, start_detached
    from nanogpt.runs.evaluation import evaluate_run
    from nanogpt.runs.folder import find, history, new_folder, read_events, summary
    from nanogpt.runs.following import follow
    from nanogpt.runs.ladder import climb_ladder, load_rungs
    from nanogpt.runs.launch import resume, start
    from nanogpt.runs.listing import list_runs
    from nanogpt.runs.load import LoadedModel, load_model
    from nanogpt.runs.quickstart import run_quickstart
    from nanogpt.runs.run_dataset import splits, with_dataset
    from nanogpt.runs.state import RunState, reduce
    from nanogpt.runs.timed import TimedResult, train_and_evaluate

_HOMES = (
    dict.fromkeys(("Checkpoint", "best", "choose", "latest", "list_checkpoints"), "checkpoints")
    | dict.fromkeys(("find", "history", "new_folder", "read_events", "summary"), "folder")
    | dict.fromkeys(("climb_ladder", "load_rungs"), "ladder")
    | dict.fromkeys(("resume", "start"), "launch")
    | dict.fromkeys(("splits", "with_dataset"), "run_dataset")
    | dict.fromkeys(("resume_detached", "start_detached"), "detached")
    | {"run_quickstart": "quickstart", "list_runs": "listing"}
    | {"run_benchmark": "benchmark", "evaluate_run": "evaluation"}
    | dict.fromkeys(("LoadedModel", "load_model"), "load")
    | {"follow": "following"}
    | dict.fromkeys(("FileCommandQueue", "send_command"), "control_files")
    | dict.fromkeys(("RunState", "reduce"), "state")
    | dict.fromkeys(("TimedResult", "train_and_evaluate"), "timed")
)

__all__ = [
    "Checkpoint",
    "FileCommandQueue",
    "LoadedModel",
    "RunState",
    "TimedResult",
    "best",
    "choose",
    "climb_ladder",
    "evaluate_run",
    "find",
    "follow",
    "history",
    "latest",
    "list_checkpoints",
    "list_runs",
    "load_model",
    "load_rungs",
    "new_folder",
    "read_events",
    "reduce",
    "resume",
    "resume_detached",
    "run_benchmark",
    "run_quickstart",
    "send_command",
    "splits",
    "start",
    "start_detached",
    "summary",
    "train_and_evaluate",
    "with_dataset",
]

__getattr__ = exports(__name__, _HOMES)
