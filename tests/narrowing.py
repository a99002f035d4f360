"""Narrowing of a type, for a value that a test knows more of than its declaration says."""

from typing import TypeVar

T = TypeVar("T")


def expect(kind: type[T], value: object) -> T:
    """Return `value`, which must be an instance of `kind`: of several events or components one, or not None."""
    assert isinstance(value, kind), f"{value!r} is no {kind.__name__}"
    return value
