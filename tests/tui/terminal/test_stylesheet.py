"""The stylesheet gives each node the styles and flags that Textual's own does."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.containers import Horizontal, Vertical
from textual.css.stylesheet import Stylesheet
from textual.dom import DOMNode
from textual.widget import Widget
from textual.widgets import Button, Label

from nanogpt_tui import screens
from nanogpt_tui.screens.new_run.screen import NewRunScreen
from nanogpt_tui.terminal import stylesheet
from nanogpt_tui.terminal.stylesheet import CachedStylesheet

FLAGS = ["_has_hover_style", "_has_focus_within", "_has_order_style", "_has_odd_or_even"]


class Reference(Stylesheet):
    """Textual's own stylesheet, which says what it would apply and applies nothing."""

    found: object = None

    def replace_rules(self, node: Any, rules: Any, animate: bool = False) -> None:  # type: ignore[override]
        self.found = rules

    def _process_component_classes(self, node: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def compared(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Compare each style applied while a test runs; the list tells for each whether Textual computed it again."""
    own = {name: Stylesheet.__dict__[name] for name in ("apply", "replace_rules")}
    apply, computed, applied = CachedStylesheet.apply, set[Any](), dict[Any, Any]()
    compared: list[bool] = []
    failed: list[object] = []

    def note_computed(self: Any, node: Any, **options: Any) -> None:
        computed.add(node)
        own["apply"](self, node, **options)

    def note_applied(cls: Any, node: Any, rules: Any, animate: bool = False) -> None:
        if cls is not Reference:
            applied[node] = rules  # until others are applied
        own["replace_rules"].__func__(cls, node, rules, animate)

    def compare(self: Any, node: Any, **options: Any) -> None:
        reference = Reference()
        reference._rules, reference._rules_map = self.rules, self.rules_map
        own["apply"](reference, node)
        expected = reference.found, [getattr(node, flag) for flag in FLAGS]
        for flag in FLAGS:
            setattr(node, flag, None)
        apply(self, node, **options)
        given = applied.get(node), [getattr(node, flag) for flag in FLAGS]
        if given != expected:
            failed.append((node, given, expected))
        for name in node._get_component_classes():
            component = DOMNode(classes=name)
            component._attach(node)
            reference.found = None
            own["apply"](reference, component)
            Stylesheet.replace_rules(component, reference.found or {})
            if (rules := node._component_styles[name].base._rules) != component.styles.base._rules:
                failed.append((node, name, rules, component.styles.base._rules))
        compared.append(node in computed)
        computed.discard(node)

    monkeypatch.setattr(stylesheet, "_candidates", {})
    monkeypatch.setattr(stylesheet, "_indexes", {})
    monkeypatch.setattr(Stylesheet, "apply", note_computed)
    monkeypatch.setattr(Stylesheet, "replace_rules", classmethod(note_applied))
    monkeypatch.setattr(CachedStylesheet, "apply", compare)
    yield compared
    assert compared
    assert not failed, f"{len(failed)} of {len(compared)}, the first: {failed[0]}"


async def test_all_screens_have_textuals_styles_and_few_are_computed(lab: Any, compared: list[bool]) -> None:
    async with lab() as at:
        for mode in screens.MODES:
            await at.app.switch_mode(mode)
            await at.settle()
        screen = NewRunScreen()
        at.app.push_screen(screen)
        await at.until(lambda: screen.datasets)
        await at.press("ctrl+o", "tab", "tab", "tab")
        at.app.theme = "textual-light"
        await at.settle()
        for widget in screen.walk_children(Widget):
            widget.mouse_hover = True
        screen.disabled = True
        await at.settle()
        screen.disabled = False
        screen.add_class("-compact")
        await at.settle()
    assert sum(compared) < len(compared) / 5


class Small(App[None]):
    """An app whose rules have each kind of selector and pseudo-class."""

    CSS = """
    Label { color: red; }
    Label:first-child { color: green; }
    Label:last-of-type, Label.-mark:odd { text-style: bold; }
    Label:even { background: blue; }
    #box > Label.-mark { color: white; }
    #box.-on Label { color: yellow; }
    #other Label { color: initial; }
    #other.-filled { background: green; }
    Vertical:focus-within Label, .-on:focus-within { text-style: italic; }
    Button:focus { color: red; }
    Button:hover { color: green; }
    Vertical:disabled > Label { text-opacity: 20%; }
    Vertical:empty { height: 3; }
    Horizontal Label { text-style: underline; }
    * { scrollbar-size: 1 1; }
    Screen:light Label { background: white; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.stylesheet = CachedStylesheet(variables=self.get_css_variables())

    def compose(self) -> ComposeResult:
        for name in ("box", "other"):
            with Vertical(id=name):
                yield Button("Go")
                for number in range(4):
                    yield Label(str(number))
                yield Horizontal(Label("-"))
                yield Vertical(Label("-"))


CHANGES: list[Callable[[Small], object]] = [
    lambda app: app.query(Button).last().focus(),
    lambda app: setattr(app.query(Button).first(), "mouse_hover", True),
    lambda app: app.query(Label).first().add_class("-mark"),
    lambda app: app.query_one("#box").add_class("-on"),
    lambda app: setattr(app.query_one("#box"), "disabled", True),
    lambda app: setattr(app, "theme", "textual-light"),
    lambda app: app.query(Label).last().remove(),
    lambda app: app.stylesheet.add_source("#box Label { color: blue; }"),
    lambda app: app.query_one("#other").remove_children(),
    lambda app: app.query_one("#box").add_class("-textual-system"),
]


async def test_each_change_of_a_node_gives_it_textuals_styles() -> None:
    app = Small()
    async with app.run_test() as pilot:
        for change in CHANGES:
            change(app)
            await pilot.pause()
            app.refresh_css()
            await pilot.pause()


async def test_a_node_that_is_unchanged_gets_no_styles_again_but_the_colors_of_its_parent() -> None:
    app = Small()
    async with app.run_test() as pilot:
        await pilot.pause()
        parent, child = app.query_one("#other"), app.query("#other Button").first()
        child.styles.background = "transparent"
        before, updates = child.visual_style, child.styles.base._updates
        parent.add_class("-filled")
        await pilot.pause()
        assert child.styles.base._updates == updates
        assert child.visual_style.background != before.background
        app.reset_styles()
        app.refresh_css()
        await pilot.pause()
        assert child.visual_style.background != before.background
        assert child.styles.base._updates > updates


async def test_the_indexes_of_the_last_rules_alone_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stylesheet, "MOST_INDEXES", 3)
    app = Small()
    async with app.run_test() as pilot:
        for theme in ("nord", "gruvbox", "dracula", "monokai", "nord"):
            app.theme = theme
            await pilot.pause()
            assert len(stylesheet._indexes) <= 3
        last = app.stylesheet._index  # type: ignore[attr-defined]
        for theme in ("gruvbox", "nord"):
            app.theme = theme
            await pilot.pause()
        assert app.stylesheet._index is last  # type: ignore[attr-defined]


async def test_an_unknown_version_of_textual_computes_all_styles(
    monkeypatch: pytest.MonkeyPatch, compared: list[bool]
) -> None:
    assert stylesheet.IS_KNOWN
    monkeypatch.setattr(stylesheet, "IS_KNOWN", False)
    app = Small()
    async with app.run_test() as pilot:
        await pilot.pause()
        assert not app.stylesheet._computed  # type: ignore[attr-defined]
    assert all(compared)
