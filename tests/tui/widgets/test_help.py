"""The help: the glossary from word to word, keys by purpose, and the mouse."""

import re
from typing import Any

from textual.containers import VerticalScroll
from textual.widgets import Input, Static

from nanogpt_tui import glossary
from nanogpt_tui.app import LabApp
from nanogpt_tui.keys import remappable
from nanogpt_tui.settings import Settings
from nanogpt_tui.widgets.glossary_page import links, page, topics
from nanogpt_tui.widgets.help import GROUPS, Help, group_of
from tests.tui.conftest import Lab


def found(at: Any) -> str:
    """What the glossary says now."""
    return str(at.app.screen.query_one("#found", Static).render())


def test_every_topic_leads_to_each_of_its_terms_and_each_term_to_its_topic() -> None:
    assert [to for _, to in links(topics())] == list(glossary.topics())
    listed = [to for topic in glossary.topics() for _, to in links(page(topic))]
    assert listed == [term.name for term in glossary.terms()]
    for term in glossary.terms():
        assert [to for _, to in links(page(term.name))] == [*term.see, term.topic]
    assert "models (Vaswani et al. 2017).\n" in page("The model").plain  # the first sentence, whole


def test_what_leads_on_leads_somewhere() -> None:
    names = {term.name for term in glossary.terms()} | {*glossary.topics()}
    for text in (*names, "learning", "keys values"):
        content = page(text)
        for span, to in links(content):
            assert to in names
            assert content.plain[span.start : span.end] == to


async def test_the_glossary_is_browsed_by_topic_with_the_keyboard(lab: Any) -> None:
    async with lab(size=(80, 24)) as at:
        await at.press("question_mark")
        await at.sees("glossary  Text and tokens · The model")
        await at.press("tab", "tab", "enter")  # the second topic
        await at.sees("transformer  The kind of neural network")
        names = [term.name for term in glossary.terms() if term.topic == "The model"]
        await at.press(*["tab"] * (names.index("attention") + 1), "enter")
        await at.until(lambda: at.app.screen.query_one(Input).value == "attention")
        await at.press("tab", "tab", "enter")  # the second of query, key, value …
        await at.until(lambda: found(at).startswith("key  K"))
        await at.press("escape")
        assert found(at).startswith("attention")
        await at.press("escape", "escape")
        assert at.app.screen.query_one(Input).value == ""
        await at.press("escape")
        assert not isinstance(at.app.screen, Help)


async def test_the_chosen_link_is_in_sight_and_goes_round(lab: Any) -> None:
    async with lab(size=(80, 24)) as at:
        await at.press("question_mark")
        await at.paste("the model")
        text = at.app.screen.query_one(VerticalScroll)
        await at.press("shift+tab")  # the last
        await at.until(lambda: text.scroll_offset.y > 0)
        await at.sees("weight tying")
        await at.press("tab")
        await at.until(lambda: text.scroll_offset.y < 20)
        await at.sees("transformer")


async def test_a_link_is_followed_with_the_mouse_too(lab: Any) -> None:
    async with lab() as at:
        await at.press("question_mark")
        await at.sees("Generating text")
        lines = at.seen().splitlines()
        row = next(y for y, line in enumerate(lines) if "Generating text" in line)
        await at.pilot.click(offset=(lines[row].index("Generating text"), row))
        await at.sees("top-p")


async def test_typing_after_a_link_starts_anew(lab: Any) -> None:
    async with lab() as at:
        await at.press("question_mark", "tab", "enter")
        await at.press("ctrl+u")
        await at.paste("perplexity")
        await at.until(lambda: found(at).startswith("perplexity"))
        await at.press("escape")
        assert not isinstance(at.app.screen, Help)


async def test_in_ascii_the_glossary_needs_nothing_else(rhymes: dict[str, Any]) -> None:
    app = LabApp(Settings(glyphs="ascii", quickstart=rhymes))
    async with app.run_test(size=(80, 24)) as pilot:
        at = Lab(app, pilot)
        await at.press("question_mark", "tab", "tab", "enter")
        await at.sees("transformer")
        strips = app.screen._compositor.render_strips()
        assert any("transformer" in strip.text for strip in strips)
        assert all(strip.text.isascii() for strip in strips)
    app.session.close()


def test_the_groups_name_actions_that_there_are() -> None:
    actions = {binding.action.partition("(")[0] for binding in remappable().values()}
    assert {action for group in GROUPS.values() for action in group.split()} <= actions
    grouped = {name: group_of(binding) for name, binding in remappable().items()}
    assert grouped["train.save"] == "steer the training"
    assert grouped["train.log_y"] == "view"
    assert grouped["runs.down"] == "move"
    assert grouped["runs.delete"] == "actions"
    assert grouped["sample.top_k_up"] == "knobs"
    assert grouped["app.quit"] == "app"


async def test_keys_are_listed_by_purpose_and_the_mouse_is_named(lab: Any, two_runs: Any) -> None:
    mouse_of = {
        "1": "A click chooses a data set",
        "2": "On the chart",
        "3": "A click on a token",
        "4": "A click on a run",
    }
    async with lab(size=(80, 24)) as at:
        await at.until(lambda: at.session.history)
        for mode, mouse in mouse_of.items():
            await at.press(mode)
            await at.until(lambda: not at.app.screen.is_reading)
            await at.press("question_mark")
            lines = str(at.app.screen.query_one("#keys", Static).render()).splitlines()
            heads = [line for line in lines if line in (*GROUPS, "app", "mouse")]
            assert heads == [head for head in (*GROUPS, "app", "mouse") if head in heads]
            assert {"actions", "move", "app", "mouse"} <= {*heads}
            said = re.sub(r"\s+", " ", " ".join(lines[lines.index("mouse") :]))
            assert mouse in said
            assert "Click a screen's name at the top" in said
            await at.press("escape")
