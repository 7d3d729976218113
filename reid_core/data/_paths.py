"""Paths in a user's file or folder: what may be opened, and what is an image by its name."""

from __future__ import annotations

import os
import re
from pathlib import Path

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
FOREIGN_ENDINGS = (".bmp", ".gif", ".tif", ".tiff", ".webp", ".heic", ".avif", ".jp2", ".fits", ".ppm")

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


def leads_outside(root: Path, path: str) -> bool:
    """Whether ``root/path`` is, with every link followed, outside ``root``."""
    real_root = os.path.realpath(root)
    return not os.path.realpath(root / path).startswith(os.path.join(real_root, ""))


def is_image_name(name: str) -> bool:
    """A visible file with one of ``IMAGE_ENDINGS``, in any case."""
    return name.lower().endswith(IMAGE_ENDINGS) and not name.startswith(".")
