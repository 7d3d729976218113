"""Links among the images of a folder: which lead out of it, and which cannot be moved.

A link that stays in the folder is a second name and as good as the file. One that leads out may fetch anything that
the user can read, ``/etc/passwd`` under the name of an image, into a data set that is then handed on; and whoever made
the folder, as from an archive, is not always the user.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from reid_core.data._paths import Boundary, unsafe
from reid_core.errors import DataError


def refuse_leading_out(folder: Path, paths: Iterable[str]) -> None:
    """Refuse images that are really outside of ``folder``, itself followed to where it is.

    Args:
        folder: what the user named.
        paths: relative to it, forward slashes.

    Raises:
        DataError: naming the links, be they files or folders, and where they lead.
    """
    boundary = Boundary(folder)
    outside = [path for path in paths if boundary.crossed_by(path)]
    links = sorted({next((p for p in _on_the_way(path) if boundary.crossed_by(p)), path) for path in outside})
    if links:
        named = "; ".join(f"{folder / link} -> {os.path.realpath(folder / link)}" for link in links[:5])
        more = f" and {len(links) - 5} more" if len(links) > 5 else ""
        raise DataError(
            f"{len(outside)} images of {folder} are really outside of it, by links that lead out: {named}{more}. "
            "Nothing was changed. Remove the links; or, if you trust them, name as SRC the folder that they lead to or one "
            "that holds both, or put the images in their place (cp -RL makes such a copy of a folder)."
        )


def linked(folder: Path, paths: Iterable[str]) -> list[str]:
    """Those of ``paths`` that are links, lie behind one or climb out of ``folder``: moving them would break something."""
    real = os.path.realpath(folder)
    behind: dict[str, bool] = {}
    found = []
    for path in paths:
        above = os.path.dirname(path)
        if above not in behind:
            plain = os.path.normpath(os.path.join(real, above))
            behind[above] = os.path.realpath(plain) != plain
        if unsafe(path) or behind[above] or os.path.islink(os.path.join(real, path)):
            found.append(path)
    return found


def _on_the_way(path: str) -> Iterable[str]:
    """``a``, ``a/b``, ``a/b/c``."""
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts) + 1))
