"""The search for components: modules of a package, and entry points of installed packages.

Listing components imports none of them. An installed package cannot replace a component of this one.
"""

import pkgutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from nanogpt.errors import UserError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints, SelectableGroups


@dataclass(frozen=True, slots=True)
class Registry:
    """Components of one kind: each is the class `attribute` of a module of `package`, or an entry point of `group`.

    `shared` are modules of the package that are not components; nor are those whose names begin with an underscore.
    """

    kind: str
    package: str
    group: str
    attribute: str
    shared: frozenset[str] = frozenset()

    def names(self) -> tuple[str, ...]:
        """Return the names of all components, sorted."""
        return tuple(_found(self))

    def load(self, name: str, base: type) -> Any:
        """Return the class of a component whose name is among `names`.

        Raise `UserError` if the component of an installed package cannot be loaded, or is not a subclass of `base` with
        this name.
        """
        found = _found(self)[name]
        if isinstance(found, str):
            return getattr(import_module(found), self.attribute)
        try:
            loaded = found.load()
        except Exception as error:  # code of another author
            raise UserError(f"the {self.kind} {name} of an installed package cannot be loaded: {error}") from error
        if not (isinstance(loaded, type) and issubclass(loaded, base) and getattr(loaded, "name", None) == name):
            raise UserError(
                f"the {self.kind} {name} of an installed package is not a {base.__name__} named {name!r}: "
                f"its entry point is {found.value}"
            )
        return loaded

    def load_all(self, base: type) -> dict[str, Any]:
        """Return the classes of all components by name, without those for which `load` raises `UserError`."""
        loaded = {}
        for name in self.names():
            with suppress(UserError):
                loaded[name] = self.load(name, base)
        return loaded


@cache
def _found(registry: Registry) -> "Mapping[str, EntryPoint | str]":
    """Return the components of a kind by name: a module's name, or an entry point."""
    spec = find_spec(registry.package)
    own: dict[str, EntryPoint | str] = {
        module.name: f"{registry.package}.{module.name}"
        for module in pkgutil.iter_modules(spec.submodule_search_locations if spec else ())
        if module.name not in registry.shared and not module.name.startswith("_")
    }
    installed = {point.name: point for point in _entry_points().select(group=registry.group)}
    return dict(sorted((installed | own).items()))


@cache
def _entry_points() -> "EntryPoints | SelectableGroups":
    """Return the entry points of all installed packages: one search serves all kinds of components."""
    from importlib.metadata import entry_points  # 10 to 20 ms, which a list of runs does without

    return entry_points()
