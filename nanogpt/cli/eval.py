"""`nanogpt eval [RUN]`: the loss of a checkpoint over a whole split, in units that compare across tokenizers."""

import argparse
from collections.abc import Iterator
from contextlib import closing

from nanogpt.cli.console import live_line
from nanogpt.cli.settings import add_weights
from nanogpt.cli.tables import print_table
from nanogpt.config import Setting
from nanogpt.data.store import SPLITS
from nanogpt.events import Encoding, Evaluating, SplitEvaluated, to_json
from nanogpt.formatting import counted, duration
from nanogpt.paths import expanded

DESCRIPTION = """Measure the loss of a trained model over a whole split of its data set. Each token except the first is
predicted exactly once. The split is read in windows of block_size tokens, one every --stride tokens; only the tokens
that are new in a window count. By default the windows do not overlap (stride = block_size), so the first tokens of a
window are predicted from few others. With a smaller stride each token is predicted from at least
block_size - stride + 1 tokens; that lowers the loss, and takes block_size / stride times as long. Bits per byte compare
models with different tokenizers."""

STRIDE = Setting("stride", "eval", int, True, None, "tokens from one window to the next", low=1, high=10_000_000)
BATCH_SIZE = Setting("batch_size", "eval", int, True, None, "windows at a time", low=1, high=1_000_000)
DTYPES = ("float32", "bfloat16", "float16", "int8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", nargs="?", metavar="RUN", help="a run's name or path, or a checkpoint (default: the newest run)"
    )
    parser.add_argument("--split", choices=SPLITS, default="val", help="which split (default: val)")
    parser.add_argument("--stride", metavar="INT", help=f"{STRIDE.help} (default: block_size, no overlap)")
    parser.add_argument(
        "--checkpoint", default="best", metavar="best|latest|STEP", help="which checkpoint (default: best)"
    )
    add_weights(parser)
    parser.add_argument("--dataset", help="another data set with the same tokenizer (default: the run's own)")
    parser.add_argument("--batch_size", metavar="INT", help=f"{BATCH_SIZE.help} (default: as the run was trained with)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="number format of matrix products; int8: a CPU's, with what it costs (default: float32)",
    )
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    parser.add_argument("--runs_dir", type=expanded, help="folder of the runs")
    parser.add_argument("--data_dir", type=expanded, help="folder of the prepared data sets")


def run(args: argparse.Namespace) -> int:
    stride, batch_size = STRIDE.parse(args.stride), BATCH_SIZE.parse(args.batch_size)

    from nanogpt.runs import evaluate_run

    result: SplitEvaluated | None = None
    events = evaluate_run(
        args.source,
        split=args.split,
        stride=stride,
        checkpoint=args.checkpoint,
        weights=args.weights,
        dataset=args.dataset,
        batch_size=batch_size,
        device=args.device,
        dtype=args.dtype,
        data_dir=args.data_dir,
        runs_dir=args.runs_dir,
    )
    with live_line() as live, closing(events):
        for event in events:
            if isinstance(event, Encoding):
                live(f"counting the text: {event.done_bytes / event.total_bytes:.0%}")
            elif isinstance(event, Evaluating):
                live(f"evaluating: {event.done:,} of {event.total:,} batches")
            elif isinstance(event, SplitEvaluated):
                result = event
        live("")
    if result is None:
        return 1
    if args.json:
        print(to_json(result))
    else:
        print_table(table_rows(result))
    return 0


def table_rows(result: SplitEvaluated) -> Iterator[tuple[str, str]]:
    """Yield a name and a text for each figure."""
    yield "run", f"{result.run}, step {result.step:,}{', averaged weights' if result.is_average else ''}"
    yield "data set", f"{result.dataset}, {result.split} split"
    sizes = counted(result.tokens, "token"), counted(result.characters, "character"), counted(result.bytes, "byte")
    yield "text", ", ".join(sizes)
    overlap = "no overlap" if result.stride == result.block_size else f"one every {counted(result.stride, 'token')}"
    yield "windows", f"{counted(result.block_size, 'token')}, {overlap}"
    yield "loss", f"{result.loss:.4f} nats per token"
    yield "perplexity", f"{result.perplexity:,.2f}"
    yield "bits per character", f"{result.bits_per_character:.4f}"
    yield "bits per byte", f"{result.bits_per_byte:.4f}"
    if result.int8_cost is not None:
        yield "int8 costs", f"{result.int8_cost:.4f} bits per byte, measured on {counted(result.predicted, 'token')}"
    yield "took", f"{duration(result.elapsed_s)} on {result.device} in {result.dtype}"
