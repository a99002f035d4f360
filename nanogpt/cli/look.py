"""`nanogpt look [RUN]`: what a model does with a text: where it attends, what each layer would predict, and more."""

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanogpt.cli.sample import start_text
from nanogpt.cli.settings import add_weights
from nanogpt.cli.tables import print_table
from nanogpt.config import Setting
from nanogpt.errors import UserError
from nanogpt.files import why, write_atomically
from nanogpt.formatting import printable, token_text
from nanogpt.paths import expanded

if TYPE_CHECKING:
    from pathlib import Path

    from nanogpt.inspection.attention import Attention
    from nanogpt.runs.load import LoadedModel
    from nanogpt.tokenizers import Tokenizer

DESCRIPTION = """Look inside a trained model. --attention names the heads by what they attend to, measured on a
repeated random sequence, and with --head shows where one of them looks at the end of a prompt. --lens shows what each
layer would predict at each position of a prompt if it were the last. --neighbours lists the tokens whose embeddings are
most alike. --losses shows which positions in the context and which tokens cost most on the validation split.
--picture also draws the attention, the lens or the map of the embeddings."""

BAR = 24  # columns
LABEL = 12  # characters of a token in a picture
EVALUATED = 200  # windows
TOP = Setting("top", "look", int, False, 5, "how many tokens, or rows, to show", low=1, high=1000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", nargs="?", metavar="RUN", help="a run's name or path, or a checkpoint (default: the newest run)"
    )
    view = parser.add_mutually_exclusive_group(required=True)
    view.add_argument("--attention", action="store_true", help="the heads, and where one looks")
    view.add_argument("--lens", action="store_true", help="what each layer would predict")
    view.add_argument("--neighbours", metavar="TEXT", help="the tokens most like each token of a text")
    view.add_argument("--losses", action="store_true", help="the positions and tokens that cost most")
    parser.add_argument("--prompt", default="", metavar="TEXT|FILE:PATH|-", help="the text to look at")
    parser.add_argument("--head", metavar="LAYER.HEAD", help="with --attention: one head, such as h.1.attn.3")
    parser.add_argument("--top", default="5", metavar="INT", help=f"{TOP.help} (default: 5)")
    parser.add_argument(
        "--checkpoint", default="best", metavar="best|latest|STEP", help="which checkpoint (default: best)"
    )
    add_weights(parser)
    parser.add_argument("--dataset", help="with --losses: another data set with the same tokenizer")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument("--picture", metavar="FILE.svg", type=expanded, help="also draw it, as SVG")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    parser.add_argument("--runs_dir", type=expanded, help="folder of the runs")
    parser.add_argument("--data_dir", type=expanded, help="folder of the prepared data sets")


def run(args: argparse.Namespace) -> int:
    top, prompt = TOP.parse(args.top), start_text(args.prompt)
    if not prompt and (args.lens or args.head):
        raise UserError("a prompt is needed: give it with --prompt='ROMEO: But soft'")
    if args.picture is not None:
        check_picture(args)

    from nanogpt.runs import checkpoints, load_model

    folder, path = checkpoints.locate(args.source, args.checkpoint, args.runs_dir)  # the newest run may change
    loaded = load_model(str(path), device=args.device, weights=args.weights)
    if args.losses:
        rows, figures = losses(loaded, folder, args, top)
    elif args.neighbours is not None:
        rows, figures = neighbours(loaded, args.neighbours, top)
    elif args.lens:
        rows, figures = lens(loaded, encoded(loaded, prompt), top)
    elif args.head:
        rows, figures = one_head(loaded, encoded(loaded, prompt), args.head)
    else:
        rows, figures = heads(loaded)
    if args.picture is not None:
        write_picture(args.picture, picture(loaded, args, prompt))
    if args.json:
        print(json.dumps({"run": loaded.run, "step": loaded.step, **figures}))
    else:
        print_table(rows)
        if args.picture is not None:
            print(f"\npicture: {printable(str(args.picture))}")
    return 0


Rows = list[tuple[str, ...]]


def encoded(loaded: "LoadedModel", text: str) -> list[int]:
    """Return the last block_size ids of a prompt. Raise `UserError` for unknown characters, and if it has no token."""
    return _all_ids(loaded, text)[-loaded.model.config.block_size :]


def _all_ids(loaded: "LoadedModel", text: str) -> list[int]:
    ids = loaded.tokenizer.encode(text)
    if not ids:
        raise UserError("the prompt has no token: give a longer one")
    return ids


