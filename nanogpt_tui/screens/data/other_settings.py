"""A dialog that prepares a data set again under another name, with other settings than its recipe's."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from textual.widget import Widget
from textual.widgets import Input

from nanogpt import tokenizers
from nanogpt.data.recipes import Recipe
from nanogpt.data.shards import DEFAULT_SHARD_TOKENS
from nanogpt.errors import SettingError, UserError
from nanogpt_tui.screens.data.recipe_form import RecipeForm
from nanogpt_tui.text import one_line
from nanogpt_tui.widgets.tokenizer_field import TokenizerField

if TYPE_CHECKING:
    from nanogpt_tui.session.session import Session


class OtherSettings(RecipeForm):
    """Asks for the settings of a recipe: all that every recipe has, and those of its documents if it is a corpus."""

    HELP = (
        "Prepare the same text with another tokenizer or other splits, as a data set with another name. The sizes are "
        "counted before anything is written."
    )
    first_field = "name"

    def __init__(self, session: "Session", recipe: Recipe, taken: list[str]) -> None:
        super().__init__(session, taken)
        self._recipe = recipe
        self.title_text = f"prepare {one_line(recipe.name)} with other settings"

    def fields(self) -> Iterator[Widget]:
        recipe = self._recipe
        yield self.row("name", Input(compact=True, id="name"))
        yield self.row("tokenizer", TokenizerField(recipe.tokenizer, tokenizers.names(), id="tokenizer"))
        yield self.row("validation", Input(f"{recipe.val_ratio:g}", compact=True, id="val_ratio"))
        yield self.row("test", Input(f"{recipe.test_ratio:g}", compact=True, id="test_ratio"))
        encoding = Input(recipe.encoding or "", compact=True, placeholder="detected", id="encoding")
        yield self.row("encoding", encoding)
        shards, default = str(recipe.shard_tokens or ""), f"{DEFAULT_SHARD_TOKENS:,} tokens, if a split is longer"
        yield self.row("shards of", Input(shards, compact=True, placeholder=default, id="shard_tokens"))

    def on_mount(self) -> None:
        self.query_one(TokenizerField).query_one("Choice").focus()
        self.changed()

    def recipe(self) -> Recipe:
        changes: dict[str, Any] = {
            "tokenizer": self.query_one(TokenizerField).value,
            "val_ratio": self.fraction("val_ratio"),
            "test_ratio": self.fraction("test_ratio"),
            "encoding": self.text("encoding") or None,
            "shard_tokens": self.whole_number("shard_tokens"),
        }
        changed = replace(self._recipe, **changes)
        try:
            recipe = replace(changed, name=self.text("name") or suggested_name(self._recipe, changed))
        except UserError as error:
            raise SettingError("name", str(error)) from None
        self.check_name(recipe.name)
        return recipe

    def can_count(self, recipe: Recipe) -> str:
        if recipe.source.downloads and not recipe.source.available_offline():
            return "the sizes are known once the text is downloaded"
        return ""


def suggested_name(recipe: Recipe, changed: Recipe) -> str:
    """Return a name for a recipe with other settings: the recipe's own with what is different."""
    what = changed.tokenizer if changed.tokenizer != recipe.tokenizer else "test" if changed.test_ratio else "2"
    return f"{recipe.name[:40]}-{re.sub(r'[^A-Za-z0-9_.]+', '-', what)[:20].strip('-')}"
