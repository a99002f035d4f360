"""Token bytes → text as it streams: characters that span tokens, strings that end a sample. Knows nothing of models."""

from codecs import getincrementaldecoder
from collections.abc import Iterable


class TextStream:
    """The text of one sample, released as soon as nothing that may still come can change it."""

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def feed(self, token: bytes, stops: Iterable[str] = (), last: bool = False) -> tuple[str, bool]:
        """The text that became certain with these bytes, and whether a stop string was written (it is left out).

        Held back are an unfinished UTF-8 character and the possible beginning of a stop string; `last` releases them,
        the unfinished character as U+FFFD.
        """
        text = self._held + self._decoder.decode(token, last)
        ready, self._held, stopped = split_at_stop(text, stops)
        if last and not stopped:
            ready, self._held = ready + self._held, ""
        return ready, stopped


def split_at_stop(text: str, stops: Iterable[str]) -> tuple[str, str, bool]:
    """(what can be shown, what has to wait, whether a stop string is there). An empty stop string never is.

    Of several stop strings the one that is complete first counts, as if the text came character by character.
    """
    stops = [stop for stop in stops if stop]
    if not stops:
        return text, "", False
    found = [(start + len(stop), start) for stop in stops if (start := text.find(stop)) >= 0]
    if found:
        return text[: min(found)[1]], "", True
    for length in range(min(len(text), max(map(len, stops)) - 1), 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return text[:-length], text[-length:], False
    return text, "", False
