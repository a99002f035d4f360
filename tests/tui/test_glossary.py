"""The glossary: every word that the screens and the settings use is there, is found as people type it, and is plain."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from nanogpt.config import SamplingConfig, every_setting, sampling_settings
from nanogpt_tui import glossary

PAGE = Path(__file__).parents[2] / "docs" / "glossary.md"
PROMISED = """attention, autoregressive, AdamW, batch size, block size, BPE, causal mask, checkpoint, context
window, cross-entropy, decoder-only, dropout, embedding, n_embd, flash attention, forward pass, GELU, gradient
accumulation, gradient clipping, attention head, head size, inference, iteration, key, layer normalization, learning
rate, logits, loss, MFU, MLP, MPS, n_head, n_layer, optimizer, parameters, perplexity, position embedding, pre-norm,
query, residual connection, sampling, softmax, state dict, temperature, token, tokenizer, top-k, top-p, min-p,
transformer, value, validation loss, vocab size, warm-up, weight decay, weight tying, ETA, tokens/s, epoch, gradient
norm, checkpoint kinds, bfloat16, EMA smoothing, seed, repetition penalty, autograd, backward pass, cosine decay,
greedy decoding, KV cache, sliding window, overfitting, plateau, train/val/test split, stop string"""
SENTENCE_END = re.compile(r"[.!?](?= [A-Z0-9]|$)")
# Weights & Biases keeps its own words.
EXPLAINED_ELSEWHERE = {"wandb_log", "wandb_project", "wandb_run_name"}


@pytest.mark.parametrize("name", [" ".join(name.split()) for name in PROMISED.split(",")])
def test_a_promised_word_is_a_term_of_its_own(name):
    term = glossary.lookup(name)
    assert term is not None
    assert term.name == name


@pytest.mark.parametrize("term", glossary.terms(), ids=lambda term: term.name)
def test_a_term_is_two_to_five_sentences_of_plain_text(term):
    assert 2 <= len(SENTENCE_END.findall(term.text)) <= 5
    assert term.text.endswith((".", ")"))
    assert not re.search(r"[`*\[\]<\n\t]|  |://", term.text), "plain prose, with no markup"
    assert all(line == line.rstrip() and line.isprintable() for line in term.formula.splitlines())


def test_references_lead_to_other_terms():
    names = {term.name for term in glossary.terms()}
    for term in glossary.terms():
        assert set(term.see) <= names - {term.name}, term.name
        assert len(set(term.see)) == len(term.see)


def test_no_label_means_two_things():
    owners = Counter(glossary._key(label) for term in glossary.terms() for label in {*term.labels} - {*term.settings})
    owners += Counter(glossary._key(name) for term in glossary.terms() for name in term.settings)
    for term in glossary.terms():
        for label in term.labels:
            assert glossary.lookup(label) is term
    named_as_its_setting = {glossary._key(term.name) for term in glossary.terms() if term.settings}
    assert {label for label, count in owners.items() if count > 1} <= named_as_its_setting


def test_every_setting_is_explained_by_exactly_one_term():
    explained = Counter(name for term in glossary.terms() for name in term.settings)
    knobs = {*sampling_settings(), *SamplingConfig.__dataclass_fields__}
    assert explained.keys() | EXPLAINED_ELSEWHERE == every_setting().keys() | knobs
    assert set(explained.values()) == {1}


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("Perplexity", "perplexity"),
        ("top_k", "top-k"),
        ("TOP K", "top-k"),
        ("warmup", "warm-up"),
        ("warmup_iters", "warm-up"),
        ("Grad norm", "gradient norm"),
        ("val loss", "validation loss"),
        ("tok/s", "tokens/s"),
        ("tokens", "token"),
        ("residual connections", "residual connection"),
        ("bf16", "bfloat16"),
        (" ppl ", "perplexity"),
    ],
)
def test_a_word_is_found_as_people_type_it(typed, name):
    term = glossary.lookup(typed)
    assert term is not None
    assert term.name == name


@pytest.mark.parametrize("typed", ["", " ", "s", "-", "xyzzy", "[bold]"])
def test_what_is_no_word_of_the_field_is_not_found(typed):
    assert glossary.lookup(typed) is None


def test_what_a_screen_says_it_is_explained_by_is_a_term():
    sources = [path.read_text(encoding="utf-8") for path in Path(glossary.__file__).parent.rglob("*.py")]
    named = [name for source in sources for name in re.findall(r'\bglossary(?:: .+)? = "(.+)"', source)]
    assert named
    assert [name for name in named if glossary.lookup(name) is None] == []


def test_searching_finds_every_term_first_by_its_own_name():
    for term in glossary.terms():
        assert glossary.search(term.name)[0] is term


def test_searching_ranks_names_before_aliases_before_texts():
    found = [term.name for term in glossary.search("learning")]
    assert found[0] == "learning rate"  # then "learning curve", an alias of plateau, then texts that speak of it
    assert found.index("learning rate") < found.index("plateau") < found.index("optimizer")
    assert glossary.search("nucleus")[0].name == "top-p"


def test_searching_for_several_words_wants_all_of_them():
    found = {term.name for term in glossary.search("keys values")}
    assert "KV cache" in found
    assert "key" not in found  # does not speak of values


def test_searching_for_nothing_finds_all_in_reading_order_and_for_nonsense_none():
    assert glossary.search("  ") == list(glossary.terms())
    assert glossary.search("xyzzy") == []
    assert glossary.search("—†—") == []


def test_the_glossary_loads_without_screens_and_without_torch():
    code = (
        "import sys; from nanogpt_tui import glossary; glossary.search('loss');"
        "print(sorted({'textual', 'rich', 'torch', 'numpy'} & sys.modules.keys()))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def test_the_page_in_docs_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == glossary.markdown(), (
        "run: python -m nanogpt_tui.glossary > docs/glossary.md"
    )
