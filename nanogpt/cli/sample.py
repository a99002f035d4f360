"""`nanogpt sample [RUN]`: generate text with a trained model and print it token by token."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from nanogpt.cli.console import print_message
from nanogpt.cli.settings import add_knobs, add_weights, typed
from nanogpt.config import Setting, resolve_sampling, sampling_settings
from nanogpt.data.binaries import HEAD_BYTES, identify_binary
from nanogpt.errors import UserError
from nanogpt.events import Stopped, Token, to_json
from nanogpt.files import why
from nanogpt.formatting import counted, printable
from nanogpt.paths import expanded
from nanogpt.tokenizers import Tokenizer

if TYPE_CHECKING:
    from nanogpt.runs import LoadedModel

BETWEEN_SAMPLES = "---------------"
LONGEST_START = 1 << 26  # bytes
NUM_SAMPLES = Setting("num_samples", "sampling", int, False, 1, "texts to write in parallel", low=1, high=10_000)
DTYPE = Setting(
    "dtype",
    "sampling",
    str,
    False,
    "auto",
    "number format of matrix products; auto: the faster of the first two; int8: a CPU's, less exact",
    choices=("auto", "float32", "bfloat16", "int8"),
)

DESCRIPTION = """Generate text with a trained model. The prompt and the text go to stdout, token by token; messages go
to stderr. The same seed gives the same text."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", nargs="?", metavar="RUN", help="a run's name or path, or a checkpoint (default: the newest run)"
    )
    parser.add_argument(
        "--start",
        default="",
        metavar="TEXT|FILE:PATH|-",
        help="the prompt: a text, a UTF-8 file, or stdin; used unchanged, with a line end at its end",
    )
    parser.add_argument("--num_samples", default="1", metavar="INT", help=f"{NUM_SAMPLES.help} (default: 1)")
    add_knobs(parser)
    parser.add_argument(
        "--checkpoint", default="best", metavar="best|latest|STEP", help="which checkpoint (default: best)"
    )
    add_weights(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument(
        "--dtype", default=DTYPE.default, metavar="|".join(DTYPE.choices), help=f"{DTYPE.help} (default: auto)"
    )
    parser.add_argument(
        "--unknown",
        choices=("error", "replace"),
        default="error",
        help="what to do with prompt characters that the model does not know (default: error)",
    )
    parser.add_argument("--json", action="store_true", help="every event as one line of JSON, instead of the text")
    parser.add_argument("--runs_dir", type=expanded, help="folder of the runs")


def run(args: argparse.Namespace) -> int:
    knobs = resolve_sampling(typed(args, sampling_settings()), args.stop)
    num_samples, dtype = NUM_SAMPLES.parse(args.num_samples), DTYPE.parse(args.dtype)
    prompt = start_text(args.start)

    # Imported here: torch takes a second, and bad options are refused without it.
    from nanogpt.hardware import is_out_of_memory
    from nanogpt.runs import checkpoints, load_model
    from nanogpt.sampling import generate, resolve_sampling_dtype

    folder, path = checkpoints.locate(args.source, args.checkpoint, args.runs_dir)  # the newest run may change
    device = "cpu" if dtype == "int8" and args.device == "auto" else args.device
    loaded = load_model(str(path), device=device, weights=args.weights)
    prompt = known_text(loaded.tokenizer, prompt, args.unknown == "replace")
    loss = "" if loaded.val_loss is None else f", val loss {loaded.val_loss:.4f}"
    dtype, _ = resolve_sampling_dtype(dtype, loaded.model)
    step = f"step {loaded.step:,}{', averaged weights' if loaded.is_average else ''}"
    print_message(f"{loaded.run}, {step}{loss}, on {loaded.device} in {dtype}, seed {knobs.seed}")
    if dtype == "int8":
        for line in about_int8(loaded, folder):
            print_message(line)
    events = generate(
        loaded.model,
        loaded.tokenizer,
        prompt,
        knobs,
        num_samples=num_samples,
        alternatives=5 if args.json else 0,  # plain text shows none
        dtype=dtype,
    )
    try:
        with closing(events):
            ends = write_json(events) if args.json else write_text(events, prompt, num_samples)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        advice = f"lower num_samples (now {num_samples}), or use another --device"
        raise UserError(f"out of memory: {advice if num_samples > 1 else 'use another --device'}") from None
    tokens = sum(end.tokens for end in ends)
    # All samples are generated in parallel, so the slowest took as long as all of them.
    took_s = max((end.tokens / end.tokens_per_second for end in ends if end.tokens), default=0.0)
    print_message(counted(tokens, "token") + (f", {tokens / took_s:,.0f} tokens/s" if took_s else ""))
    return 0


def about_int8(loaded: "LoadedModel", run: Path) -> Iterator[str]:
    """Yield what int8 costs, and whether it gains anything."""
    from nanogpt.runs.int8_loss import measure_int8_loss
    from nanogpt.sampling.packed_linear import MIN_WEIGHTS_FOR_INT8

    if (measured := measure_int8_loss(run, loaded.model)) is not None:
        loss, tokens = measured
        yield f"int8 costs {loss:.4f} bits per byte, measured on {counted(tokens, 'token')} of the validation split"
    else:
        yield "what int8 costs is not known: that is measured on the validation split of the run, which is not here"
    if (weights := loaded.model.config.flops_per_token() // 6) < MIN_WEIGHTS_FOR_INT8:
        yield (
            f"int8 gains no speed for this model of {weights / 1e6:.1f} million weights: it does from about "
            f"{MIN_WEIGHTS_FOR_INT8 / 1e6:.0f} million"
        )


def start_text(start: str) -> str:
    """Return the prompt for `--start`: the text itself, or the content of a file or stdin without a byte order mark.

    Raise `UserError` if it cannot be read or is not UTF-8.
    """
    if start != "-" and not start.startswith("FILE:"):
        return start
    name = "stdin" if start == "-" else start.removeprefix("FILE:")
    try:
        with nullcontext(sys.stdin.buffer) if start == "-" else expanded(name).open("rb") as file:  # may be a pipe
            data = file.read(LONGEST_START + 1)
        if len(data) > LONGEST_START:
            raise UserError(f"the prompt from {name} is longer than {LONGEST_START:,} bytes: use a shorter one")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read the prompt from {name}: {why(error)}") from None
    except UnicodeDecodeError as error:
        if what := identify_binary(f"the prompt from {name}", data[:HEAD_BYTES]):
            raise UserError(what) from None
        raise UserError(f"the prompt from {name} is not UTF-8 (byte {error.start:,}): save it as UTF-8") from None


def known_text(tokenizer: Tokenizer, prompt: str, replace: bool) -> str:
    """Return the prompt, with `replace` without its unknown characters. Raise `UserError` if it has any otherwise."""
    try:
        tokenizer.encode(prompt)
    except UserError as error:
        if replace:
            return tokenizer.decode(id for id in tokenizer.encode(prompt, "replace") if id != tokenizer.unknown_id)
        windows = " (it ends lines on Windows: `tr -d '\\r'` removes it)" if "U+000D" in str(error) else ""
        raise UserError(f"{error}{windows}, or replace it with --unknown=replace") from None
    return prompt


def write_json(events: Iterable[Token | Stopped]) -> list[Stopped]:
    """Print each event as JSON; return how the samples ended."""
    ends = []
    for event in events:
        print(to_json(event), flush=True)
        if isinstance(event, Stopped):
            ends.append(event)
    return ends


def write_text(events: Iterable[Token | Stopped], prompt: str, num_samples: int) -> list[Stopped]:
    """Print the first sample token by token, then the others; return how they ended."""
    ends, waiting, write = [], [prompt] * num_samples, PrintableWriter().write
    write(prompt)
    for event in events:
        if isinstance(event, Stopped):
            ends.append(event)
        elif event.sample == 0:
            write(event.text)
        else:
            waiting[event.sample] += event.text
    write("\n")
    for text in waiting[1:]:
        write(f"{BETWEEN_SAMPLES}\n{text}\n")
    return ends


class PrintableWriter:
    """Writes text to stdout immediately, with control characters replaced, because a pipe may end in a terminal.

    A carriage return stays if it is part of a line end.
    """

    def __init__(self) -> None:
        self._held = ""  # a carriage return, until the next character is known

    def write(self, text: str) -> None:
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        sys.stdout.write("\r\n".join(map(printable, text.removesuffix("\r").split("\r\n"))))
        sys.stdout.flush()
