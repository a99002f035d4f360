"""A dialog that makes the recipe of a data set from a text of the user."""

from collections.abc import Iterator

from textual.widget import Widget
from textual.widgets import Input

from nanogpt.data.document_settings import DocumentSettings
from nanogpt.data.recipes import Recipe, textfile_recipe
from nanogpt.errors import SettingError, UserError
from nanogpt_tui.screens.data.recipe_form import RecipeForm
from nanogpt_tui.widgets.choice import Choice
from nanogpt_tui.widgets.path_input import PathInput
from nanogpt_tui.widgets.tokenizer_field import TokenizerField

CONTENTS = [
    ("text", "one text, the end of it held out"),
    ("documents", "documents, some of them held out"),
]


class AddText(RecipeForm):
    """Asks for a file or folder, and the settings of its data set."""

    HELP = (
        "Make a data set from your own text: a file, or a folder of text files. The end of the text is held "
        "out for validation. The sizes are counted before anything is written."
    )
    title_text = "add your own text"
    first_field = "path"

    def fields(self) -> Iterator[Widget]:
        yield self.row("path", PathInput(placeholder="a file or a folder (tab completes)", id="path"))
        yield self.row("name", Input(compact=True, id="name"))
        yield self.row("tokenizer", TokenizerField("char", self.kinds, id="tokenizer"))
        yield self.row("validation", Input("0.1", compact=True, id="val_ratio"))
        yield self.row("test", Input("0", compact=True, id="test_ratio"))
        yield self.row("encoding", Input(compact=True, placeholder="detected", id="encoding"))
        yield self.row(
            "text column", Input(compact=True, placeholder="of a table: text, or the only one", id="text_column")
        )
        yield self.row("content", Choice(CONTENTS, "text", id="content"))

    def on_mount(self) -> None:
        self.query_one(PathInput).focus_input()

    def on_path_input_changed(self) -> None:
        self.changed()

    def on_path_input_looked_up(self) -> None:
        self.changed()

    def on_path_input_submitted(self) -> None:
        super().action_prepare()

    def action_prepare(self) -> None:
        self.query_one(PathInput).look_again(super().action_prepare)

    def recipe(self) -> Recipe:
        path = self.query_one(PathInput).value.strip()
        if not path:
            raise SettingError("path", "")
        exists = self.query_one(PathInput).exists
        if not exists:
            raise SettingError("path", "" if exists is None else f"no such file or folder: {path}")
        documents, column = self.query_one("#content", Choice).value == "documents", self.text("text_column") or None
        try:
            recipe = textfile_recipe(
                [path],
                name=self.text("name") or None,
                tokenizer=self.query_one(TokenizerField).value,
                val_ratio=self.fraction("val_ratio"),
                test_ratio=self.fraction("test_ratio"),
                encoding=self.text("encoding") or None,
                text_column=column,
                documents=DocumentSettings(text_column=column) if documents else None,
            )
        except SettingError:
            raise
        except UserError as error:
            raise SettingError("name", str(error)) from None
        self.check_name(recipe.name)
        return recipe

    def is_typing(self, problem: UserError) -> bool:
        is_path = isinstance(problem, SettingError) and problem.setting == "path"
        return is_path and self.query_one(PathInput).suggests
