"""`nanogpt tokenizer train|show|compare|export`: train a tokenizer, look at what it does to a text, and export it.

Imports no torch.
"""

import argparse
import errno
import json
import os
import shlex
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from nanogpt import tokenizers
from nanogpt.cli.console import print_message
from nanogpt.cli.prepare import without_progress
from nanogpt.cli.tables import print_table
from nanogpt.data.names import prepared_names
from nanogpt.data.store import SPLITS, open_dataset
from nanogpt.errors import UserError, nearest
from nanogpt.events import Event, TokenCount, TokenizerMeasured
from nanogpt.files import why, write_atomically
from nanogpt.formatting import counted, printable, significant, token_text
from nanogpt.inspection.tokenization import Cut, cut, measure_tokenizer, vocabulary_curve
from nanogpt.paths import expanded
from nanogpt.tokenizers import Tokenizer
from nanogpt.tokenizers._hf_files import tokenizer_path

DESCRIPTION = """Train a tokenizer, look at what it does to a text, and export it.
`train SPEC`, such as bpe:4096, writes a tokenizer.json, which --tokenizer=hf:FILE of `nanogpt prepare` reads;
`show TOKENIZER` prints its figures on a text and its longest, rarest and odd entries; `compare TOKENIZER...` prints the
figures of several side by side; `export TOKENIZER PLACE` writes it for Hugging Face's tokenizers and transformers.
A TOKENIZER is a kind that needs no text, such as gpt2, the name of a data set or a run, or a tokenizer.json; show and
compare also take the spec of one that they train first. The text is --text=FILE or a split of --dataset."""

T = TypeVar("T")

ACTIONS = ("train", "show", "compare", "export")
CURVE_CHARACTERS = 1 << 21  # of the text of --curve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS, metavar="|".join(ACTIONS))
    parser.add_argument(
        "words", nargs="*", metavar="TOKENIZER", help="train: its spec; export: also the place to write"
    )
    parser.add_argument(
        "--text", type=expanded, action="append", metavar="PATH", help="a text file or a folder of them; repeatable"
    )
    parser.add_argument("--encoding", metavar="NAME", help="encoding of the text (default: UTF-8, else detected)")
    parser.add_argument("--dataset", metavar="NAME", help="a prepared data set: its text, instead of --text")
    parser.add_argument("--split", choices=SPLITS, help="of the data set (default: train to train, val to measure)")
    parser.add_argument("--sentence", metavar="TEXT", help="show, compare: also cut this text into tokens")
    parser.add_argument("--entries", type=int, default=10, help="show: entries in each list, at most 20 (default: 10)")
    parser.add_argument("--curve", action="store_true", help="show: bytes a token at each smaller vocabulary size")
    parser.add_argument("--output", type=expanded, help="train: the file to write (default: tokenizer.json)")
    parser.add_argument("--force", action="store_true", help="train, export: replace what exists")
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    parser.add_argument("--data_dir", type=expanded, help="folder of the prepared data sets")
    parser.add_argument("--runs_dir", type=expanded, help="folder of the runs")


def run(args: argparse.Namespace) -> int:
    return {"train": _train, "show": _show, "compare": _compare, "export": _export}[args.action](args)


@dataclass(frozen=True, slots=True)
class _Text:
    """A text that can be read again and again; `total_bytes` is its size in UTF-8, or nearly."""

    name: str
    total_bytes: int
    files: Any = None
    dataset: Any = None
    split: str = ""

    def parts(self) -> Iterator[str]:
        if self.dataset is not None:
            from nanogpt.data.split_text import split_text

            return split_text(self.dataset, self.split)
        from nanogpt.data.text import read

        return read(self.files)

    def beginning(self, characters: int) -> str:
        from nanogpt.data.text import first_characters

        return "".join(first_characters(self.parts(), characters))


def _text(args: argparse.Namespace, split: str, default: str = "") -> Generator[Event, None, _Text]:
    """Yield the progress of reading the text that was chosen, and return it. `default` is a data set's name."""
    if args.text and args.dataset:
        raise UserError("give --text or --dataset, not both")
    if args.text:
        from nanogpt.data import textfile_recipe
        from nanogpt.data.scanning import scan_files

        recipe = textfile_recipe(args.text, encoding=args.encoding)
        found = yield from recipe.source.files(args.encoding)
        files, total_bytes, _, _ = yield from scan_files(found, args.encoding)
        return _Text(", ".join(path.name for path in args.text), total_bytes, files=files)
    name = args.dataset or default
    if not name:
        raise UserError("no text: give --text=FILE, or --dataset=NAME for a split of a prepared data set")
    dataset, split = open_dataset(name, args.data_dir), args.split or split
    size = dataset.meta.split_bytes.get(split) or 0
    return _Text(f"{dataset.name}, {split}", size, dataset=dataset, split=split)


