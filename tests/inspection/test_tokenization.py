"""Statistics of a tokenizer on a text, a text cut into pieces, and the curve of vocabulary sizes."""

import pytest

from nanogpt import tokenizers
from nanogpt.errors import UserError
from nanogpt.events import Encoding, TokenizerMeasured, VocabularyPoint
from nanogpt.inspection import tokenization
from nanogpt.inspection.tokenization import curve_sizes, cut, measure_tokenizer, vocabulary_curve
from tests.tokenizer_specs import SAMPLE, SPECS, made


def measured(tokenizer: tokenizers.Tokenizer, *texts: str) -> TokenizerMeasured:
    *_, last = measure_tokenizer(tokenizer, texts)
    assert isinstance(last, TokenizerMeasured)
    return last


def test_the_figures_of_a_small_vocabulary() -> None:
    tokenizer = tokenizers.create("char", ["abcdé\x07"])
    found = measured(tokenizer, "aaab", "éa")
    assert (found.tokens, found.characters, found.text_bytes) == (6, 6, 7)
    assert found.tokens_per_character == 1
    assert found.bytes_per_token == pytest.approx(7 / 6)
    assert found.unused == 3  # \x07, c and d
    assert [(each.text, each.count) for each in found.common] == [("a", 4), ("b", 1), ("é", 1)]
    assert [(each.text, each.count) for each in found.odd] == [("␇", 0)]
    assert found.mb_per_second > 0


def test_rare_entries_are_the_longest_that_hardly_occur(text: str) -> None:
    tokenizer = tokenizers.create("bpe:400", [text + " solidgoldmagikarp" * 5000])
    found = measured(tokenizer, text)
    assert found.rare[0].text == " solidgoldmagikarp"  # more frequent than any pair of the text: 17 merges of its own
    assert found.rare[0] == found.longest[0]
    assert all(each.count <= 1 for each in found.rare)
    lengths = [len(tokenizer.token_bytes(each.id)) for each in found.rare]
    assert lengths == sorted(lengths, reverse=True)


def test_special_tokens_are_not_counted_as_unused() -> None:
    with_end, without = (tokenizers.create(f"bpe:300,special_tokens={token}", ["abab"]) for token in ("<|x|>", ""))
    assert measured(with_end, "abab").unused == measured(without, "abab").unused == 257  # all but abab


def test_parts_of_characters_and_invisible_ones_are_odd() -> None:
    tokens = [b"\xe6\x97", "日".encode(), b"\x1b[", "\u200b".encode(), b"\n\n", b"a", b"\xff"]
    assert [tokenization.is_odd(token) for token in tokens] == [True, False, True, True, False, False, False]


@pytest.mark.parametrize("spec", SPECS)
def test_it_counts_the_tokens_of_the_whole_text(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenization, "CHUNK_CHARACTERS", 20)
    monkeypatch.setattr(tokenization, "REPORT_INTERVAL_S", 0)
    tokenizer, whole = made(spec), SAMPLE * 5
    *progress, found = measure_tokenizer(tokenizer, [whole[:33], whole[33:]], len(whole.encode()))
    assert isinstance(found, TokenizerMeasured)
    assert found.tokens == len(tokenizer.encode(whole))
    assert found.text_bytes == len(whole.encode())
    assert len(progress) > 3
    assert all(isinstance(event, Encoding) and event.done_bytes <= event.total_bytes for event in progress)


def test_an_empty_text_is_refused() -> None:
    for work in (measure_tokenizer(made("byte"), []), vocabulary_curve(made("byte"), "")):
        with pytest.raises(UserError, match="empty"):
            next(work)


@pytest.mark.parametrize("spec", SPECS)
def test_a_cut_text_has_the_bytes_of_each_token(spec: str) -> None:
    found = cut(made(spec), SAMPLE)
    assert b"".join(found.pieces) == SAMPLE.encode()
    assert list(found.ids) == made(spec).encode(SAMPLE)
    assert (found.characters, found.utf8_bytes, found.problem) == (len(SAMPLE), len(SAMPLE.encode()), "")


def test_an_unknown_character_is_said_and_replaced() -> None:
    found = cut(tokenizers.create("char", ["ab "]), "aßb")
    assert found.pieces == (b"a", b" ", b"b")
    assert "'ß'" in found.problem


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_the_curve_is_that_of_trainings_to_each_size(text: str, pattern: str) -> None:
    largest = tokenizers.create(f"bpe:600,pattern={pattern}", [text])
    points = list(vocabulary_curve(largest, text, [257, 400, 600]))
    for point in points:
        trained = tokenizers.create(f"bpe:{point.vocab_size},pattern={pattern}", [text])
        assert point.bytes_per_token == pytest.approx(len(text.encode()) / len(trained.encode(text)))
        assert tokenizers.fingerprint(trained) == tokenizers.fingerprint(largest.truncated(point.vocab_size) or trained)
    assert points[0].bytes_per_token == 1  # 256 bytes and the end of the text
    assert [point.vocab_size for point in points] == [257, 400, 600]


def test_by_default_the_curve_has_two_sizes_for_each_doubling_and_ends_at_the_vocabulary() -> None:
    assert curve_sizes(1000) == [257, 362, 512, 724, 1000]
    points = list(vocabulary_curve(made("bpe"), SAMPLE))
    assert [point.vocab_size for point in points] == curve_sizes(made("bpe").vocab_size)
    assert all(isinstance(point, VocabularyPoint) for point in points)
    assert list(vocabulary_curve(made("char"), SAMPLE)) == []
