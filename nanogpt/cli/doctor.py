"""`nanogpt doctor`: check the terminal, Python, torch, devices and folders, and say how to fix what is wrong."""

import argparse
import errno
import json
import locale
import os
import platform
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from nanogpt import hardware, paths
from nanogpt.cli import terminal
from nanogpt.files import read_text, reason, why
from nanogpt.formatting import CONSOLES, default_glyphs, printable, supports_unicode

DESCRIPTION = """Look at the terminal, Python, torch, devices, number formats, compiler, disk and folders, and say what
is wrong and how to fix it. The exit code is 1 if something has to be fixed before this program can work."""

FEW_BYTES, SCARCE_BYTES = 200e6, 2e9
APP = {"ssh_mode": "auto", "notifications": "off"}  # defaults of the app's settings
FULL_SIZE, MIN_SIZE = (80, 24), (40, 10)  # columns and rows: for all screens, and for the training only


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. `level`: "good"; "poor": it works, but slower or less well; "bad": fix it, `mend` says how."""

    name: str
    level: Literal["good", "poor", "bad"]
    text: str
    mend: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the findings as JSON")


def run(args: argparse.Namespace) -> int:
    findings = []
    width = 14
    unicode = default_glyphs(os.environ, sys.stdout.encoding) != "ascii"
    marks = dict(zip(("good", "poor", "bad"), "✓!✗" if unicode else "+!x", strict=True))
    for finding in all_findings():
        findings.append(finding)
        if not args.json:
            advice = f"; {finding.mend}" if finding.mend else ""
            print(printable(f"{marks[finding.level]} {finding.name:<{width}}{finding.text}{advice}"), flush=True)
    fit = all(finding.level != "bad" for finding in findings)
    if args.json:
        print(json.dumps({"fit": fit, "findings": [asdict(finding) for finding in findings]}, indent=1))
    return 0 if fit else 1


def all_findings() -> Iterator[Finding]:
    """Yield all findings as they are made."""
    yield from the_terminal()
    yield Finding("python", "good", f"{platform.python_version()} at {sys.executable}")
    yield from torch_and_devices()
    yield from folders()


def the_terminal() -> Iterator[Finding]:
    """Yield what the terminal can show, as far as a program can find out."""
    size = terminal.size()
    if size is None:
        yield Finding("terminal", "good", "none: the output goes to a file or a pipe")
    else:
        yield _size(*size)
        yield _colours()
        synchronises = terminal.synchronises_output()
        answer = {True: "yes", False: "no: a repaint may flicker", None: "unknown: it did not answer"}[synchronises]
        yield Finding("synchronised", "good" if synchronises else "poor", answer)
    encoding = sys.stdout.encoding
    if supports_unicode(encoding):
        named = os.environ.get("TERM")
        few = f"{encoding}, but a console's font (TERM is {named}) has few characters: the app draws in ASCII"
        many = f"{encoding}: charts in braille or blocks, as the font has them"
        yield Finding("characters", "good", few if named in CONSOLES else many)
    else:
        yield Finding("characters", "poor", f"{encoding}: charts in ASCII", "set LANG or LC_ALL to one with UTF-8")
    if os.environ.get("TMUX"):
        yield Finding("tmux", "good", "yes: runs survive a lost connection")
    if os.environ.get("SSH_CONNECTION"):
        advice = "" if os.environ.get("TMUX") else "`nanogpt train --detach` survives a lost connection"
        yield Finding("ssh", "good", "yes: the app sends less, unless its setting ssh_mode is off", advice)
    file = paths.config_dir() / "tui.toml"
    try:
        chosen = tomllib.loads(read_text(file))
    except FileNotFoundError:
        chosen = {}
    except (OSError, ValueError, RecursionError) as error:
        advice = "" if isinstance(error, PermissionError) else "fix or remove the file"
        yield Finding("app", "bad", f"its settings {file} cannot be read: {why(error)}", advice)
        return
    usually = APP | {"glyphs": default_glyphs(os.environ, locale.getpreferredencoding(False))}
    in_use = ", ".join(f"{name}={chosen.get(name, usual)}" for name, usual in usually.items())
    yield Finding("app", "good", f"{in_use}; to change with F2 in the app, or in {file}")


def _size(columns: int, rows: int) -> Finding:
    """Return what the app shows in a terminal of this size."""
    if not (columns and rows):
        return Finding("terminal", "good", "the size is unknown")
    shown = f"{columns} columns, {rows} rows"
    if os.environ.get("TERM") == "dumb":
        return Finding("terminal", "poor", f"{shown}, TERM is dumb: the app does not start", "set TERM to the real one")
    if columns < MIN_SIZE[0] or rows < MIN_SIZE[1]:
        return Finding(
            "terminal", "poor", f"{shown}: the app shows nothing", "the app needs 40 × 10, and 80 × 24 for all screens"
        )
    if columns < FULL_SIZE[0] or rows < FULL_SIZE[1]:
        return Finding("terminal", "poor", f"{shown}: the app shows only the training", "80 × 24 shows everything")
    return Finding("terminal", "good", shown)


def _colours() -> Finding:
    count = terminal.colours(os.environ)
    if count >= 256:
        return Finding("colours", "good", f"{count:,}")
    if os.environ.get("NO_COLOR"):
        return Finding("colours", "good", "none, as NO_COLOR asks")
    named = os.environ.get("TERM", "") or "not set"
    return Finding("colours", "poor", f"{count} (TERM is {named})", "set TERM=xterm-256color if the terminal has 256")


def torch_and_devices() -> Iterator[Finding]:
    """Yield the versions and devices that torch can use."""
    try:
        import torch
    except Exception as error:  # a broken installation can raise anything
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        yield Finding(
            "torch",
            "bad",
            f"cannot be imported: {text[:200]}",
            f"reinstall it: {sys.executable} -m pip install --force-reinstall torch",
        )
        return
    yield Finding("torch", "good", str(torch.__version__))
    device = hardware.resolve_device("auto")
    for index in hardware.usable_gpus():
        gpu = torch.cuda.get_device_properties(index)
        memory = f"{gpu.total_memory / 2**30:.0f} GiB"
        yield Finding(f"cuda:{index}", "good", f"{gpu.name}, {memory}, capability {gpu.major}.{gpu.minor}")
    if device == "cpu" and shutil.which("nvidia-smi"):
        reason = "this torch is built without CUDA" if not torch.version.cuda else "torch cannot use it"
        yield Finding(
            "gpu", "poor", f"there is an NVIDIA driver, but {reason}", "install a build of torch for this driver"
        )
    if device == "mps":
        yield Finding("mps", "good", "Apple's GPU")
    left = hardware.available_memory("cpu")
    free = f", {left / 2**30:.1f} GiB of memory free" if left is not None else ""
    yield Finding("cpu", "good", f"{hardware.cpu_model()}, {hardware.usable_cores()} cores{free}")
    # for a large model, where the choice matters
    dtype, why = hardware.resolve_dtype("auto", device, width=10**6, tokens=10**6)
    yield Finding("number format", "good", f"{dtype} on {device}: {why}")
    lacking = hardware.missing_for_compile(device)
    if lacking:
        yield Finding(
            "torch.compile", "poor", f"it needs {lacking}", "install it for more speed; everything works without it"
        )
    else:
        yield Finding("torch.compile", "good", "a compiler is installed")


def folders() -> Iterator[Finding]:
    """Yield the folders that are written, and the free space there."""
    places = {
        "runs": (paths.runs_dir(), "NANOGPT_RUNS_DIR"),
        "data sets": (paths.datasets_dir(), "NANOGPT_DATA_DIR"),
        "cache": (paths.cache_dir(), "NANOGPT_CACHE_DIR"),
        "settings": (paths.config_dir(), "NANOGPT_CONFIG_DIR"),
    }
    for name, (folder, variable) in places.items():
        existing = next(path for path in (folder, *folder.parents) if os.path.exists(path))  # noqa: PTH110 (Path.exists can raise)
        try:
            with tempfile.TemporaryFile(dir=existing) as file:
                file.write(b"x")
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            mend = "free some space" if full else f"set {variable} to a writable folder"
            yield Finding(name, "bad", f"{folder} cannot be written: {reason(error)}", mend)
            continue
        yield _space(name, folder, existing)


def _space(name: str, folder: Path, existing: Path) -> Finding:
    free = shutil.disk_usage(existing).free
    text = f"{folder}, {free / 1e9:,.1f} GB free"
    if free < FEW_BYTES:
        return Finding(name, "bad", text, "free some space")
    return Finding(name, "poor" if free < SCARCE_BYTES else "good", text, "" if free >= SCARCE_BYTES else "that is low")
