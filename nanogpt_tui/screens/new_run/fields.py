"""One field of the form: a label, an input or a choice, and below it the problem with its value."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from nanogpt.config import KINDS, Setting
from nanogpt_tui.glossary import lookup
from nanogpt_tui.text import safe_content
from nanogpt_tui.widgets.choice import Choice

YES_NO = [("true", "true"), ("false", "false")]


class Field(Vertical):
    """`options` are (value, label): they make it a choice instead of an input. `term` is its word in the glossary."""

    class Changed(Message):
        """A value was typed or chosen; `name` is that of the field."""

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
        """Show a value without posting `Changed`."""
        if isinstance(self.editor, Choice):
            self.editor.show(value)
        elif value != self.editor.value:
            with self.editor.prevent(Input.Changed):
                self.editor.value = value

    def mark(self, *, edited: bool, problem: str) -> None:
        """Show a dot before an edited value, and a problem below it."""
        style = "$error" if problem else "$foreground" if edited else "$quiet"
        self._label.update(Content.assemble(("• " if edited else "  ", "$accent"), (self.label, style)), layout=False)
        if problem and not self.has_class("-wrong") and self.has_focus_within:
            self.call_after_refresh(self.scroll_visible, animate=False)  # the problem may be below the last row
        self.set_class(bool(problem), "-wrong")
        if problem:
            self._problem.update(safe_content(problem))

    def fix(self, fixed: bool) -> None:
        """Disable a field whose value cannot be changed."""
        self.editor.disabled = fixed

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(self.name or "", event.value))

    def on_choice_changed(self, event: Choice.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(self.name or "", event.value))


def setting_field(setting: Setting, value: str) -> Field:
    """Return the field of a setting. One that chooses a component offers only `value` until the others are loaded."""
    about = f"{setting.help} ({setting.bounds})" if setting.bounds else setting.help
    options: list[tuple[str, str]] | None = None
    if setting.value_type is bool:
        options = YES_NO
    elif any(setting.name == kind.name for kind in KINDS):
        options = [(value, value)]
    elif setting.choices:
        options = [(choice, choice) for choice in setting.choices]
    placeholder = "none" if setting.optional else ""
    return Field(setting.name, setting.name, value, about, options=options, placeholder=placeholder, setting=setting)


def field_help(field: Field, about_preset: str, with_term: bool) -> Content:
    """Return the help of a field, or that of the chosen preset; `with_term` adds the text of the glossary."""
    about = about_preset if field.name == "preset" and about_preset else field.about
    lines = [Content.styled(f"{field.label}: {about}", "$quiet")]
    term = lookup(field.glossary) if with_term else None
    if term is not None:
        lines += [Content(), Content.styled(term.name, "bold $accent"), Content.styled(term.text, "$quiet")]
    return Content("\n").join(lines)
