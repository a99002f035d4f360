"""Bytes of tokens → text as it streams."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nanogpt.sampling.text import TextStream, split_at_stop


def streamed(chunks, stops=()):
    """(the texts released, whether a stop string was written)"""
    stream, released = TextStream(), []
    for number, chunk in enumerate(chunks, 1):
        text, stopped = stream.feed(chunk, stops, last=number == len(chunks))
        released.append(text)
        if stopped:
            return released, True
    return released, False


def test_a_character_that_spans_tokens_is_held_back_until_whole():
    assert streamed([b"a\xe2", b"\x82", b"\xac", b"b"]) == (["a", "", "€", "b"], False)


def test_an_unfinished_character_at_the_end_is_replaced():
    assert streamed([b"a", b"\xf0\x9f"]) == (["a", "\ufffd"], False)


def test_bytes_that_can_be_no_character_are_replaced_at_once():
    assert streamed([b"\xff", b"\xe2", b"x", b"y"]) == (["\ufffd", "", "\ufffdx", "y"], False)


@given(st.text(), st.lists(st.integers(0, 300)))
def test_valid_text_comes_out_whole_however_it_is_cut(text, cuts):
    data = text.encode("utf-8", "replace")
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    chunks = [data[start:end] for start, end in pairwise(edges)]
    assert "".join(streamed(chunks)[0]) == data.decode()


def test_what_may_begin_a_stop_string_waits_and_is_released_when_it_does_not():
    assert streamed([b"x\n", b"\n", b"y", b"z"], ["\n\n!"]) == (["x", "", "\n\ny", "z"], False)


def test_the_stop_string_and_what_follows_it_are_left_out():
    assert streamed([b"one", b" EN", b"D two"], ["END"]) == (["one", " ", ""], True)


def test_what_waits_is_released_at_the_end():
    assert streamed([b"ab", b"EN"], ["END"]) == (["ab", "EN"], False)


def test_a_stop_string_that_ends_the_last_token_counts():
    assert streamed([b"ab", b"END"], ["END"]) == (["ab", ""], True)


def test_a_stop_string_may_hold_characters_that_span_tokens():
    assert streamed([b"a\xe2\x82", b"\xacb"], ["€"]) == (["a", ""], True)


def test_overlapping_beginnings_are_all_watched():
    assert streamed([b"a", b"a", b"b"], ["aab"]) == (["", "", ""], True)
    assert streamed([b"a", b"a", b"a", b"b", b"c"], ["aab"]) == (["", "", "a", ""], True)


def test_a_stop_string_may_begin_in_text_that_was_released_when_it_was_not_asked_for():
    stream = TextStream()
    assert stream.feed(b"END one E") == ("END one E", False)
    assert stream.feed(b"N", ["END"]) == ("", False)
    assert stream.feed(b"D two", ["END"]) == ("", True)
    stream = TextStream()
    assert stream.feed(b"END one E") == ("END one E", False)
    assert stream.feed(b"N", ["END"]) == ("", False)
    assert stream.feed(b"d", ["END"]) == ("Nd", False)


def test_an_empty_stop_string_stops_nothing():
    assert split_at_stop("abc", [""]) == ("abc", "", False)


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.data())
def test_how_the_text_is_cut_into_tokens_changes_neither_text_nor_stop(text, stops, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    chunks = [text[start:end].encode() for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    cut_anyhow, stopped = streamed(chunks, stops)
    one_by_one, expected = streamed([character.encode() for character in text] or [b""], stops)
    assert ("".join(cut_anyhow), stopped) == ("".join(one_by_one), expected)
    if not stopped:
        assert "".join(cut_anyhow) == text
        assert not any(stop in text for stop in stops)
