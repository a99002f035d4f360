"""`nanogpt prepare`: make a data set from a recipe, from text files or from token files. Imports no torch."""

import argparse
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import groupby

from nanogpt import events, tokenizers
from nanogpt.cli.console import Update, bar, print_message
from nanogpt.config.setting import declared_settings
from nanogpt.data.document_settings import OWN_VAL_RATIO, DocumentSettings, parse_flags
from nanogpt.errors import UserError
from nanogpt.events import CorpusEncoding, Downloading, Encoding, Event, Notice, Prepared, Receiving, TokenizerTraining
from nanogpt.formatting import counted, printable
from nanogpt.paths import expanded

DESCRIPTION = """Turn text into tokens for training: `nanogpt prepare NAME` for a data set of `nanogpt datasets`,
`nanogpt prepare textfile PATH...` for your own text files and folders of them, `nanogpt prepare documents PATH...`
for Parquet tables, JSON lines and other files with many documents each, `nanogpt prepare tokens PATH...` for the token
files that nanoGPT, llm.c or modded-nanogpt wrote."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", metavar="NAME", help="a data set, `textfile` or `documents` for your own text, or `tokens`"
    )
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        type=expanded,
        help="with textfile, documents or tokens: files, or folders of them; with textfile also - for standard input",
    )
    parser.add_argument(
        "--source", type=expanded, metavar="PATH", help="a local copy of the file or folder that would be downloaded"
    )
    parser.add_argument(
        "--tokenizer",
        metavar="KIND[:ARGUMENT][,key=value]",
        help=f"such as char or bpe:4096; one of {', '.join(tokenizers.names())}",
    )
    parser.add_argument(
        "--val_ratio",
        type=float,
        help="fraction of the text for validation (default: 0.1; of documents 0.01, in the recipes 0.0005)",
    )
    parser.add_argument("--test_ratio", type=float, help="fraction of the text for the test split (default: 0)")
    parser.add_argument(
        "--encoding", metavar="NAME", help="encoding of the text, such as gb18030 (default: UTF-8, else detected)"
    )
    parser.add_argument(
        "--text_column", metavar="NAME", help="column of the texts in tables (default: text, else the only one)"
    )
    parser.add_argument(
        "--shard_tokens",
        type=int,
        metavar="N",
        help="tokens of each file of a split (default: one file, or files of 100 million for a longer split)",
    )
    parser.add_argument("--output", metavar="NAME", help="name of the data set (default: the recipe's or the file's)")
    parser.add_argument("--force", action="store_true", help="replace a data set of the same name; start over")
    parser.add_argument("--data_dir", type=expanded, help="folder of the prepared data sets")
    parser.add_argument("--json", action="store_true", help="print what was prepared as JSON")
    documents = parser.add_argument_group("data sets of documents")
    for each in declared_settings(DocumentSettings, "documents"):
        if each.name == "text_column":  # above: also of a text
            continue
        default = "" if each.default in (None, "\n") else f" (default: {str(each.default).lower()})"
        documents.add_argument(f"--{each.name}", metavar=each.value_type.__name__.upper(), help=each.help + default)
    documents.add_argument("--workers", type=int, help="processes that encode (default: one for each core)")
    documents.add_argument(
        "--keep_shards",
        action="store_true",
        help="keep downloaded files, in the cache folder; otherwise they are removed once read",
    )


def run(args: argparse.Namespace) -> int:
    from nanogpt.data import load_recipe, prepare, textfile_recipe

    given = parse_flags(vars(args))
    if args.name == "tokens":
        _refuse_document_flags(args, given)
        return finish(args, tokens_work(args))
    if args.name == "textfile":
        recipe = textfile_recipe(args.paths, name=args.output, text_column=args.text_column)
    elif args.name == "documents":
        recipe = textfile_recipe(
            args.paths,
            name=args.output,
            val_ratio=OWN_VAL_RATIO,
            text_column=args.text_column,
            documents=DocumentSettings(**given),
        )
    elif args.paths:
        raise UserError(f"unexpected {str(args.paths[0])!r}; for your own text: `nanogpt prepare textfile PATH...`")
    else:
        recipe = load_recipe(args.name)
    if recipe.documents is not None:
        recipe = replace(recipe, documents=replace(recipe.documents, **given))
    else:
        _refuse_document_flags(args, given)
    work = prepare(
        recipe,
        data_dir=args.data_dir,
        source=args.source,
        tokenizer=args.tokenizer,
        val_ratio=args.val_ratio,
        test_ratio=args.test_ratio,
        encoding=args.encoding,
        shard_tokens=args.shard_tokens,
        output=args.output,
        force=args.force,
        workers=args.workers,
        keep_shards=args.keep_shards,
    )
    return finish(args, work)


def tokens_work(args: argparse.Namespace) -> Generator[Event, None, None]:
    """Return the preparation of token files. Raise `UserError` for an option that only a text can have."""
    from nanogpt.data import prepare_tokens

    for name in ("source", "val_ratio", "test_ratio", "encoding", "shard_tokens"):
        if getattr(args, name) is not None:
            raise UserError(f"--{name} is for a text; the token files stay as they are: leave it out")
    return prepare_tokens(
        args.paths, tokenizer=args.tokenizer, data_dir=args.data_dir, output=args.output, force=args.force
    )


def finish(args: argparse.Namespace, work: Generator[Event, None, None]) -> int:
    """Show the progress of the preparation, and its result."""
    with closing(work):
        prepared = show(work)
    tokens = " + ".join(f"{split} {count:,}" for split, count in prepared.tokens.items())
    line = f"{prepared.path}: {tokens} tokens, {prepared.tokenizer}, vocabulary of {prepared.vocab_size:,}"
    print(events.to_json(prepared) if args.json else printable(line))
    return 0


def _refuse_document_flags(args: argparse.Namespace, given: Mapping[str, object]) -> None:
    """Raise `UserError` if a flag is given that a data set of one text does not have."""
    named = [*given, *(name for name in ("workers", "keep_shards") if vars(args)[name])]
    if refused := [name for name in named if (args.name, name) != ("textfile", "text_column")]:
        raise UserError(
            f"--{refused[0]} is for data sets of documents, which {args.name} is not: leave it out, or prepare your "
            "own files with `nanogpt prepare documents PATH...`"
        )


def show(work: Iterable[Event]) -> Prepared:
    """Show the progress on stderr, with a bar for each phase; return the last event."""
    for event in without_progress(work):
        if isinstance(event, Prepared):
            return event
    raise AssertionError("preparing ended without a data set")


def without_progress(work: Iterable[Event], *, notices: bool = True) -> Iterator[Event]:
    """Yield the events that are neither progress nor notices, which are shown on stderr, with a bar for each phase.

    notices: False to yield these too.
    """
    for label, phase in groupby(work, _label):
        if label:
            with bar(label, "entries" if label == "merging" else "bytes") as update:
                for event in phase:
                    if isinstance(event, Downloading):
                        update(event.done_bytes, event.total_bytes)
                    elif isinstance(event, Receiving):
                        update(event.done_bytes, None)
                    elif isinstance(event, CorpusEncoding):
                        update(event.done_bytes, event.total_bytes or None, corpus_note(event))
                    elif isinstance(event, Encoding):
                        note = counted(event.tokens, "token") if event.tokens else ""
                        update(event.done_bytes, event.total_bytes, note)
                    elif isinstance(event, TokenizerTraining):
                        show_training(event, update)
            continue
        for event in phase:
            if notices and isinstance(event, Notice):
                print_message(event.text)
            else:
                yield event


def corpus_note(event: CorpusEncoding) -> str:
    """Return what a bar shows of a corpus besides bytes."""
    left_out = f", {event.duplicates:,} duplicates" if event.duplicates else ""
    return (
        f"file {min(event.shards_done + 1, event.shards):,}/{event.shards:,}  "
        f"{counted(event.documents, 'document')}{left_out}  {event.tokens / 1e6:,.1f} M tokens  "
        f"disk {event.disk_bytes / 1e6:,.0f} MB"
    )


def show_training(event: TokenizerTraining, update: Update) -> None:
    """Show the progress of the training of a tokenizer in a bar."""
    if event.phase == "read":
        update(event.done_bytes, event.total_bytes or None)
    else:
        update(event.vocab_size, event.target, event.merges[-1] if event.merges else "")


def _label(event: Event) -> str:
    if isinstance(event, Downloading):
        return "downloading"
    if isinstance(event, Receiving):
        return "receiving"
    if isinstance(event, Encoding):
        if event.phase == "scan" and not event.total_bytes:
            return "searching"
        return "reading" if event.phase == "scan" else "encoding"
    if isinstance(event, TokenizerTraining):
        return "counting" if event.phase == "read" else "merging"
    return ""
