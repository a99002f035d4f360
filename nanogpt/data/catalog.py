"""The list of data sets: recipes and prepared data sets. Listing reads no text and imports no numpy."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from nanogpt import tokenizers
from nanogpt.data.names import home, prepared_names, unfinished_folder, unfinished_names
from nanogpt.data.recipes import Recipe, read_recipe, recipe_paths
from nanogpt.data.store import open_dataset
from nanogpt.errors import UserError
from nanogpt.files import folder_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """One entry of the list.

    `unfinished`: a part of it is prepared, and `prepare` continues. `offline`: it is prepared, or can be prepared
    without a network. `size_bytes` is its size on disk; `tokens` is by split. These, `vocab_size` and `path` are only
    known once it is prepared. `problem` says why a recipe or a prepared data set cannot be used; empty if it can.
    """

    name: str
    title: str = ""
    description: str = ""
    licence: str = ""
    tokenizer: str = ""
    prepared: bool = False
    unfinished: bool = False
    offline: bool = False
    tokens: dict[str, int] = field(default_factory=dict)
    vocab_size: int | None = None
    size_bytes: int = 0
    path: str | None = None
    problem: str = ""


def list_datasets(data_dir: Path | None = None) -> list[DatasetInfo]:
    """Return all recipes and prepared data sets, sorted by name."""
    recipes, prepared, unfinished = recipe_paths(), prepared_names(data_dir), unfinished_names(data_dir)
    infos = {name: _info(name, recipes.get(name), name in prepared, data_dir) for name in {*recipes, *prepared}}
    for name in unfinished:
        part = unfinished_folder(home(data_dir) / name)
        size = folder_bytes(part)
        known = infos.get(name, DatasetInfo(name=name))
        infos[name] = replace(known, unfinished=True, size_bytes=known.size_bytes + size)
    return [infos[name] for name in sorted(infos)]


def _info(name: str, recipe_path: Path | None, prepared: bool, data_dir: Path | None) -> DatasetInfo:
    recipe: Recipe | None = None
    problem = ""
    try:
        recipe = read_recipe(recipe_path) if recipe_path else None
    except UserError as error:
        problem = str(error)
    description = recipe.description if recipe else ""
    try:
        if prepared:  # it can be used without its recipe
            dataset = open_dataset(name, data_dir)
            meta = dataset.meta
            return DatasetInfo(
                name=name,
                title=meta.title,
                description=description,
                licence=meta.licence,
                tokenizer=meta.tokenizer,
                prepared=True,
                offline=True,
                tokens=meta.tokens,
                vocab_size=meta.vocab_size,
                size_bytes=folder_bytes(dataset.path),
                path=str(dataset.path),
            )
        if recipe is None:
            return DatasetInfo(name=name, problem=problem)
        return DatasetInfo(
            name=name,
            title=recipe.title,
            description=description,
            licence=recipe.licence,
            tokenizer=recipe.tokenizer,
            offline=recipe.source.available_offline() and tokenizers.available_offline(recipe.tokenizer),
        )
    except UserError as error:
        return DatasetInfo(name=name, description=description, problem=str(error))
