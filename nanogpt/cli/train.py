"""`nanogpt train`: train a new run or resume one; prepare a missing data set first, and print a sample at the end."""

import argparse
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nanogpt.cli.console import ignoring_hangup, print_message
from nanogpt.cli.process_launcher import replace_by_launcher
from nanogpt.cli.runs import run_option
from nanogpt.cli.settings import add_settings, configured
from nanogpt.cli.training_display import interruptible_once_started, open_or_prepare, show
from nanogpt.config import Config, Resolved, SamplingConfig, to_flags, with_settings
from nanogpt.errors import ReportedError, UserError
from nanogpt.events import Finished
from nanogpt.formatting import counted, duration
from nanogpt.paths import expanded
from nanogpt.runs.checkpoints import latest
from nanogpt.runs.folder import check_free, find, is_run, run_config, run_name, runs_folder, summary
from nanogpt.runs.torchrun import is_restarted
from nanogpt.runs.weights import with_shape_of_weights

DESCRIPTION = """Train a model, or resume a run. Settings come from the defaults, a preset, FILE, then options.
`nanogpt config` with the same settings shows the result."""


FIRST_S = 15.0  # for which other processes of the same machine wait before they report an error; joining has 25 s


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="name of the run (default: made from the data set and the preset)")
    parser.add_argument("--out_dir", type=expanded, help="the run's folder, instead of a name among the runs")
    parser.add_argument(
        "--detach", action="store_true", help="train in a background process that survives this terminal"
    )
    add_folders(parser)
    add_settings(parser)


def add_folders(parser: argparse.ArgumentParser) -> None:
    """Add `--runs_dir` and `--data_dir`."""
    parser.add_argument("--runs_dir", type=expanded, help="folder of the runs")
    parser.add_argument("--data_dir", type=expanded, help="folder of the prepared data sets")


def run(args: argparse.Namespace) -> int:
    if args.name and args.out_dir:
        raise UserError("--name and --out_dir both set the folder of the run: give only one")
    with ignoring_hangup(), after_the_first_process():
        resumed = resumed_folder(args) if args.init_from == "resume" else None
        resolved = configured(args, run_config(resumed).values() if resumed else None)
        if args.detach and ("RANK" in os.environ or resolved.config.evaluation.eval_only):
            raise UserError("--detach does not work with eval_only, nor under torchrun: use --processes instead")
        if resolved.config.checkpoint.init_from == "resume":
            return resume(args, resolved, resumed or resumed_folder(args))
        dataset = Path(resolved.config.data.dataset)
        base = f"{dataset.name or dataset.absolute().name}-{args.preset or resolved.config.model.name}"
        return train(resolved.config, args, base, resolved.sources)


@contextmanager
def after_the_first_process() -> Iterator[None]:
    """Let the first of several processes on this machine report an error that all of them have: it ends the others."""
    try:
        yield
    except UserError as error:
        if os.environ.get("LOCAL_RANK", "0") != "0" and not is_of_group(error):
            time.sleep(FIRST_S)
        raise


def is_of_group(error: UserError) -> bool:
    """Return whether the processes of a training have decided which of them reports this error."""
    from nanogpt.training.distributed import ProcessGroupError

    return isinstance(error, ReportedError | ProcessGroupError)


def train(config: Config, args: argparse.Namespace, base: str, sources: Mapping[str, str] | None = None) -> int:
    """Train a new run, whose name starts with `base` unless one is given; return the exit code."""
    from nanogpt import runs
    from nanogpt.training import CommandQueue

    folder, is_launcher = new_folder(args, base), starts_several(config)
    if args.detach or is_launcher:
        open_or_prepare(config.data.dataset, args.data_dir)  # here, where its progress is visible
    if is_launcher and not args.detach:
        check_free(folder)
        values = with_shape_of_weights(config, sources, args.runs_dir).values()
        arguments = [*to_flags(values), *places_of(args, folder)]
        replace_by_launcher(config.system.processes, config.system.threads, arguments)
    if args.detach:
        pid = runs.start_detached(config, folder, data_dir=args.data_dir, runs_dir=args.runs_dir, sources=sources)
        return detached(folder, pid)
    commands = CommandQueue()
    places = {"data_dir": args.data_dir, "runs_dir": args.runs_dir}
    events = runs.start(config, folder, commands=commands, sources=sources, **places)
    finished = show(interruptible_once_started(events, commands), folder)
    return finish(finished, folder, config.evaluation.eval_only, args.data_dir)


def new_folder(args: argparse.Namespace, base: str) -> Path:
    """Return the folder of a new run. Raise `UserError` if it cannot be one."""
    from nanogpt import runs

    if args.out_dir:
        folder: Path = args.out_dir.absolute()
        return folder
    if "RANK" in os.environ:
        if args.name is None:
            raise UserError("all processes need the same name of the run: add --name=NAME")
        restarted = runs_folder(args.runs_dir) / str(args.name)
        if is_restarted(restarted):
            return restarted
    return runs.new_folder(base, name=args.name, runs_dir=args.runs_dir)


def starts_several(config: Config) -> bool:
    """Return whether this process has to start those that train. Raise `SettingError` if they are too many."""
    if config.system.processes == 1 or "RANK" in os.environ:
        return False
    config.check_processes()
    return True


