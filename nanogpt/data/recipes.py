"""What a data set is made from: recipes as plain values, read from TOML and checked strictly. Reads no text itself.

A recipe is one file, `<name>.toml`; the project ships some, and a person's own lie in the configuration folder's
`datasets/`, where a name that is shipped too takes precedence.
"""

import math
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nanogpt import paths, tokenizers
from nanogpt.data import sources
from nanogpt.data.encodings import codec_of
from nanogpt.data.names import check_name, prepared_names
from nanogpt.data.sources import Source
from nanogpt.data.tables import check_table
from nanogpt.errors import SettingError, UserError, nearest
from nanogpt.files import read_text, why


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """`val_ratio` and `test_ratio` are shares of the characters, cut from the end of the text, the test split last.

    `encoding` is that of the text; None: UTF-8, what a byte order mark says, or else Windows-1252.
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
    path: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Raises UserError for a name that is no folder name, an unknown tokenizer or encoding, and unusable ratios."""
        check_name(self.name)
        if self.encoding is not None:
            codec_of(self.encoding)
        if self.tokenizer not in tokenizers.names():
            known = tokenizers.names()
            raise SettingError(
                "tokenizer",
                f"no tokenizer {self.tokenizer!r}; there are {', '.join(known)}.{nearest(self.tokenizer, known)}",
            )
        for name, ratio, above in (("val_ratio", self.val_ratio, 0), ("test_ratio", self.test_ratio, -math.inf)):
            if not (isinstance(ratio, int | float) and 0 <= ratio < 1 and ratio > above):
                bound = "above 0" if above == 0 else "at least 0"
                raise SettingError(
                    name, f"{name}={ratio} must be {bound} and below 1: a share of the text, such as 0.1"
                )
        if self.val_ratio + self.test_ratio >= 1:
            total = f"val_ratio={self.val_ratio} and test_ratio={self.test_ratio}"
            raise SettingError("test_ratio", f"{total} leave nothing to train on: together they must be below 1")


def shipped_folder() -> Path:
    """The recipes that come with the program: beside the package in a source checkout, inside it once installed."""
    package = Path(__file__).parents[1]
    installed = package / "_datasets"
    return installed if installed.is_dir() else package.parent / "datasets"


def recipe_paths() -> dict[str, Path]:
    """Each recipe's name and file, sorted by name."""
    found: dict[str, Path] = {}
    for folder in (shipped_folder(), paths.config_dir() / "datasets"):
        found |= {path.stem: path for path in folder.glob("*.toml")}
    return dict(sorted(found.items()))


def load_recipe(name: str, data_dir: Path | None = None) -> Recipe:
    """Raises UserError for an unknown name and for a recipe with anything amiss."""
    known = recipe_paths()
    if name in known:
        return read_recipe(known[name])
    prepared = prepared_names(data_dir)
    if name in prepared:
        raise UserError(
            f"{name} was made from your own text and has no recipe; to prepare it again: "
            f"`nanogpt prepare textfile FILE --output={name} --force`"
        )
    there = sorted({*known, *prepared})
    raise UserError(
        f"no data set {name!r}; there are {', '.join(there)}.{nearest(name, there)} "
        "For your own text: `nanogpt prepare textfile FILE`"
    )


def read_recipe(path: Path) -> Recipe:
    try:
        table = tomllib.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
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
            "splits": dict,
            "source": dict,
        },
        where,
        required=("tokenizer", "source"),
    )
    splits = check_table(top.pop("splits", {}), {"val_ratio": float, "test_ratio": float}, f"{where}, [splits]")
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
) -> Recipe:
    """A recipe for one's own text: files, and folders that are searched for text files. Raises UserError."""
    given = tuple(paths.expanded(file) for file in files)
    if not given:
        raise UserError("no text given; name a file or a folder, as in `nanogpt prepare textfile FILE`")
    return Recipe(
        name=name if name is not None else _name_of(given[0]),
        title=", ".join(path.name for path in given[:3]) + (", …" if len(given) > 3 else ""),
        source=sources.create(sources.OWN_TEXT, paths=given),
        tokenizer=tokenizer,
        val_ratio=val_ratio,
        test_ratio=test_ratio,
        encoding=encoding,
    )


def _name_of(path: Path) -> str:
    """A file's name without its ending, with whatever cannot stand in a data set's name replaced."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", path.absolute().stem).lstrip(".-")[:64] or "text"
