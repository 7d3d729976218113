"""A folder or an archive seen read-only: which folders, which files, which of them are images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from reid_core.errors import DataError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png"})
"""What counts as an image, in lower case."""

FOREIGN = frozenset({".bmp", ".gif", ".tif", ".tiff", ".webp", ".jp2", ".heic", ".avif", ".fits", ".ppm"})
"""Images of kinds that are not read: leaving them out without a word would lose data."""


class Files(Protocol):
    """A folder or an archive, seen read-only; paths are relative with forward slashes, "" is the top."""

    @property
    def where(self) -> str:
        """Its name in messages."""

    def entries(self, folder: str) -> tuple[list[str], list[str]] | None:
        """Names of the folders and of the files in ``folder``, or None where there is no such folder."""

    def read_text(self, path: str) -> str:
        """A small text file (UTF-8)."""


@dataclass(frozen=True)
class Folder:
    """``Files`` of a folder on disk."""

    root: Path

    @property
    def where(self) -> str:
        return str(self.root)

    def entries(self, folder: str) -> tuple[list[str], list[str]] | None:
        try:
            with os.scandir(self.root / folder) as listing:
                found = [(entry.name, entry.is_dir()) for entry in listing]
        except (FileNotFoundError, NotADirectoryError):
            return None
        return [name for name, is_dir in found if is_dir], [name for name, is_dir in found if not is_dir]

    def read_text(self, path: str) -> str:
        return (self.root / path).read_text(encoding="utf-8-sig")


def is_image(name: str) -> bool:
    """Whether a file name has an image's extension and is not hidden (``._x.jpg`` is a macOS leftover)."""
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in EXTENSIONS


def join(*parts: str) -> str:
    """Relative path with forward slashes; empty parts fall away."""
    return "/".join(part for part in parts if part)


def some(names: Sequence[str], limit: int = 5) -> str:
    """The first few names, quoted, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def images_below(files: Files, folder: str) -> list[str]:
    """Paths of all images in ``folder`` and in its identity folders, sorted.

    Raises:
        DataError: there is no such folder, it holds no image, an identity folder holds none or has folders
            itself, or there are images of a kind that is not read.
    """
    top = files.entries(folder)
    if top is None:
        raise DataError(f"{files.where} has no folder {folder!r}.")
    paths, empty, foreign = [], [], []
    for inner in ["", *sorted(name for name in top[0] if not name.startswith("."))]:
        listing = top if not inner else files.entries(join(folder, inner))
        folders, names = listing if listing is not None else ([], [])
        deeper = sorted(name for name in folders if not name.startswith("."))
        if inner and deeper:
            raise DataError(
                f"{join(folder, inner)} in {files.where} holds folders itself ({some(deeper)}): "
                "images lie directly in their identity's folder. Move them up, or name another folder."
            )
        images = [name for name in names if is_image(name)]
        foreign += [join(folder, inner, n) for n in names if PurePosixPath(n).suffix.lower() in FOREIGN and n[0] != "."]
        paths += [join(folder, inner, name) for name in images]
        if inner and not images:
            empty.append(join(folder, inner))
    if foreign:
        raise DataError(
            f"{len(foreign)} images in {files.where} are neither JPEG nor PNG: {some(sorted(foreign))}. "
            "Convert them, or move them out of the way."
        )
    if empty:
        raise DataError(
            f"{len(empty)} identity folders in {files.where} hold no image: {some(empty)}. "
            "Remove them, or put their images back."
        )
    if not paths:
        raise DataError(f"{join(folder)!r} in {files.where} holds no image ({', '.join(sorted(EXTENSIONS))}).")
    return sorted(paths)
