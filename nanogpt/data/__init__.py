"""Data sets: recipes, sources, preparation, token files on disk, and the order of batches.

The names below load on first use, so that listing data sets imports no numpy.
"""

from typing import TYPE_CHECKING

from nanogpt.lazy import exports

if TYPE_CHECKING:
    from nanogpt.data.catalog import DatasetInfo as DatasetInfo
    from nanogpt.data.catalog import list_datasets as list_datasets
    from nanogpt.data.preparation import prepare as prepare
    from nanogpt.data.ready_tokens import prepare_tokens as prepare_tokens
    from nanogpt.data.recipes import Recipe as Recipe
    from nanogpt.data.recipes import load_recipe as load_recipe
    from nanogpt.data.recipes import textfile_recipe as textfile_recipe
    from nanogpt.data.store import Dataset as Dataset
    from nanogpt.data.store import delete_dataset as delete_dataset
    from nanogpt.data.store import is_prepared as is_prepared
    from nanogpt.data.store import open_dataset as open_dataset

_HOME = {
    "Dataset": "store",
    "DatasetInfo": "catalog",
    "Recipe": "recipes",
    "delete_dataset": "store",
    "is_prepared": "store",
    "list_datasets": "catalog",
    "load_recipe": "recipes",
    "open_dataset": "store",
    "prepare": "preparation",
    "prepare_tokens": "ready_tokens",
    "textfile_recipe": "recipes",
}

__getattr__ = exports(__name__, _HOME)