def _train(args: argparse.Namespace) -> int:
    spec, *rest = args.words or [""]
    if not spec or rest:
        raise UserError("train takes one spec, such as `nanogpt tokenizer train bpe:4096 --text=FILE`")
    canonical = tokenizers.canonical(spec)
    path = (args.output or Path("tokenizer.json")).absolute()
    _check_free(path, args.force)
    text = _done(_text(args, "train"))
    tokenizer = _done(tokenizers.build(canonical, text.parts(), text.total_bytes))
    _write(path, json.dumps(tokenizer.to_json()) + "\n")
    if args.json:
        print(json.dumps({"path": str(path), "tokenizer": canonical, "vocab_size": tokenizer.vocab_size}))
        return 0
    print(printable(str(path)))
    print_message(f"{canonical}, {tokenizer.vocab_size:,} entries, trained on {text.name}")
    print_message(f"use it with `nanogpt prepare NAME --tokenizer={shlex.quote(f'hf:{path}')}`")
    return 0


def _show(args: argparse.Namespace) -> int:
    if len(args.words) != 1:
        raise UserError("show takes one tokenizer, such as `nanogpt tokenizer show gpt2 --text=FILE`")
    [name] = args.words
    text = _done(_text(args, "val", default=_dataset_of(name, args)))
    tokenizer = _load(name, args, text)
    found, pieces = _measure(tokenizer, text), _sentence(tokenizer, args.sentence)
    points = list(vocabulary_curve(tokenizer, text.beginning(CURVE_CHARACTERS))) if args.curve else []
    if args.json:
        curve = [[point.vocab_size, point.bytes_per_token] for point in points]
        print(json.dumps(_described(name, text, found, pieces) | ({"curve": curve} if args.curve else {}), indent=1))
        return 0
    entries = tokenizer.vocab_size - len(tokenizer.special_ids)
    rows = [
        ("tokenizer", name),
        ("vocabulary", f"{found.vocab_size:,} entries, {len(tokenizer.special_ids)} of them special tokens"),
        ("text", f"{text.name}: {found.characters:,} characters, {found.text_bytes:,} bytes"),
        ("tokens", f"{found.tokens:,}"),
        ("tokens a character", f"{found.tokens_per_character:.3f}"),
        ("bytes a token", f"{found.bytes_per_token:.3f}"),
        ("speed", f"{significant(found.mb_per_second)} MB/s in one thread"),
        ("not in the text", f"{found.unused:,} of {entries:,} entries, {found.unused / max(1, entries):.1%}"),
    ]
    print_table(rows)
    _print_entries("most frequent", found.common, args.entries)
    _print_entries("rare: the longest that occur once at most (glitch-token candidates)", found.rare, args.entries)
    _print_entries("longest", found.longest, args.entries)
    _print_entries("odd: control or invisible characters, or parts of characters", found.odd, args.entries)
    if points:
        print("\nbytes a token at each vocabulary size")
        print_table([(f"{point.vocab_size:,}", f"{point.bytes_per_token:.3f}") for point in points], right=(0, 1))
    elif args.curve:
        print("\nno curve: this tokenizer is not trained entry by entry")
    _print_cut("", pieces)
    return 0


def _compare(args: argparse.Namespace) -> int:
    if len(args.words) < 2:
        raise UserError("compare takes two tokenizers or more: `nanogpt tokenizer compare char gpt2 --text=FILE`")
    default = next(filter(None, (_dataset_of(name, args) for name in args.words)), "")
    text = _done(_text(args, "val", default=default))
    found: list[tuple[str, TokenizerMeasured, Cut | None]] = []
    for name in args.words:
        tokenizer = _load(name, args, text)
        found.append((name, _measure(tokenizer, text), _sentence(tokenizer, args.sentence)))
    if args.json:
        print(json.dumps([_described(name, text, each, pieces) for name, each, pieces in found], indent=1))
        return 0
    print(printable(f"{text.name}: {found[0][1].characters:,} characters, {found[0][1].text_bytes:,} bytes"))
    rows = [("tokenizer", "vocabulary", "tokens", "a character", "bytes a token", "MB/s", "not in the text")]
    for name, each, _ in found:
        rows.append(
            (
                name,
                f"{each.vocab_size:,}",
                f"{each.tokens:,}",
                f"{each.tokens_per_character:.3f}",
                f"{each.bytes_per_token:.3f}",
                significant(each.mb_per_second),
                f"{each.unused:,}",
            )
        )
    print_table(rows, right=range(1, 7))
    for name, _, pieces in found:
        _print_cut(name, pieces)
    return 0


def _export(args: argparse.Namespace) -> int:
    from nanogpt.interop.huggingface_tokenizer import tokenizer_files

    if len(args.words) != 2:
        raise UserError("export takes a tokenizer and a place: `nanogpt tokenizer export gpt2 FOLDER`")
    name, place = args.words[0], expanded(args.words[1]).absolute()
    tokenizer = _load(name, args, None)
    files = tokenizer_files(tokenizer, None)
    paths = {place / file: content for file, content in files.items()}
    if place.suffix == ".json":
        paths = {place: files["tokenizer.json"]}
    for path in paths:
        _check_free(path, args.force)
    for path, content in paths.items():
        _write(path, json.dumps(content, ensure_ascii=False) + "\n")
    if args.json:
        print(json.dumps({"paths": [str(path) for path in paths], "vocab_size": tokenizer.vocab_size}))
        return 0
    for path in paths:
        print(printable(str(path)))
    return 0


