"""One row of a form: a setting's name, a place to change it, and below it what is wrong. Knows no other row."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from nanogpt.config import Setting, load_preset
from nanogpt.errors import UserError
from nanogpt_tui.glossary import lookup
from nanogpt_tui.text import safe_content
from nanogpt_tui.widgets.choice import Choice

YES_NO = [("true", "true"), ("false", "false")]


class Field(Vertical):
    """`name` is what `Changed` says; `options` make it a choice instead of a place to type."""

    class Changed(Message):
        def __init__(self, name: str, text: str) -> None:
            super().__init__()
            self.name, self.text = name, text

    def __init__(
        self,
        name: str,
        label: str,
        value: str,
        about: str,
        *,
        options: list[tuple[str, str]] | None = None,
        placeholder: str = "",
        term: str = "",
        setting: Setting | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, classes=classes)
        self.setting = setting
        self.glossary = term or name
        self.label, self.about = label, about
        self.editor: Choice | Input = (
            Input(value, placeholder=placeholder, compact=True) if options is None else Choice(options, value)
        )
        self._label = Static(classes="label")
        self._problem = Static(classes="problem")

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield self._label
            yield self.editor
            yield Static(Content(self.about), classes="about")
        yield self._problem

    def on_mount(self) -> None:
        self.mark(edited=False, problem="")

    def show(self, value: str) -> None:
        """Shows a value that was not typed here."""
        if isinstance(self.editor, Choice):
            self.editor.show(value)
        elif value != self.editor.value:
            with self.editor.prevent(Input.Changed):
                self.editor.value = value

    def mark(self, *, edited: bool, problem: str) -> None:
        """A dot before what was changed, and what is wrong in words."""
        style = "$error" if problem else "$foreground" if edited else "$quiet"
        self._label.update(Content.assemble(("• " if edited else "  ", "$accent"), (self.label, style)), layout=False)
        self.set_class(bool(problem), "-wrong")
        if problem:
            self._problem.update(safe_content(problem))

    def fix(self, fixed: bool) -> None:
        self.editor.disabled = fixed

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(self.name or "", event.value))

    def on_choice_changed(self, event: Choice.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(self.name or "", event.value))


def field_of(setting: Setting, value: str) -> Field:
    """The row of a setting."""
    about = f"{setting.help} ({setting.bounds})" if setting.bounds else setting.help
    options: list[tuple[str, str]] | None = None
    if setting.kind is bool:
        options = YES_NO
    elif setting.choices:
        options = [(choice, choice) for choice in setting.choices]
    placeholder = "none" if setting.optional else ""
    return Field(setting.name, setting.name, value, about, options=options, placeholder=placeholder, setting=setting)


def explained(field: Field, preset: str, at_length: bool) -> Content:
    """What a field is for, the chosen preset itself where it is that field; `at_length`, what its word means too."""
    about = preset_help(preset) if field.name == "preset" and preset else field.about
    lines = [Content.styled(f"{field.label}: {about}", "$quiet")]
    term = lookup(field.glossary) if at_length else None
    if term is not None:
        lines += [Content(), Content.styled(term.name, "bold $accent"), Content.styled(term.text, "$quiet")]
    return Content("\n").join(lines)


def preset_help(name: str) -> str:
    """What a preset is for, or what is wrong with it."""
    try:
        return load_preset(name).help
    except UserError as error:
        return str(error)
