"""The model card of a run, as a reader of Markdown takes it."""

import pytest
from markdown_it import MarkdownIt

from nanogpt import tokenizers
from nanogpt.events import Evaluated, Sampled
from nanogpt.reports.model_card import model_card
from nanogpt.reports.record import read_record
from nanogpt.tokenizers import bpe
from nanogpt.tokenizers._pieces import GPT2
from tests.made_events import started, stepped

BYTE = tokenizers.create("byte")
EVALUATED = Evaluated(step=2, train_loss=1.5, val_loss=1.75, best_val_loss=1.75, is_best=True, tokens=8, elapsed_s=1.0)
HOSTILE = [
    "```\n# mine\n<script>alert(1)</script>\n````",
    "a | b `code` <img src=x onerror=alert(1)> [link](http://x) \x1b[2J",
    "``",
    "---\nlicense: other",
]


def parsed(card):
    """The tokens of a card below its head, those inside of a line among them."""
    assert card.startswith("---\n")
    body = card.split("\n---\n", 1)[1]
    blocks = MarkdownIt("commonmark", {"html": True}).enable("table").parse(body)
    return [token for block in blocks for token in (block, *(block.children or ()))]


def headings(tokens):
    return [tokens[at + 1].content for at, token in enumerate(tokens) if token.type == "heading_open"]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_a_run_stays_text(recorded, text):
    clean = text.replace("\x1b", "")
    events = [started(), stepped(1), EVALUATED, Sampled(step=2, prompt=text, text=text, seed=1)]
    run = recorded(*events, sample_start=clean, facts={"cpu": clean})
    tokens = parsed(model_card(read_record(run), BYTE, "me/first", 2))
    assert not [token for token in tokens if token.type.startswith("html")]
    assert headings(tokens) == ["first", "Results", "Use", "Data", "Training", "Sample", "Licence"]
    assert [token.attrs["href"] for token in tokens if token.type == "link_open"] == []
    fences = [token.content for token in tokens if token.type == "fence"]
    assert fences[-1] == text.replace("\x1b", "␛") + "\n"
    rows = [at for at, token in enumerate(tokens) if token.type == "tr_open"]
    assert rows
    for at in rows:
        end = next(number for number in range(at, len(tokens)) if tokens[number].type == "tr_close")
        assert sum(token.type in ("td_open", "th_open") for token in tokens[at:end]) in (2, 3)


def test_a_card_says_what_was_trained_on_what_how_good_it_is_and_under_which_licence(recorded):
    run = recorded(started(), stepped(1), EVALUATED, n_embd=48, init_from="gpt2", dataset="shakespeare_char")
    card = model_card(read_record(run), BYTE, "me/first", 2, "apache-2.0")
    for words in (
        "license: apache-2.0\n",
        "It started from the weights of `gpt2`. These are the weights of step 2.",
        "| validation loss, nats per token | 1.7500 |",
        "| 2 | 1.5000 | 1.7500 |",
        "| `n_embd` | `48` |",
        "nanogpt pull me/first\n",
        "The weights have the licence `apache-2.0`.",
    ):
        assert words in card, words
    assert "No licence is stated" in model_card(read_record(run), BYTE, "me/first", 2)


def test_a_run_without_an_evaluation_has_a_card_too(recorded):
    assert "Results" not in model_card(read_record(recorded(started())), BYTE, "me/first", 0)


def test_the_export_is_named_only_for_a_tokenizer_that_can_be_written(recorded):
    record = read_record(recorded(started()))
    assert "nanogpt export first first-hf --to=hf" in model_card(record, BYTE, "me/first", 0)
    twice = bpe.Tokenizer(GPT2, [bytes([byte]) for byte in range(256)], {"a": 256})  # a text that is two tokens
    assert "nanogpt export" not in model_card(record, twice, "me/first", 0)
