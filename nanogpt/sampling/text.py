"""Streaming text from the bytes of tokens: characters that span tokens, and stop strings."""

from codecs import getincrementaldecoder
from collections.abc import Iterable

TAIL = 1000  # characters of released text in which a stop string can begin


class TextStream:
    """The text of one sample, released as soon as no later token can change it."""

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._released = ""  # its last characters

    def feed(self, token: bytes, stops: Iterable[str] = (), last: bool = False) -> tuple[str, bool]:
        """Add the bytes of a token. Return the text that is now final, and whether it ends at a stop string.

        The stop string is left out, except what was released while it was not among `stops`. An incomplete UTF-8
        character and the possible beginning of a stop string are held back; `last` releases them, the incomplete
        character as U+FFFD.
        """
        text = self._released + self._held + self._decoder.decode(token, last)
        ready, self._held, stopped = split_at_stop(text, stops, len(self._released))
        if last and not stopped:
            ready, self._held = ready + self._held, ""
        self._released = (self._released + ready)[-TAIL:]
        return ready, stopped


def split_at_stop(text: str, stops: Iterable[str], begin: int = 0) -> tuple[str, str, bool]:
    """Return the final text, the text that may begin a stop string, and whether the final text ends at a stop string.

    Both texts are from `begin` on. A stop string can begin before it, and ends after it. The one that is complete first
    counts, as if the text came character by character. Empty ones do not count.
    """
    stops = [stop for stop in stops if stop]
    if not stops:
        return text[begin:], "", False
    found = [
        (start + len(stop), start) for stop in stops if (start := text.find(stop, max(0, begin + 1 - len(stop)))) >= 0
    ]
    if found:
        return text[begin : min(found)[1]], "", True
    for length in range(min(len(text), max(map(len, stops)) - 1), 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            held = max(begin, len(text) - length)
            return text[begin:held], text[held:], False
    return text[begin:], "", False
