"""Going on behind tokens that are written already, as if the sample had never stopped."""

import dataclasses

import pytest

from nanogpt.config import SamplingConfig
from nanogpt.events import Stopped, Token
from nanogpt.sampling import generate
from nanogpt.tokenizers import byte

KNOBS = SamplingConfig(max_new_tokens=50, temperature=1.2, top_k=20, repetition_penalty=1.2, seed=5)


def written(events):
    return [event for event in events if isinstance(event, Token)]


@pytest.mark.parametrize("cut", [1, 3, 14, 37])  # within the window of 16, and after it has restarted
def test_a_sample_that_goes_on_is_the_one_that_never_stopped(model, tokenizer, cut):
    whole = written(generate(model, tokenizer, "ab", KNOBS))
    ids = [token.id for token in whole[:cut]]
    rest = written(generate(model, tokenizer, "ab", KNOBS, written=ids))
    assert [token.id for token in rest] == [token.id for token in whole[cut:]]
    assert [token.probability for token in rest] == pytest.approx(
        [token.probability for token in whole[cut:]], abs=1e-5
    )


def test_another_token_in_its_place_leads_to_another_text(model, tokenizer):
    whole = written(generate(model, tokenizer, "ab", KNOBS))
    ids = [token.id for token in whole[:10]]
    others = [other.id for other in whole[10].alternatives if other.id != whole[10].id]
    branch = written(generate(model, tokenizer, "ab", KNOBS, written=[*ids, others[0]]))
    assert len(branch) == 39
    assert [token.id for token in branch] != [token.id for token in whole[11:]]


def test_written_tokens_count_in_the_length(model, tokenizer):
    short = dataclasses.replace(KNOBS, max_new_tokens=4)
    (*tokens, end) = generate(model, tokenizer, "ab", short, written=[3, 4, 5])
    assert len(tokens) == 1
    assert isinstance(end, Stopped)
    assert (end.reason, end.tokens) == ("length", 4)
    (end,) = generate(model, tokenizer, "ab", short, written=[3, 4, 5, 6])
    assert isinstance(end, Stopped)
    assert end.reason == "length"


def test_a_stop_string_that_begins_in_the_written_tokens_ends_the_sample(model, tokenizer):
    whole = written(generate(model, tokenizer, "ab", KNOBS))
    ids = [token.id for token in whole[:10]]
    knobs = dataclasses.replace(KNOBS, stop=(whole[9].text + whole[10].text,))
    (token, end) = generate(model, tokenizer, "ab", knobs, written=ids)
    assert isinstance(token, Token)
    assert isinstance(end, Stopped)
    assert (token.text, end.reason) == ("", "stop")


def test_a_character_that_is_half_written_is_completed(new_model):
    first, *rest = "€".encode()

    class Dictated(byte.Tokenizer):
        """Reads whatever the model chooses as the rest of the character."""

        def token_bytes(self, id):
            return bytes([first if id == first else rest.pop(0)])

    knobs = SamplingConfig(max_new_tokens=3, temperature=0.0)
    tokens = written(generate(new_model(vocab_size=256), Dictated(), "a", knobs, written=[first], alternatives=0))
    assert [token.text for token in tokens] == ["", "€"]
