"""Detection of the encoding of bytes that are not UTF-8, by chardet, with a measure of whether it is certain.

Of the detectors, chardet 7 is the best by far: of 1,704 excerpts of 60 to 1,000 characters, in 71 pairs of a language
and an encoding, it decoded 98 % exactly, charset-normalizer 74 % and faust-cchardet 67 %. Its confidences say when it
guesses: with the limits below, none of the answers that are called certain was wrong (`benchmarks/encodings.py`).
"""

import codecs
import re
from dataclasses import dataclass
from itertools import pairwise
from unicodedata import category

from nanogpt.data.binaries import MAX_CONTROL_SHARE, count_controls

SAMPLE_BYTES = 1 << 16  # that are looked at
MIN_BYTES = 40  # of lines with characters outside ASCII; nothing is certain of less
SHORT_BYTES, MIN_CONFIDENCE = 200, 0.3  # of a shorter text, chardet has to be this confident
MIN_RATIO = 1.01  # of the confidence in the best candidate to that in the next one
MAX_ODDITIES = 0.15  # of the characters outside ASCII; random bytes have more in every encoding
LATIN_RATIO, FEW_WORDS = 0.8, 3  # see `is_latin`
CANDIDATES = 4  # that a message names
LATIN = ("cp1252", "iso8859-1", "iso8859-15")

# chardet names the widest codec of a family. The standard's own is used if it has all that the sample has: the others
# map some characters differently, such as the wave dash of Shift JIS.
_NARROWER = {
    "cp932": "shift_jis",
    "shift_jis_2004": "shift_jis",
    "euc_jis_2004": "euc_jp",
    "big5hkscs": "big5",
}
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949"}  # these map nothing differently
_C1 = re.compile("[\x80-\x84\x86-\x9f]")  # control characters that no text has; NEL is a line end
_WORD, _RUN = re.compile(rb"[^\s\x80-\xff]*[\x80-\xff]\S*"), re.compile(rb"[\x80-\xff]+")
_COMMON = re.compile("[ \n,.\u3001\u3002\uff0c]")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A codec that decodes a sample, and the text that it gives. `confidence` (0 to 1) is chardet's."""

    codec: str
    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Detection:
    """The encodings that a sample may be in, which read differently, the most probable one first.

    `is_certain`: the first one is right. `is_latin`: if it is not certain, the sample is a western European text for
    all that is known: its characters outside ASCII stand alone, and Windows-1252 is about as probable as the first, or
    there are only a few words to judge by.
    """

    candidates: tuple[Candidate, ...]
    is_certain: bool
    is_latin: bool


def detect(sample: bytes) -> Detection:
    """Return the encodings that the bytes, which are not UTF-8, may be in. The last character may be cut off."""
    import chardet  # takes 20 ms

    lines = b"" if b"\0" in sample else b"".join(line for line in sample.splitlines(True) if not line.isascii())
    evidence = lines or sample  # lines in ASCII say nothing, except in UTF-16 and ISO-2022
    found: dict[str, Candidate] = {}
    latin = _decode(sample, "cp1252")
    for result in chardet.detect_all(evidence, ignore_threshold=True, compat_names=False):
        codec = _codec(result["encoding"], sample)
        for each in _both_byte_orders(sample, codec):
            text = _decode(sample, each)
            if text is not None:
                found.setdefault(text, Candidate("cp1252" if text == latin else each, text, result["confidence"]))
    candidates = list(found.values())
    best, next_ = (*(each.confidence for each in candidates[:2]), 0.0, 0.0)[:2]
    differ = best > MIN_RATIO * next_
    if not differ and len(candidates) > 1:
        tied = [each for each in candidates if best <= MIN_RATIO * each.confidence]
        tied.sort(key=lambda each: _count_oddities(each.text))
        differ = _count_oddities(tied[0].text) < _count_oddities(tied[1].text)
        candidates[: len(tied)] = tied
    is_certain = (
        differ
        and len(evidence) >= MIN_BYTES
        and (len(evidence) >= SHORT_BYTES or best >= MIN_CONFIDENCE)
        and _count_oddities(candidates[0].text) <= MAX_ODDITIES * sum(not each.isascii() for each in candidates[0].text)
    )
    likely = max((each.confidence for each in candidates if each.codec in LATIN), default=0.0)
    words = set(_WORD.findall(evidence))
    is_latin = _high_bytes_are_single(words) and (len(words) <= FEW_WORDS or likely >= LATIN_RATIO * best)
    return Detection(tuple(candidates), is_certain, is_latin and latin is not None)


def _codec(name: str | None, sample: bytes) -> str:
    """Return Python's name of the codec to use for one of chardet's names; empty if Python does not have it."""
    try:
        codec = codecs.lookup(name or "").name
    except LookupError:
        return ""
    narrower = _NARROWER.get(codec)
    return narrower if narrower and _decode(sample, narrower) is not None else _WIDER.get(codec, codec)


def _count_oddities(text: str) -> int:
    """Return how many characters outside ASCII are unusual there: symbols, and capitals after small letters."""
    symbols = sum(category(each)[0] in "SC" for each in text if not each.isascii())
    capitals = sum(each.islower() and next_.isupper() and not next_.isascii() for each, next_ in pairwise(text))
    return symbols + capitals


def _both_byte_orders(sample: bytes, codec: str) -> tuple[str, ...]:
    """Return the codec; for UTF-16 also the other byte order, unless one gives more spaces and punctuation."""
    if not codec.startswith("utf-16"):
        return (codec,) if codec else ()
    counts = {each: len(_COMMON.findall(_decode(sample, each) or "")) for each in ("utf-16-le", "utf-16-be")}
    most = max(counts.values())
    return tuple(each for each, count in counts.items() if count == most)


def _decode(sample: bytes, codec: str) -> str | None:
    try:
        text = codecs.getincrementaldecoder(codec)().decode(sample)
    except UnicodeDecodeError:
        return None
    controls = count_controls(text.encode(errors="replace"))
    return text if controls <= MAX_CONTROL_SHARE * len(text) and not _C1.search(text) else None


def _high_bytes_are_single(words: set[bytes]) -> bool:
    """Return whether bytes outside ASCII mostly stand alone, as accented letters do in a word."""
    runs = [run for word in words for run in _RUN.findall(word)]
    return sum(map(len, runs)) < 1.5 * len(runs)
