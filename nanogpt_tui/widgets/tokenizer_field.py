"""A field for the spec of a tokenizer: its kind, and below it the settings of that kind."""

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input

from nanogpt import tokenizers
from nanogpt.config.setting import declared_settings
from nanogpt_tui.widgets.choice import Choice


class TokenizerField(Vertical):
    """`value` is a spec such as `bpe:4096`. `kinds` are those to choose from."""

    DEFAULT_CSS = """
    TokenizerField { height: auto; width: 1fr; }
    TokenizerField > Input { display: none; }
    TokenizerField.-settings > Input { display: block; }
    """

    class Changed(Message):
        """The typed spec changed."""

    def __init__(self, value: str, kinds: list[str], id: str | None = None) -> None:
        super().__init__(id=id)
        self._kind, colon, self._settings = value.partition(":")
        if not colon:
            self._kind, _, self._settings = value.partition(",")
        self._kinds = kinds

    def compose(self) -> ComposeResult:
        yield Choice([(name, described(name)) for name in self._kinds], self._kind)
        yield Input(self._settings, compact=True)

    def on_mount(self) -> None:
        self._show_settings()

    @property
    def value(self) -> str:
        """The spec as it is typed; see `nanogpt.tokenizers.parse_spec`."""
        kind, typed = self.query_one(Choice).value, self.query_one(Input).value.strip()
        return f"{kind}:{typed}" if typed and self.has_class("-settings") else kind

    def on_choice_changed(self, message: Choice.Changed) -> None:
        message.stop()
        self.query_one(Input).value = ""
        self._show_settings()
        self.post_message(self.Changed())

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed())

    def _show_settings(self) -> None:
        """Show the field of the settings if the kind has some."""
        settings = list(declared_settings(tokenizers.tokenizer_class(self.query_one(Choice).value).settings, ""))
        self.set_class(bool(settings), "-settings")
        if settings:
            first, *others = settings
            options = "".join(f",{each.name}={_written(each.default)}" for each in others if each.default != "")
            self.query_one(Input).placeholder = f"{_written(first.default) or first.help}{options}"


def described(kind: str) -> str:
    """Return a kind of tokenizer in a few words."""
    found = tokenizers.tokenizer_class(kind)
    if found.one_per_character:
        return f"{kind}: one token per character"
    if found.needs == "text":
        return f"{kind}: trained on the text"
    if found.known_vocab_size:
        return f"{kind}: {found.known_vocab_size:,} tokens"
    about = next((each.help for each in declared_settings(found.settings, "")), "")
    return f"{kind}: {about}" if about else kind


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
