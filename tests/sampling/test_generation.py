"""Generation as a listener sees it: events, seeds, knobs, ends."""

import copy
import dataclasses
import json
import math
from itertools import islice
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from nanogpt import tokenizers
from nanogpt.config import SamplingConfig
from nanogpt.errors import UserError
from nanogpt.events import Stopped, Token, from_json, to_json
from nanogpt.sampling import generate, next_logits
from nanogpt.tokenizers import hf
from tests.narrowing import expect

GREEDY: dict[str, Any] = {"temperature": 0.0}
SAMPLED: dict[str, Any] = {"temperature": 1.2, "top_k": 20, "top_p": 0.95, "min_p": 0.001, "repetition_penalty": 1.1}


def texts(events, count=1):
    """The text of each sample, and how it ended."""
    written, reasons = [""] * count, [""] * count
    for event in events:
        if isinstance(event, Token):
            assert reasons[event.sample] == ""
            written[event.sample] += event.text
        else:
            reasons[event.sample] = event.reason
    return written, reasons


@pytest.mark.parametrize("knobs", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("num_samples", [1, 4])
@pytest.mark.parametrize("shape", [{}, {"bias": True, "n_layer": 3, "block_size": 9}, {"n_head": 4, "block_size": 1}])
def test_text_is_the_same_with_and_without_the_cache_past_the_window(new_model, tokenizer, knobs, num_samples, shape):
    model = new_model(seed=7, **shape)
    knobs = SamplingConfig(max_new_tokens=3 * model.config.block_size + 10, seed=3, **knobs)
    cached, full = (
        texts(generate(model, tokenizer, "once upon", knobs, num_samples=num_samples, use_cache=use), num_samples)
        for use in (True, False)
    )
    assert cached == full
    assert all(len(text) == knobs.max_new_tokens for text in cached[0])
    if num_samples > 1 and knobs.temperature:
        assert len(set(cached[0])) == num_samples


@pytest.mark.parametrize("number", [0, 5, 40])
def test_the_next_logits_are_those_that_a_token_was_chosen_from_also_past_the_window(model, tokenizer, number):
    events = generate(model, tokenizer, "once", SamplingConfig(seed=5, **SAMPLED))
    tokens = [expect(Token, event) for event in islice(events, number + 1)]
    logits, seen = next_logits(model, tokenizer, "once", [token.id for token in tokens[:number]])
    shares = torch.softmax(torch.from_numpy(logits[0]), 0)
    assert shares[tokens[number].id].item() == pytest.approx(tokens[number].probability, rel=1e-4)
    assert {*seen[0].nonzero()[0]} == {*tokenizer.encode("once"), *(token.id for token in tokens[:number])}


def test_a_sample_is_the_same_alone_and_among_others(model, tokenizer):
    knobs = SamplingConfig(max_new_tokens=60, seed=40, **SAMPLED)
    together, _ = texts(generate(model, tokenizer, "a", knobs, num_samples=3), 3)
    for row in range(3):
        (alone,), _ = texts(generate(model, tokenizer, "a", dataclasses.replace(knobs, seed=40 + row)))
        assert alone == together[row]


def test_the_same_seed_writes_the_same_text_and_another_one_another(model, tokenizer):
    first, again, other = (
        texts(generate(model, tokenizer, "a", SamplingConfig(max_new_tokens=40, temperature=1.0, seed=seed)))
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_the_largest_seed_serves_several_samples(model, tokenizer):
    assert list(generate(model, tokenizer, "a", SamplingConfig(max_new_tokens=1, seed=2**63 - 1), num_samples=3))


def test_a_token_carries_the_models_probability_and_its_best_alternatives(model, tokenizer):
    knobs = SamplingConfig(max_new_tokens=6, **SAMPLED)
    tokens = [event for event in generate(model, tokenizer, "abc", knobs, alternatives=4) if isinstance(event, Token)]
    ids = tokenizer.encode("abc")
    for token in tokens:
        with torch.inference_mode():
            shares = model(torch.tensor([ids]))[0][0, 0].softmax(0)
        best = shares.topk(4)
        assert token.probability == pytest.approx(shares[token.id].item(), rel=1e-3)
        assert [other.id for other in token.alternatives] == best.indices.tolist()
        assert [other.probability for other in token.alternatives] == pytest.approx(best.values.tolist(), rel=1e-3)
        assert [other.text for other in token.alternatives] == [tokenizer.decode([i]) for i in best.indices.tolist()]
        assert token.text == tokenizer.decode([token.id])
        ids.append(token.id)


def test_every_event_survives_json(model, tokenizer):
    events = list(generate(model, tokenizer, "a", SamplingConfig(max_new_tokens=5), num_samples=2))
    assert [from_json(to_json(event)) for event in events] == events
    assert [event.tokens for event in events if isinstance(event, Stopped)] == [5, 5]
    assert all(event.tokens_per_second > 0 for event in events if isinstance(event, Stopped))


def test_knobs_turned_while_it_writes_act_from_the_next_token_on(model, tokenizer):
    calm = SamplingConfig(max_new_tokens=30, temperature=0.0)
    turned = calm
    events = generate(model, tokenizer, "abc", lambda: turned)
    first = [expect(Token, event).id for event in islice(events, 10)]
    turned = SamplingConfig(max_new_tokens=30, temperature=1000.0, top_k=0)
    rest = [event.id for event in events if isinstance(event, Token)]
    greedy = [event.id for event in generate(model, tokenizer, "abc", calm) if isinstance(event, Token)]
    assert first == greedy[:10]
    assert rest != greedy[10:]
    assert len(rest) == 20


def test_a_length_lowered_below_what_is_written_ends_the_sample_and_loses_no_text(model, tokenizer):
    turned = SamplingConfig(max_new_tokens=100, temperature=0.0)
    whole = "".join(event.text for event in generate(model, tokenizer, "abc", turned) if isinstance(event, Token))
    turned = dataclasses.replace(turned, stop=(whole[4:10] + "\0",))  # holds back what is like its beginning
    events = generate(model, tokenizer, "abc", lambda: turned)
    text = "".join(expect(Token, event).text for event in islice(events, 8))
    turned = dataclasses.replace(turned, max_new_tokens=3)
    last, stopped = events
    assert isinstance(last, Token)
    assert isinstance(stopped, Stopped)
    assert text + last.text == whole[:9]
    assert (stopped.reason, stopped.tokens) == ("length", 9)


def test_no_tokens_wanted_is_no_token_written(model, tokenizer):
    (stopped,) = generate(model, tokenizer, "a", SamplingConfig(max_new_tokens=0))
    assert isinstance(stopped, Stopped)
    assert (stopped.reason, stopped.tokens) == ("length", 0)


def test_a_stop_string_ends_its_sample_and_is_left_out(model, tokenizer):
    knobs = SamplingConfig(max_new_tokens=80, **SAMPLED)
    whole, _ = texts(generate(model, tokenizer, "a", knobs, num_samples=3), 3)
    stop = whole[1][20:23]
    stopped, reasons = texts(
        generate(model, tokenizer, "a", dataclasses.replace(knobs, stop=(stop, "never written")), num_samples=3), 3
    )
    assert reasons[1] == "stop"
    for text, full, reason in zip(stopped, whole, reasons, strict=True):
        assert text == full.split(stop)[0]
        assert reason == ("stop" if stop in full else "length")


def with_end(tokenizer):
    """Return a copy of the tokenizer whose letter `e` is the end of the text."""
    ending = copy.copy(tokenizer)
    (ending.end_of_text,) = tokenizer.encode("e")
    return ending


def test_the_end_of_text_token_ends_the_sample_and_is_not_written(model, tokenizer):
    knobs = SamplingConfig(max_new_tokens=300, temperature=2.0, top_k=0, stop=("\nzz",))
    (whole,), _ = texts(generate(model, tokenizer, "a", knobs))
    (text,), (reason,) = texts(generate(model, with_end(tokenizer), "a", knobs))
    assert reason == "end"
    assert text == whole.partition("e")[0]


def test_an_empty_prompt_starts_from_the_end_of_text_or_a_line_break(model, tokenizer, bytes_tokenizer):
    knobs = SamplingConfig(max_new_tokens=20, **GREEDY)
    assert texts(generate(model, tokenizer, "", knobs)) == texts(generate(model, tokenizer, "\n", knobs))
    ending = with_end(tokenizer)
    assert texts(generate(model, ending, "", knobs)) == texts(generate(model, ending, "e", knobs))


def test_without_a_line_break_an_empty_prompt_starts_from_the_first_token(new_model):
    tokenizer = tokenizers.create("char", ["abcdef"])
    model = new_model(vocab_size=6)
    knobs = SamplingConfig(max_new_tokens=20, **GREEDY)
    assert texts(generate(model, tokenizer, "", knobs)) == texts(generate(model, tokenizer, "a", knobs))


def test_an_empty_prompt_starts_from_the_first_token_where_white_space_gives_none(new_model):
    made: Any = Tokenizer(models.WordLevel({"the": 0, "cat": 1, "?": 2}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    words = hf.Tokenizer.from_json({"tokenizer": json.loads(made.to_str()), "end_of_text": None})
    model, knobs = new_model(vocab_size=3), SamplingConfig(max_new_tokens=5, **GREEDY)
    for prompt in ("", "\n"):
        assert texts(generate(model, words, prompt, knobs)) == texts(generate(model, words, "the", knobs))


def test_padded_ids_are_never_drawn(new_model, tokenizer):
    model = new_model(vocab_size=512)
    for knobs in (GREEDY, {"temperature": 1000.0, "top_k": 0}):
        *events, _ = generate(model, tokenizer, "a", SamplingConfig(max_new_tokens=100, **knobs))
        tokens = [expect(Token, event) for event in events]
        assert all(token.id < tokenizer.vocab_size for token in tokens)
        assert all(other.id < tokenizer.vocab_size for token in tokens for other in token.alternatives)
        assert math.fsum(other.probability for other in tokens[0].alternatives) <= 1


def test_characters_that_span_tokens_come_out_whole(new_model, bytes_tokenizer):
    model = new_model(vocab_size=bytes_tokenizer.vocab_size)
    knobs = SamplingConfig(max_new_tokens=200, temperature=1.5, top_k=0)
    *events, _ = generate(model, bytes_tokenizer, "a", knobs)
    tokens = [expect(Token, event) for event in events]
    assert "".join(token.text for token in tokens) == bytes_tokenizer.decode(token.id for token in tokens)


def test_an_unknown_character_is_named(model, tokenizer):
    with pytest.raises(UserError, match="É"):
        next(generate(model, tokenizer, "É", SamplingConfig()))


def test_a_tokenizer_larger_than_the_model_is_refused(new_model, bytes_tokenizer):
    with pytest.raises(UserError, match="do not belong together"):
        next(generate(new_model(), bytes_tokenizer, "a", SamplingConfig()))


def test_a_broken_model_is_refused(new_model, tokenizer):
    model = new_model()
    with torch.no_grad():
        model.ln_f.weight[0] = math.nan
    with pytest.raises(UserError, match="not finite"):
        next(generate(model, tokenizer, "a", SamplingConfig()))


def test_a_model_in_training_is_asked_without_a_trace(new_model, tokenizer):
    """The mode, the global random state and the gradients are as before, also between two events."""
    model = new_model(dropout=0.5)
    knobs = SamplingConfig(max_new_tokens=20, temperature=1.0)
    expected = texts(generate(model, tokenizer, "a", knobs))
    model.train()
    state = torch.random.get_rng_state()
    events = generate(model, tokenizer, "a", knobs)
    first = next(events)
    assert model.training
    assert not torch.is_inference_mode_enabled()
    model(torch.tensor([[1, 2]]), torch.tensor([[2, 3]]))[1].backward()
    torch.random.set_rng_state(state)
    assert texts([first, *events]) == expected
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_closing_stops_at_once(model, tokenizer):
    events = generate(model, tokenizer, "a", SamplingConfig(max_new_tokens=10**9))
    next(events)
    events.close()
    assert list(events) == []
    assert not torch.is_inference_mode_enabled()
