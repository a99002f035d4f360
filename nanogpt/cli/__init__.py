"""The `nanogpt` command: find the command's module, parse its options, turn errors into exit codes.

`nanogpt/cli/<command>.py` is imported only when its command is used. It has `add_arguments(parser)`, `run(args) -> int`
and, if the one-line help is not enough, `DESCRIPTION`. Exit codes: 0, 1 (the work failed), 2 (bad input), 130
(interrupted), 141 (the reader of stdout has closed it, as with `cat`).
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from nanogpt import __version__
from nanogpt.cli.console import print_message, redirect_to_null
from nanogpt.errors import ReportedError, UserError, nearest

COMMANDS: dict[str, str] = {
    "quickstart": "prepare, train and sample in about a minute: start here",
    "learn": "short lessons, each with an experiment that runs here: tokens to scaling laws",
    "datasets": "list the data sets: which are prepared, which work offline",
    "prepare": "turn text into tokens for training",
    "tokenizer": "train, look at, compare and export tokenizers",
    "train": "train a model, or resume a run",
    "watch": "follow a run, whichever process trains it",
    "ctl": "steer a training: pause, resume, save, stop, set, sample",
    "eval": "measure the loss over a whole split: perplexity, bits per byte",
    "sample": "generate text with a trained model",
    "runs": "list the runs",
    "info": "show one run: its state, losses, speed, checkpoints and layers",
    "spikes": "show the jumps of a run's loss, with the text that caused them",
    "look": "look inside a model: attention, each layer's predictions, embeddings, losses",
    "import": "make a run of weights from nanoGPT or Hugging Face",
    "export": "export a model for other programs, or what a run recorded: a page, tables, curves",
    "push": "send a run to the Hugging Face Hub with a model card; a dry run without --send",
    "pull": "make a run of one that was sent to the Hugging Face Hub",
    "config": "show the settings in use and where each comes from",
    "ladder": "train the steps from a bigram to a modern GPT, to see what each idea brings",
    "doctor": "check this machine and terminal: what is wrong and how to fix it",
    "bench": "measure the speed of training and sampling on this machine",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Raise errors that are faults of the program."""
    _open_streams()
    if hasattr(sys.stdout, "reconfigure"):  # print ? for characters that the encoding lacks
        sys.stdout.reconfigure(errors="replace")
    name, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    program = f"nanogpt {name}" if name in COMMANDS else "nanogpt"
    try:
        with _interruptible_imports():
            code = _dispatch(name, arguments)
        sys.stdout.flush()
        return code
    except ReportedError:
        return 1
    except UserError as error:
        return _refuse(program, str(error))
    except KeyboardInterrupt:
        if _is_local_main_process():
            print_message(f"\n{program}: interrupted")
        return 130
    except BrokenPipeError:
        _flush_or_discard()
        return 141
    except OSError as error:
        from nanogpt.files import REFUSALS, why

        if error.errno not in REFUSALS:
            raise
        _flush_or_discard()
        place = f"{error.filename}: " if error.filename else ""
        return _refuse(program, f"{place}{why(error)}, or choose another place")


@contextmanager
def _interruptible_imports() -> Iterator[None]:
    """Let Ctrl+C end the process immediately while torch or numpy is imported.

    Their C code may swallow KeyboardInterrupt, and there is no work to lose yet.
    """

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        specs = [getattr(sys.modules.get(name), "__spec__", None) for name in ("numpy", "torch")]
        if any(getattr(spec, "_initializing", False) for spec in specs):
            if _is_local_main_process():
                os.write(2, b"\nnanogpt: interrupted\n")
            os._exit(130)
        raise KeyboardInterrupt

    is_plain = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_plain or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_local_main_process() -> bool:
    """Return whether this process reports an interruption: of several on this machine, the first one does."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _open_streams() -> None:
    """Open the standard streams that are closed: otherwise the next opened file gets their number and `print` writes
    into it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 (they stay open)


def _flush_or_discard() -> None:
    """Write what stdout has, or discard it if that fails: the interpreter tries again at exit, which must not fail."""
    try:
        sys.stdout.flush()
    except OSError:
        redirect_to_null(sys.stdout.fileno())


def _refuse(program: str, message: str) -> int:
    print_message(" ".join(f"{program}: {message}".splitlines()))
    return 2


def _dispatch(name: str, arguments: Sequence[str]) -> int:
    if name in ("-h", "--help"):
        print(_overview())
        return 0
    if name == "--version":
        print(f"nanogpt {__version__}")
        return 0
    if name.startswith("-"):
        raise UserError(f"unknown option {name}; put the command first, as in `nanogpt train --help`")
    if name not in COMMANDS:
        raise UserError(f"unknown command {name!r}.{nearest(name, list(COMMANDS)) or ' `nanogpt --help` lists them'}")

    from importlib import import_module

    from nanogpt.cli.options import Parser
    from nanogpt.hardware import share_cores

    share_cores()
    command = import_module(f"nanogpt.cli.{name}")
    parser = Parser(name, getattr(command, "DESCRIPTION", COMMANDS[name]))
    command.add_arguments(parser)
    try:
        options = parser.parse(arguments)
    except SystemExit:  # argparse has printed the help
        return 0
    code: int = command.run(options)
    return code


def _overview() -> str:
    commands = "\n".join(f"  {name:<12}{text}" for name, text in COMMANDS.items())
    return f"""\
usage: nanogpt COMMAND [OPTIONS]

From raw text to generated text: prepare data, train a small GPT, generate text.

{commands}

New here?  `nanogpt quickstart` trains a model and shows what it writes.
Step by step:
  nanogpt prepare shakespeare_char
  nanogpt train --preset=macbook --dataset=shakespeare_char
  nanogpt sample

`nanogpt COMMAND --help` lists a command's options (dashes and underscores are equivalent); `nanogpt --version`."""