def shown(tokenizer: "Tokenizer", id: int) -> str:
    """Return a token in quotes, in printable characters."""
    return f"“{token_text(tokenizer.token_bytes(id))}”"


def heads(loaded: "LoadedModel") -> tuple[Rows, dict[str, Any]]:
    """Return the scores of every head, as rows and as figures."""
    from nanogpt.inspection.attention import KINDS, score_heads

    found = score_heads(loaded.model)
    rows: Rows = [("head", *KINDS, "kind")]
    for each in found:
        rows.append((f"{each.layer}.{each.head}", *(f"{each.scores[kind]:.2f}" for kind in KINDS), each.kind or "–"))
    figures = [{"layer": each.layer, "head": each.head, "scores": each.scores, "kind": each.kind} for each in found]
    return rows, {"heads": figures}


def one_head(loaded: "LoadedModel", ids: list[int], name: str) -> tuple[Rows, dict[str, Any]]:
    """Return where a head looks from the last token of a prompt. Raise `UserError` for an unknown head."""
    attention, head = find_head(loaded, ids, name)
    weights = attention.weights[head]  # (T, T)
    rows: Rows = [("token", f"weight from {shown(loaded.tokenizer, ids[-1])}")]
    for id, weight in zip(ids, weights[-1].tolist(), strict=True):
        rows.append((shown(loaded.tokenizer, id), f"{weight:4.0%} {'█' * round(BAR * weight)}"))
    texts = [loaded.tokenizer.token_bytes(id).decode("utf-8", "replace") for id in ids]
    return rows, {"layer": attention.name, "head": head, "tokens": texts, "weights": weights.tolist()}


def find_head(loaded: "LoadedModel", ids: list[int], name: str) -> tuple["Attention", int]:
    """Return the attention of a layer over ids, and the number of the head that is named, such as h.1.attn.3.

    Raise `UserError` for an unknown head.
    """
    import torch

    from nanogpt.inspection.attention import attention_of

    layers = {each.name: each for each in attention_of(loaded.model, torch.tensor(ids, device=loaded.device))}
    layer, _, number = name.rpartition(".")
    if layer not in layers or not number.isdecimal() or int(number) >= len(layers[layer].weights):
        known = ", ".join(f"{each}.0 to {each}.{len(about.weights) - 1}" for each, about in layers.items())
        raise UserError(f"no head {name!r}; the heads are {known}")
    return layers[layer], int(number)


def lens(loaded: "LoadedModel", ids: list[int], top: int) -> tuple[Rows, dict[str, Any]]:
    """Return what each layer would predict after each token: one token in the rows, the `top` ones in the figures."""
    import torch

    from nanogpt.inspection.logit_lens import logit_lens

    layers = logit_lens(loaded.model, torch.tensor(ids, device=loaded.device), top)
    tokenizer = loaded.tokenizer
    rows: Rows = [("token", *(layer.name for layer in layers), "next")]
    for place, id in enumerate(ids):
        cells = (
            f"{shown(tokenizer, int(layer.ids[place, 0]))} {layer.probabilities[place, 0]:.0%}" for layer in layers
        )
        rows.append((shown(tokenizer, id), *cells, shown(tokenizer, ids[place + 1]) if place + 1 < len(ids) else ""))
    figures = [
        {
            "layer": layer.name,
            "ids": layer.ids.tolist(),
            "probabilities": layer.probabilities.tolist(),
            "target_probability": layer.target_probability.tolist(),
        }
        for layer in layers
    ]
    return rows, {"ids": ids, "layers": figures}


def neighbours(loaded: "LoadedModel", text: str, top: int) -> tuple[Rows, dict[str, Any]]:
    """Return the tokens whose embeddings are most like those of each token of a text."""
    from nanogpt.inspection.embeddings import embeddings_of, nearest_tokens

    tokenizer, rows, figures = loaded.tokenizer, list[tuple[str, ...]](), list[dict[str, Any]]()
    vectors = embeddings_of(loaded.model)[: tokenizer.vocab_size]
    for id in dict.fromkeys(_all_ids(loaded, text)):
        near = nearest_tokens(vectors, id, top)
        cells = "  ".join(f"{shown(tokenizer, each)} {similarity:.2f}" for each, similarity in near)
        rows.append((shown(tokenizer, id), cells))
        figures.append({"id": id, "nearest": [{"id": each, "similarity": similarity} for each, similarity in near]})
    return rows, {"tokens": figures}


