"""A dialog that prepares a data set again under another name, with other settings than its recipe's."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from textual.widget import Widget
from textual.widgets import Input

from nanogpt.config.setting import declared_settings
from nanogpt.data.document_settings import DocumentSettings
from nanogpt.data.recipes import Recipe
from nanogpt.data.shards import DEFAULT_SHARD_TOKENS
from nanogpt.errors import SettingError, UserError
from nanogpt_tui.screens.data.recipe_form import RecipeForm
from nanogpt_tui.text import one_line
from nanogpt_tui.widgets.choice import Choice
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

    def __init__(self, session: "Session", recipe: Recipe, taken: list[str], kinds: list[str]) -> None:
        super().__init__(session, taken, kinds)
        self._recipe = recipe
        self.title_text = f"prepare {one_line(recipe.name)} with other settings"

    def fields(self) -> Iterator[Widget]:
        recipe = self._recipe
        yield self.row("name", Input(compact=True, id="name"))
        yield self.row("tokenizer", TokenizerField(recipe.tokenizer, self.kinds, id="tokenizer"))
        yield self.row("validation", Input(f"{recipe.val_ratio:g}", compact=True, id="val_ratio"))
        yield self.row("test", Input(f"{recipe.test_ratio:g}", compact=True, id="test_ratio"))
        encoding = Input(recipe.encoding or "", compact=True, placeholder="detected", id="encoding")
        yield self.row("encoding", encoding)
        shards, default = str(recipe.shard_tokens or ""), f"{DEFAULT_SHARD_TOKENS:,} tokens, if a split is longer"
        yield self.row("shards of", Input(shards, compact=True, placeholder=default, id="shard_tokens"))
        if recipe.documents is not None:
            yield from self._document_fields()

    def _document_fields(self) -> Iterator[Widget]:
        """Yield the rows of the settings of documents, as they are declared."""
        for each in declared_settings(DocumentSettings, "documents"):
            value = getattr(self._recipe.documents, each.name)
            editor: Widget
            if each.value_type is bool:
                editor = Choice([("true", f"yes: {each.help}"), ("false", "no")], str(value).lower(), id=each.name)
            else:
                shown = "" if value is None else one_line(str(value))
                editor = Input(shown, compact=True, placeholder=each.help, id=each.name)
            yield self.row(each.name.replace("_", " "), editor)

    def _documents(self) -> DocumentSettings | None:
        """Return the settings of documents. Raise `SettingError`."""
        if self._recipe.documents is None:
            return None
        values = {}
        for each in declared_settings(DocumentSettings, "documents"):
            editor = self.query_one(f"#{each.name}")
            typed = editor.value if isinstance(editor, Choice | Input) else ""
            if each.value_type is str:
                typed = typed.replace("\\n", "\n").replace("\\t", "\t")
            values[each.name] = each.parse(typed if typed or not each.optional else None)
        return DocumentSettings(**values)

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
            "documents": self._documents(),
        }
        changed = replace(self._recipe, **changes)
        try:
            recipe = replace(changed, name=self.text("name") or suggested_name(self._recipe, changed))
        except UserError as error:
            raise SettingError("name", str(error)) from None
        self.check_name(recipe.name)
        return recipe


def suggested_name(recipe: Recipe, changed: Recipe) -> str:
    """Return a name for a recipe with other settings: the recipe's own with what is different."""
    what = changed.tokenizer if changed.tokenizer != recipe.tokenizer else "test" if changed.test_ratio else "2"
    return f"{recipe.name[:40]}-{re.sub(r'[^A-Za-z0-9_.]+', '-', what)[:20].strip('-')}"
