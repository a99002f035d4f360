"""Dashboards: other programs that draw the curves of a training while it runs. Each is a module with a `Dashboard`.

Listing them imports none of their packages.
"""

from importlib.util import find_spec

from nanogpt.errors import SettingError, nearest
from nanogpt.extras import MissingPackage
from nanogpt.interop.dashboards.base import Dashboard
from nanogpt.registry import Registry

DASHBOARDS = Registry("dashboard", "nanogpt.interop.dashboards", "nanogpt.dashboards", "Dashboard", frozenset({"base"}))


def find_dashboard(name: str) -> type[Dashboard]:
    """Return the class of a dashboard, whose package is installed.

    Raise `SettingError` for an unknown name, and `MissingPackage` if its package is not installed.
    """
    known = DASHBOARDS.names()
    if name not in known:
        raise SettingError(
            "dashboards", f"dashboards={name[:80]!r}: there are {', '.join(known)}.{nearest(name, known)}"
        )
    kind: type[Dashboard] = DASHBOARDS.load(name, Dashboard)
    if find_spec(kind.package) is None:
        raise MissingPackage(f"the dashboard {name}", f"needs {kind.package}: {kind.advice()}")
    return kind