def losses(loaded: "LoadedModel", folder: Path, args: argparse.Namespace, top: int) -> tuple[Rows, dict[str, Any]]:
    """Return the mean loss at positions of the context, and the tokens with the largest share of all loss."""
    from itertools import islice

    import numpy as np

    from nanogpt.data.batches import sliding_batches
    from nanogpt.inspection.token_losses import token_losses
    from nanogpt.runs.evaluation import open_run_dataset

    dataset, size = open_run_dataset(folder, args.dataset, args.data_dir), loaded.model.config.block_size
    dataset.check_ids("val")
    windows = sliding_batches(dataset.split("val"), size, 4, stride=size)
    found = token_losses(loaded.model, islice(windows, EVALUATED // 4))
    rows: Rows = [("position", "loss", "")]
    total = float(found.by_token.sum())
    mean = total / max(1, int(found.counts.sum()))
    rows += [(f"{place + 1:,}", f"{loss:.3f}", bar(loss, mean)) for place, loss in spread(found.by_position.tolist())]
    rows += [("", "", ""), ("token", "mean loss", "share of all loss")]
    for id, loss, count in found.costliest(top):
        share = loss * count / (total or 1.0)
        rows.append((shown(loaded.tokenizer, id), f"{loss:.3f}", f"{share:.1%} ({count:,} times)"))
    figures = {
        "by_position": [None if np.isnan(loss) else loss for loss in found.by_position.tolist()],
        "by_token": {id: found.by_token[id] / found.counts[id] for id in np.flatnonzero(found.counts).tolist()},
        "counts": {id: int(found.counts[id]) for id in np.flatnonzero(found.counts).tolist()},
    }
    return rows, figures


def spread(values: list[float]) -> Iterator[tuple[int, float]]:
    """Yield the first, second, fourth, … and the last of the values that are numbers, with their places."""
    places = sorted({*(2**power - 1 for power in range(30) if 2**power <= len(values)), len(values) - 1})
    yield from ((place, values[place]) for place in places if values[place] == values[place])


def bar(loss: float, mean: float) -> str:
    """Return a bar for a loss, in which the mean is half of BAR."""
    return "█" * min(BAR, round(BAR / 2 * loss / mean)) if mean else ""


def check_picture(args: argparse.Namespace) -> None:
    """Raise `UserError` if the picture that is asked for cannot be drawn."""
    if args.picture.suffix != ".svg":
        raise UserError(f"--picture={args.picture}: it is drawn as SVG, so its name has to end in .svg")
    if args.losses:
        raise UserError("--losses has no picture: use it without --picture")
    if args.attention and not args.prompt:
        raise UserError("a picture of the attention needs a prompt: give it with --prompt='ROMEO: But soft'")


def picture(loaded: "LoadedModel", args: argparse.Namespace, prompt: str) -> str:
    """Return the picture (SVG) of what is shown."""
    import torch

    from nanogpt.inspection import attention, embeddings, logit_lens, pictures

    tokenizer = loaded.tokenizer

    def texts(ids: Iterable[int]) -> list[str]:
        return [token_text(tokenizer.token_bytes(id), LABEL).replace(" ", "␣") for id in ids]

    if args.neighbours is not None:
        vectors = embeddings.embeddings_of(loaded.model)[: tokenizer.vocab_size]
        marked = _all_ids(loaded, args.neighbours)
        return pictures.map_picture(*embeddings.map_of(vectors), texts(range(len(vectors))), marked)
    ids = encoded(loaded, prompt)
    sequence = torch.tensor(ids, device=loaded.device)
    if args.lens:
        layers = logit_lens.logit_lens(loaded.model, sequence, 1)
        return pictures.lens_picture(layers, texts(ids), [texts(layer.ids[:, 0].tolist()) for layer in layers])
    if args.head:
        return pictures.head_picture(*find_head(loaded, ids, args.head), texts(ids))
    found = attention.attention_of(loaded.model, sequence)
    return pictures.attention_picture(found, attention.score_heads(loaded.model))


def write_picture(file: "Path", svg: str) -> None:
    """Write a picture. Raise `UserError` if the file cannot be written."""
    try:
        write_atomically(file, svg)
    except OSError as error:
        raise UserError(f"cannot write {file}: {why(error)}") from None
