"""What tests do with generators of events."""

from collections.abc import Generator
from typing import Any


def outcome(work: Generator[Any, None, Any]) -> list[Any]:
    """Return a generator's events and, last, its return value."""
    events: list[Any] = []
    while True:
        try:
            events.append(next(work))
        except StopIteration as end:
            return [*events, end.value]
