"""transformers, imported at its first use: every worker collects all tests, and few of them run those that need it.

Importing it takes five seconds, with the parts of torch that it loads.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import transformers as transformers
else:

    class Lazy:
        """A module that is imported when one of its names is asked for."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, name: str) -> Any:
            return getattr(import_module(self._name), name)

    transformers = Lazy("transformers")