def places_of(args: argparse.Namespace, folder: Path) -> list[str]:
    """Return the options with the folders."""
    places = {"out_dir": folder, "data_dir": args.data_dir, "runs_dir": args.runs_dir}
    return [f"--{name}={place}" for name, place in places.items() if place]


def resumed_folder(args: argparse.Namespace) -> Path:
    """Return the folder of the run to resume. Raise `UserError` if it does not exist."""
    return find(str(args.out_dir.absolute()) if args.out_dir else args.name, args.runs_dir)


def resume(args: argparse.Namespace, resolved: Resolved, folder: Path) -> int:
    """Resume a run with the given options, and with the values of preset and file that differ from the run's."""
    from nanogpt import runs
    from nanogpt.training import CommandQueue

    before = run_config(folder)
    recorded, asked = before.values(), resolved.config.values()
    asked["vocab_size"] = asked["vocab_size"] or recorded["vocab_size"]  # 0: as the tokenizer has
    changes = {
        name: asked[name]
        for name, source in resolved.sources.items()
        if source == "flag" or (source != "default" and asked[name] != recorded.get(name))
    }
    if asked["processes"] != recorded["processes"] and "processes" in changes:
        changes.setdefault("threads", 0)  # those of the run are for each of another number of processes
    if args.detach:
        return detached(folder, runs.resume_detached(folder, changes, data_dir=args.data_dir))
    if starts_several(config := with_settings(before, changes)):
        settings = [*to_flags(changes | {"init_from": "resume"}), *places_of(args, folder)]
        replace_by_launcher(config.system.processes, config.system.threads, settings)
    commands = CommandQueue()
    events = runs.resume(folder, changes, commands=commands, data_dir=args.data_dir)
    finished = show(interruptible_once_started(events, commands), folder)
    return finish(finished, folder, config.evaluation.eval_only, args.data_dir)


def detached(folder: Path, pid: int) -> int:
    """Print the run of a training in the background, and how to watch and stop it."""
    print(run_name(folder))
    name = shlex.quote(run_name(folder))
    print_message(f"Training in the background (pid {pid}). Watch: nanogpt watch {name}  Stop: nanogpt ctl {name} stop")
    return 0


def finish(finished: Finished | None, folder: Path, eval_only: bool = False, data_dir: Path | None = None) -> int:
    """Print how training ended and a sample from the best checkpoint; return the exit code.

    eval_only: it was to evaluate once, which writes no run. data_dir: the folder of the data sets that was given.
    """
    if os.environ.get("RANK", "0") != "0":
        return 0  # under torchrun only the first process prints
    if finished is None or finished.reason == "nan":
        return 1
    if finished.reason == "eval_only":
        print(f"train loss {finished.train_loss:.4f}, val loss {finished.val_loss:.4f}")
        return 0
    if finished.reason == "stopped" and eval_only:
        print_message("stopped; nothing was evaluated")
        return 0
    if finished.reason == "stopped":
        places = f" --data_dir={shlex.quote(str(data_dir))}" if data_dir else ""
        command = f"nanogpt train --init_from=resume {run_option(folder)}{places}"
        advice = f"resume with: {command}"
        if not is_run(folder):
            advice = f"its folder {folder} is gone"
        elif latest(folder) is None:
            advice = f"it has no checkpoint; start again at step 0 with: {command}"
        print_message(f"stopped at step {finished.step:,}; {advice}")
        return 0
    best = f"best val loss {finished.best_val_loss:.4f}, " if finished.best_val_loss is not None else ""
    if is_run(folder) and (bits := summary(folder).best_val_loss_in("bits per byte")) is not None:
        best += f"{bits:.4f} bits per byte, "
    print_message(f"done: {counted(finished.step, 'iteration')} in {duration(finished.elapsed_s)}, {best}in {folder}")
    config = run_config(folder)
    if config.evaluation.sample_tokens:
        print_message("sample:")
        try:
            write_sample(folder, config)
        except UserError as error:  # the run itself is complete
            print_message(f"no sample: {error}")
        print_message(f"for more: nanogpt sample {shlex.quote(run_name(folder))}")
    return 0


def write_sample(folder: Path, config: Config) -> None:
    """Print a sample from the run's best checkpoint, token by token. Raise `UserError` if memory runs out."""
    from nanogpt import hardware, runs, sampling
    from nanogpt.cli.sample import PrintableWriter
    from nanogpt.events import Token

    # The recorded GPU may be full, or too small for a model that was divided: then use the CPU.
    device = "auto" if config.system.device == "cuda" else config.system.device
    loaded = runs.load_model(str(folder), "best", device)
    knobs = SamplingConfig(max_new_tokens=config.evaluation.sample_tokens, seed=config.system.seed)
    prompt, write = config.evaluation.sample_start, PrintableWriter().write
    write(prompt)
    try:
        for event in sampling.generate(loaded.model, loaded.tokenizer, prompt, knobs, alternatives=0):
            if isinstance(event, Token):
                write(event.text)
    except RuntimeError as error:
        if not hardware.is_out_of_memory(error):
            raise
        raise UserError("out of memory") from None
    finally:
        write("\n")