# ---- tokenizers by name


def _load(name: str, args: argparse.Namespace, text: _Text | None) -> Tokenizer:
    """Return the tokenizer of a spec, a data set, a run or a file; train one that needs a text. Raise `UserError`."""
    kind = name.partition(":")[0].partition(",")[0]
    if kind in tokenizers.names():
        spec = tokenizers.parse_spec(name)
        if spec.kind.needs == "nothing":
            return tokenizers.create(name)
        if text is None:
            raise UserError(f"{name} is made from a text: `nanogpt tokenizer train {name} --text=FILE` first")
        trained_on = _trained_on(text)
        return _done(tokenizers.build(name, trained_on.parts(), trained_on.total_bytes))
    if name in prepared_names(args.data_dir):
        return open_dataset(name, args.data_dir).tokenizer
    if os.path.lexists(tokenizer_path(path := expanded(name))):
        return tokenizers.create(f"hf:{path}")
    from nanogpt.runs.folder import find
    from nanogpt.runs.load import load_tokenizer  # imports torch

    run = None
    with suppress(UserError):
        run = find(name, args.runs_dir)
    if run is not None:
        return load_tokenizer(run)
    if os.path.lexists(path):
        return tokenizers.create(f"hf:{path}")  # it says what is missing there
    known = [*tokenizers.names(), *prepared_names(args.data_dir)]
    raise UserError(f"no tokenizer, data set, run or file {name[:80]!r}.{nearest(name, known)}")


def _trained_on(text: _Text) -> _Text:
    """Return the text on which a tokenizer is trained: of a data set the training split."""
    if text.dataset is None:
        return text
    return _Text(text.name, text.dataset.meta.split_bytes.get("train") or 0, dataset=text.dataset, split="train")


def _dataset_of(name: str, args: argparse.Namespace) -> str:
    """Return the name if it is a prepared data set's, whose text then is the default; else an empty text."""
    kind = name.partition(":")[0].partition(",")[0]
    return name if kind not in tokenizers.names() and name in prepared_names(args.data_dir) else ""


# ---- work and its output


def _done(work: Generator[Event, None, T]) -> T:
    """Show the progress of some work on stderr, and return its result."""
    result: list[T] = []

    def events() -> Iterator[Event]:
        result.append((yield from work))

    with closing(work):
        deque(without_progress(events()), maxlen=0)
    return result[0]


def _measure(tokenizer: Tokenizer, text: _Text) -> TokenizerMeasured:
    with closing(measure_tokenizer(tokenizer, text.parts(), text.total_bytes)) as work:
        for event in without_progress(work):
            if isinstance(event, TokenizerMeasured):
                return event
    raise AssertionError("measuring ended without a result")


def _sentence(tokenizer: Tokenizer, sentence: str | None) -> Cut | None:
    return cut(tokenizer, sentence) if sentence else None


def _described(name: str, text: _Text, found: TokenizerMeasured, pieces: Cut | None) -> dict[str, Any]:
    figures = asdict(found) | {
        "tokens_per_character": found.tokens_per_character,
        "bytes_per_token": found.bytes_per_token,
    }
    described = {"tokenizer": name, "text": text.name} | figures
    if pieces is not None:
        cut_into = [{"id": id, "text": token_text(piece)} for id, piece in zip(pieces.ids, pieces.pieces, strict=True)]
        described["sentence"] = cut_into
    return described


def _print_entries(title: str, entries: tuple[TokenCount, ...], most: int) -> None:
    if not entries[:most]:
        return
    print(f"\n{title}")
    rows = [("id", "times", "entry")]
    print_table([*rows, *((f"{e.id}", f"{e.count:,}", f"“{e.text}”") for e in entries[:most])], right=(0, 1))


def _print_cut(name: str, pieces: Cut | None) -> None:
    if pieces is None:
        return
    label = f"{name}: " if name else ""
    print(f"\n{label}{counted(len(pieces.ids), 'token')}: {'|'.join(map(token_text, pieces.pieces))}")
    if pieces.problem:
        print_message(pieces.problem)


def _check_free(path: Path, force: bool) -> None:
    """Make the folder of a file that is to be written. Raise `UserError` if it cannot be written, or exists."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        exists = path.exists()
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent))
    except OSError as error:
        raise UserError(f"cannot write {path}: {why(error)}; choose another place") from None
    if exists and not force:
        raise UserError(f"{path} exists; choose another place, or replace it with --force")


def _write(path: Path, content: str) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {why(error)}; choose another place") from None
