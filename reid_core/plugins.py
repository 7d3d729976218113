"""The folder is the registry: a module's name is the name users type; private modules start with ``_``."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType

from reid_core.errors import UsageError


def names(package: str) -> list[str]:
    """Public module names of ``package`` (dotted), sorted. Nothing but the package itself is imported."""
    path = importlib.import_module(package).__path__
    return sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_"))


def closest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean "x"?`` for the nearest known name, or an empty string."""
    match = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(m) for m in match)}?" if match else ""


def load(package: str, name: str) -> ModuleType:
    """Import the module called ``name`` from ``package``; a dotted ``name`` is imported as it stands.

    Raises:
        UsageError: there is no such module; the message lists the known names and the closest.
    """
    if "." in name:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise UsageError(f"no module {name!r} can be imported ({error}); is its folder on PYTHONPATH?") from error
    known = names(package)
    if name not in known:
        kind = package.rsplit(".", 1)[-1]
        raise UsageError(f"unknown name {name!r} in {kind}: known are {', '.join(known)}.{closest(name, known)}")
    return importlib.import_module(f"{package}.{name}")
