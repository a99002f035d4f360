"""Names that a package offers from its modules, each loaded on its first use (PEP 562). Knows none of them.

Importing torch takes seconds, and numpy a tenth of one: who only lists runs shall wait for neither.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def exports(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package. `homes` says for each name which of the package's modules it comes from."""

    def __getattr__(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return __getattr__
