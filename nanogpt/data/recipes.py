"""Recipes: what a data set is made from, read from TOML files and checked strictly.

A recipe is one file, `<name>.toml`. Some come with the program; a user's own are in `datasets/` of the configuration
folder, and take precedence over one of the same name that comes with the program.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_type_hints

from nanogpt import paths, tokenizers
from nanogpt.data import sources
from nanogpt.data.document_settings import VAL_RATIO, DocumentSettings
from nanogpt.data.encodings import codec_name
from nanogpt.data.names import check_name, dataset_name, is_anonymous, prepared_names
from nanogpt.data.shards import DEFAULT_SHARD_TOKENS, MAX_TOKENS
from nanogpt.data.sources import Source
from nanogpt.data.toml_tables import check_table, without_none
from nanogpt.errors import SettingError, UserError, nearest
from nanogpt.files import read_toml, why


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a data set is made from.

    `tokenizer` is the spec of its tokenizer. A file that it names is read by `prepare` and not here, because the app
    makes a recipe at each key of a form. `val_ratio` and `test_ratio` are shares of the characters, cut from the end of
    the text, the test split last. `encoding` is the encoding of the text; None: UTF-8, the encoding of its byte order
    mark, or else the detected one. `shard_tokens` is the size of the shards; 0: a split is one raw file, or shards of
    `DEFAULT_SHARD_TOKENS` if it is longer than one. `documents`: the data set is made of documents, and the shares are
    of these, drawn by the seed; None: of one text. `path` is the recipe's file; None if the recipe is made for the
    user's own text.
    """

    name: str
    source: Source
    title: str = ""
    description: str = ""
    licence: str = "unknown"
    tokenizer: str = "char"
    val_ratio: float = 0.1
    test_ratio: float = 0.0
    encoding: str | None = None
    shard_tokens: int = 0
    documents: DocumentSettings | None = None
    path: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Raise `UserError` for an unusable name or ratio, and an unknown tokenizer or encoding."""
        check_name(self.name)
        if self.source.is_corpus and self.documents is None:
            raise UserError(f"a source of kind {self.source.name} needs a table [documents], which may be empty")
        if self.encoding is not None:
            codec_name(self.encoding)
        object.__setattr__(self, "tokenizer", str(tokenizers.parse_spec(self.tokenizer)))
        for name, ratio, above in (("val_ratio", self.val_ratio, 0), ("test_ratio", self.test_ratio, -math.inf)):
            if not (isinstance(ratio, int | float) and 0 <= ratio < 1 and ratio > above):
                bound = "above 0" if above == 0 else "at least 0"
                raise SettingError(
                    name, f"{name}={ratio} must be {bound} and below 1: a share of the text, such as 0.1"
                )
        if not 0 <= self.shard_tokens <= MAX_TOKENS:
            raise SettingError(
                "shard_tokens",
                f"shard_tokens={self.shard_tokens} must be from 1 to {MAX_TOKENS:,}, or 0 for shards of "
                f"{DEFAULT_SHARD_TOKENS:,} tokens only if a split is longer",
            )
        if self.val_ratio + self.test_ratio >= 1:
            total = f"val_ratio={self.val_ratio} and test_ratio={self.test_ratio}"
            raise SettingError("test_ratio", f"{total} leave nothing to train on: together they must be below 1")


def recipe_paths() -> dict[str, Path]:
    """Return each recipe's name and file, sorted by name."""
    return paths.toml_files("datasets")


def load_recipe(name: str, data_dir: Path | None = None) -> Recipe:
    """Return a recipe by name. Raise `UserError` for an unknown name, and for an unusable recipe."""
    known = recipe_paths()
    if name in known:
        return read_recipe(known[name])
    prepared = prepared_names(data_dir)
    if name in prepared:
        raise UserError(
            f"{name} was made from your own text and has no recipe; to prepare it again: "
            f"`nanogpt prepare textfile FILE --output={name} --force`, or with `documents PATH` or `tokens PATH` if it "
            "was made so"
        )
    existing = sorted({*known, *prepared})
    raise UserError(
        f"no data set {name!r}; existing data sets: {', '.join(existing)}.{nearest(name, existing)} "
        "For your own text: `nanogpt prepare textfile FILE`"
    )


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in a file. Raise `UserError` if it cannot be read or has unknown, missing or unusable keys."""
    try:
        table = read_toml(path)
    except (OSError, ValueError) as error:
        raise UserError(f"recipe {path} cannot be read: {why(error)}") from error
    where = f"recipe {path}"
    top = check_table(
        table,
        {
            "title": str,
            "description": str,
            "licence": str,
            "tokenizer": str,
            "encoding": str,
            "shard_tokens": int,
            "splits": dict,
            "source": dict,
            "documents": dict,
        },
        where,
        required=("tokenizer", "source"),
    )
    splits = check_table(top.pop("splits", {}), {"val_ratio": float, "test_ratio": float}, f"{where}, [splits]")
    if "documents" in top:
        splits = {"val_ratio": VAL_RATIO, **splits}
        types = {name: without_none(hint) for name, hint in get_type_hints(DocumentSettings).items()}
        documents = check_table(top.pop("documents"), types, f"{where}, [documents]")
        try:
            top["documents"] = DocumentSettings(**documents)
        except UserError as error:
            raise UserError(f"{where}, [documents]: {error}") from error
    source = sources.from_table(top.pop("source"), f"{where}, [source]", path.parent)
    try:
        return Recipe(name=path.stem, source=source, path=path, **top, **splits)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def textfile_recipe(
    files: Iterable[str | Path],
    *,
    name: str | None = None,
    tokenizer: str = "char",
    val_ratio: float = 0.1,
    test_ratio: float = 0.0,
    encoding: str | None = None,
    shard_tokens: int = 0,
    text_column: str | None = None,
    documents: DocumentSettings | None = None,
) -> Recipe:
    """Return a recipe for the user's own text: files, and folders that are searched for files with text.

    name: of the data set; None: that of the first file. text_column: of tables; None: `text`, or the only one of texts.
    documents: the files have documents. Raise `UserError` for unusable options.
    """
    given = tuple(paths.expanded(file) for file in files)
    if not given:
        raise UserError("no text given; name a file or a folder, as in `nanogpt prepare textfile FILE`")
    titles = ["standard input" if is_anonymous(path) else path.name for path in given[:3]]
    return Recipe(
        name=name if name is not None else dataset_name(given[0]),
        title=", ".join(titles) + (", …" if len(given) > 3 else ""),
        source=sources.create(sources.OWN_TEXT, paths=given, text_column=text_column),
        tokenizer=tokenizer,
        val_ratio=val_ratio,
        test_ratio=test_ratio,
        encoding=encoding,
        shard_tokens=shard_tokens,
        documents=documents,
    )
