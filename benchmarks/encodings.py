"""How often the encoding of a text is detected, asked for, or wrong, by its length.

    python benchmarks/encodings.py FOLDER

FOLDER has an unpacked wheel of Django (`pip download --no-deps django; unzip django-*.whl -d FOLDER`): its translations
are the texts, encoded in what their languages were written in before UTF-8. The detectors that are installed, chardet,
charset-normalizer and faust-cchardet, are compared by how many excerpts they decode exactly.
"""

import ast
import random
import sys
from collections import Counter
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from nanogpt.data.detection import detect

LENGTHS = (10, 20, 40, 60, 120, 200, 1000, 10_000)  # characters
EXCERPTS = 6
WESTERN = ("da", "de", "es", "fi", "fr", "it", "nb", "nl", "pt", "sv")
ENCODINGS = {
    "Windows-1252": [(language, ("cp1252", "iso8859-1")) for language in WESTERN],
    "other Latin": [
        *((language, ("cp1250", "iso8859-2")) for language in ("cs", "hu", "pl")),
        *((language, ("cp1257",)) for language in ("et", "lt")),
        ("ro", ("iso8859-16",)),
        ("tr", ("cp1254", "iso8859-9")),
        ("vi", ("cp1258",)),
        ("fr", ("iso8859-15", "mac-roman", "cp850")),
        ("de", ("cp850",)),
    ],
    "Cyrillic": [
        ("ru", ("koi8-r", "cp1251", "iso8859-5", "cp866", "mac-cyrillic")),
        ("uk", ("koi8-u", "cp1251")),
        ("bg", ("cp1251",)),
    ],
    "Greek, Hebrew, Arabic, Thai": [
        ("el", ("iso8859-7", "cp1253")),
        ("he", ("cp1255", "iso8859-8")),
        ("ar", ("cp1256",)),
        ("th", ("tis-620", "cp874")),
    ],
    "Chinese, Japanese, Korean": [
        ("zh_Hans", ("gbk", "gb18030")),
        ("zh_Hant", ("big5", "big5hkscs")),
        ("ja", ("shift_jis", "euc-jp")),
        ("ko", ("euc-kr", "cp949")),
    ],
    "UTF-16 without a mark": [
        (language, ("utf-16-le", "utf-16-be")) for language in ("zh_Hans", "ja", "ko", "ru", "fr", "de")
    ],
}


@cache
def translations(folder: Path, language: str) -> str:
    """Return the messages of a language, in a fixed random order."""
    messages: list[str] = []
    for path in sorted(folder.rglob(f"locale/{language}/LC_MESSAGES/django.po")):
        for block in path.read_text("utf-8").split("\nmsgstr")[1:]:
            lines = block.split("\n\n")[0].partition(" ")[2].splitlines()
            text = "".join(ast.literal_eval(line) for line in lines if line.startswith('"'))
            if text and "Content-Type" not in text:
                messages.append(text)
    random.Random(0).shuffle(messages)
    return "\n".join(messages)


def excerpts(folder: Path, language: str, encoding: str, length: int) -> list[bytes]:
    """Return excerpts in an encoding, each with a character outside ASCII if there is one nearby."""
    text = translations(folder, language).encode(encoding, "ignore").decode(encoding)
    places = random.Random(f"{language}{encoding}{length}")
    found: list[bytes] = []
    for _ in range(EXCERPTS):
        for _ in range(50):
            start = places.randrange(max(1, len(text) - length))
            excerpt = text[start : start + length]
            if not excerpt.isascii():
                break
        found.append(excerpt.encode(encoding))
    return found


def outcome(content: bytes, encoding: str) -> str:
    """Return what preparing the bytes does."""
    found = detect(content)
    if found.is_certain:
        return "right" if decodes(content, found.candidates[0].codec, encoding) else "WRONG"
    return "Windows-1252 with a warning" if found.is_latin else "asked"


def decodes(content: bytes, codec: str | None, encoding: str) -> bool:
    """Return whether a codec gives the text that an encoding gives."""
    try:
        return codec is not None and content.decode(codec) == content.decode(encoding)
    except (LookupError, UnicodeDecodeError):
        return False


def chardet_detector(content: bytes) -> str | None:
    return import_module("chardet").detect(content)["encoding"]


def charset_normalizer_detector(content: bytes) -> str | None:
    best = import_module("charset_normalizer").from_bytes(content).best()
    return best.encoding if best else None


def faust_cchardet_detector(content: bytes) -> str | None:
    return import_module("cchardet").detect(content)["encoding"]


DETECTORS = {
    "chardet": chardet_detector,
    "charset_normalizer": charset_normalizer_detector,
    "cchardet": faust_cchardet_detector,
}


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder, exact, total = Path(sys.argv[1]), Counter[str](), 0
    known = {name: detector for name, detector in DETECTORS.items() if find_spec(name)}
    for family, pairs in ENCODINGS.items():
        for length in LENGTHS:
            counts = Counter[str]()
            for language, encodings in pairs:
                for encoding in encodings:
                    for content in excerpts(folder, language, encoding, length):
                        counts[outcome(content, encoding)] += 1
                        if 60 <= length <= 1000:
                            total += 1
                            exact.update(
                                name for name, call in known.items() if decodes(content, call(content), encoding)
                            )
            shares = ", ".join(f"{each} {count / counts.total():.0%}" for each, count in counts.most_common())
            print(f"{family}, {length:,} characters: {shares}")
    for name, count in exact.most_common():
        print(f"{name}: {count / total:.1%} of {total:,} excerpts of 60 to 1,000 characters decoded exactly")


if __name__ == "__main__":
    main()
