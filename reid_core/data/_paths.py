"""Paths in a user's file or folder: what may be opened, and what is an image by its name."""

from __future__ import annotations

import os
import re
from pathlib import Path

_DRIVE = re.compile(r"[A-Za-z]:")


def unsafe(path: str) -> str:
    """Why ``path`` must not be joined to a folder, or "".

    The rule is the same on every system, so that a file is safe everywhere or nowhere: relative, forward slashes, no
    ``..``, no drive letter, no stream name, no NUL. Nothing is decoded: ``%2e%2e`` is a name like any other.
    """
    parts = path.split("/")
    if "\0" in path:
        return "it holds a NUL character"
    if path.startswith(("/", "\\")) or _DRIVE.match(path):
        return "it is absolute"
    if "\\" in path:
        return "it holds a backslash; use / between folders"
    if ".." in parts:
        return "it holds .."
    if "" in parts or "." in parts:
        return "it holds an empty part or a ."
    if "::" in path:
        return "it names a stream (::)"
    return ""


class Boundary:
    """Tells which paths lead out of a folder when every link is followed; each folder on the way is asked once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._inside = os.path.join(os.path.realpath(root), "")
        self._folders: dict[str, str] = {}

    def crossed_by(self, path: str) -> bool:
        """Whether ``path``, relative to the folder and not ``unsafe``, is really outside."""
        folder, _, name = path.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(self._root / folder)
        file = os.path.join(self._folders[folder], name)
        return not (os.path.realpath(file) if os.path.islink(file) else file).startswith(self._inside)
