"""The settings of the allocator, by the calls of glibc."""

from types import SimpleNamespace
from typing import Any

import pytest

from nanogpt import heap


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls of glibc's functions from now on."""
    found: list[Any] = []
    libc = SimpleNamespace(mallopt=lambda *setting: found.append(setting), malloc_trim=lambda _: found.append("trim"))
    monkeypatch.setattr(heap, "_glibc", lambda: libc)
    monkeypatch.setattr(heap, "_users", 0)
    return found


def test_memory_is_kept_until_the_last_that_asked_for_it_is_done(calls: list[Any]) -> None:
    """As a training, and a text that is written beside it."""
    with heap.retain_freed_memory():
        kept = list(calls)
        assert kept
        with heap.retain_freed_memory():
            assert calls == kept
        assert calls == kept
    assert calls[-1] == "trim"
    count = len(calls)
    with heap.retain_freed_memory():
        assert calls[count:] == kept
    assert calls.count("trim") == 2


def test_what_stays_is_mapped_apart_only_while_freed_memory_is_kept(calls: list[Any]) -> None:
    with heap.outside_heap():
        assert not calls
    with heap.retain_freed_memory():
        del calls[:]
        with heap.outside_heap():
            assert calls == [(heap.M_MMAP_MAX, heap.MMAP_DEFAULT)]
        assert calls[1:] == [(heap.M_MMAP_MAX, 0)]
