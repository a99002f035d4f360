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
from typing import Any

from nanogpt import paths, tokenizers
from nanogpt.data.encodings import codec_of
from nanogpt.data.names import check_name, prepared_names
from nanogpt.errors import SettingError, UserError, nearest
from nanogpt.files import read_text, why


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlSource:
    """One file on the network; `bytes` is its size where it is known."""

    kind = "url"
    url: str
    sha256: str
    bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesSource:
    """Local files, in this order; a folder stands for the text files in it, by name."""

    kind = "files"
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSource:
    """Files of an installed distribution whose paths match `glob`."""

    kind = "package"
    distribution: str
    glob: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StdlibSource:
    """The running interpreter's own sources, less the files and folders named in `exclude`."""

    kind = "stdlib"
    ascii_only: bool = False
    exclude: tuple[str, ...] = ()


Source = UrlSource | FilesSource | PackageSource | StdlibSource


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
    top = _checked(
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
    splits = _checked(top.pop("splits", {}), {"val_ratio": float, "test_ratio": float}, f"{where}, [splits]")
    source = _source(top.pop("source"), f"{where}, [source]", path.parent)
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
        source=FilesSource(paths=given),
        tokenizer=tokenizer,
        val_ratio=val_ratio,
        test_ratio=test_ratio,
        encoding=encoding,
    )


def _name_of(path: Path) -> str:
    """A file's name without its ending, with whatever cannot stand in a data set's name replaced."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", path.absolute().stem).lstrip(".-")[:64] or "text"


_SOURCES: dict[str, tuple[type, dict[str, type], tuple[str, ...]]] = {
    "url": (UrlSource, {"url": str, "sha256": str, "bytes": int}, ("url", "sha256")),
    "files": (FilesSource, {"paths": list}, ("paths",)),
    "package": (PackageSource, {"distribution": str, "glob": str}, ("distribution", "glob")),
    "stdlib": (StdlibSource, {"ascii_only": bool, "exclude": list}, ()),
}


def _source(table: dict[str, Any], where: str, folder: Path) -> Source:
    kind = table.get("kind")
    if kind not in _SOURCES:
        raise UserError(
            f"{where}: kind = {kind!r} must be one of {', '.join(_SOURCES)}.{nearest(str(kind), list(_SOURCES))}"
        )
    make, types, required = _SOURCES[kind]
    values = _checked({key: value for key, value in table.items() if key != "kind"}, types, where, required)
    for key, value in values.items():
        if isinstance(value, list):
            if not all(isinstance(item, str) for item in value):
                raise UserError(f"{where}: {key} must be a list of texts; it is {value!r}")
            values[key] = tuple(value)
    if kind == "url":
        if not re.match(r"https?://", values["url"]):
            raise UserError(f"{where}: url = {values['url']!r} must begin with https:// or http://")
        if not re.fullmatch(r"[0-9a-f]{64}", values["sha256"]):
            raise UserError(f"{where}: sha256 = {values['sha256']!r} must be 64 hexadecimal digits in lower case")
    if kind == "files":
        values["paths"] = tuple(folder / paths.expanded(path) for path in values["paths"])
        if not values["paths"]:
            raise UserError(f"{where}: paths is empty; name at least one file or folder")
    source: Source = make(**values)
    return source


def _checked(
    table: dict[str, Any], types: dict[str, type], where: str, required: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The table, with every key known, every value of its type (a whole number is a float too) and none missing."""
    for key, value in table.items():
        if key not in types:
            raise UserError(f"{where}: unknown key {key!r}; it takes {', '.join(types)}.{nearest(key, list(types))}")
        expected = types[key]
        fits = type(value) in (int, float) if expected is float else type(value) is expected
        if not fits:
            raise UserError(f"{where}: {key} = {value!r} must be {_SPOKEN[expected]}")
    for key in required:
        if key not in table:
            raise UserError(f"{where}: {key!r} is missing")
    return dict(table)


_SPOKEN = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}
