"""Where images come from: a released folder, its .zip, or something that makes them."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from reid_core.data._files import Files, Folder, join, some
from reid_core.data._layout import Layout, looks_prepared, released_folders, wrong_folder
from reid_core.errors import DataError
from reid_core.prepare._archive import Archive
from reid_core.prepare._links import refuse_leading_out

CHUNK = 1 << 20


class Source(Files, Protocol):
    """``Files`` whose bytes can be had."""

    def size(self, path: str) -> int:
        """Bytes of a file; -1 where that is not known before it is made."""

    def tag(self, path: str) -> str:
        """Something cheap that changes with the contents, or ""."""

    def stream(self, path: str) -> Iterator[bytes]:
        """The contents in pieces."""

    def on_disk(self, path: str) -> Path | None:
        """The file itself, where it is one that can be linked or moved."""

    def below(self, folder: str) -> Source:
        """The same with ``folder`` as its top."""

    def verify(self, paths: list[str]) -> None:
        """Find damage before anything is written, where the source can tell."""


def pieces_of(path: Path) -> Iterator[bytes]:
    """The contents of a file in pieces."""
    with open(path, "rb") as file:
        while piece := file.read(CHUNK):
            yield piece


@dataclass(frozen=True)
class FolderSource(Folder):
    """A folder of the user's; ``named`` is the one that they named, where that is further up."""

    named: Path | None = None

    def size(self, path: str) -> int:
        """Bytes of a file.

        Raises:
            DataError: a link to nothing, or a pipe or device, at which reading could wait for ever.
        """
        try:
            found = (self.root / path).stat()
        except FileNotFoundError as error:
            raise DataError(f"{self.root / path} is a link to nothing; mend or remove it.") from error
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{self.root / path} is no regular file but a pipe, socket or device; remove it.")
        return found.st_size

    def tag(self, path: str) -> str:
        return ""

    def stream(self, path: str) -> Iterator[bytes]:
        return pieces_of(self.root / path)

    def on_disk(self, path: str) -> Path | None:
        return self.root / path

    def below(self, folder: str) -> FolderSource:
        return FolderSource(self.root / folder, self.named or self.root)

    def verify(self, paths: list[str]) -> None:
        """A folder's files carry no checksum, but links among them may lead anywhere.

        Raises:
            DataError: one leads out of the folder that the user named.
        """
        named = self.named or self.root
        below = self.root.relative_to(named).as_posix()
        refuse_leading_out(named, paths if below == "." else [join(below, path) for path in paths])


def open_source(src: Path) -> Source:
    """``src`` as a source.

    Raises:
        DataError: there is nothing there, or it is an archive of another kind.
    """
    if src.is_dir():
        return FolderSource(src)
    if not src.exists():
        raise DataError(f"there is nothing at {src}; expected the released folder or its .zip.")
    if src.suffix.lower() in (".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"):
        raise DataError(f"{src} is an archive that is not read in place: only .zip is. Unpack it and name the folder.")
    return Archive.open(src)


def locate(layout: Layout, source: Source, variant: str = "") -> tuple[Source, str]:
    """The part of ``source`` that holds the released folders, and its path: the top, or one or two folders down.

    Args:
        layout: the data set.
        source: where to look.
        variant: where several parts fit, the name of the one that is meant (``detected`` of CUHK03-NP).

    Raises:
        DataError: none fits, or several.
    """
    level = [""]
    for _ in range(3):
        fitting = [p for p in level if released_folders(layout, source.below(p) if p else source) is not None]
        chosen = [p for p in fitting if variant and p.rsplit("/", 1)[-1].lower() == variant] or fitting
        if len(chosen) == 1:
            return (source.below(chosen[0]) if chosen[0] else source), chosen[0]
        if chosen:
            raise DataError(
                f"{source.where} holds several folders that could be {layout.title}: {some(chosen)}. "
                "Name the one that is meant."
            )
        level = [join(p, name) for p in level for name in _folders(source, p)]
    hint = " It seems to be prepared already." if looks_prepared(source) else ""
    raise DataError(wrong_folder(layout, source) + hint)


def _folders(source: Source, path: str) -> list[str]:
    folders, _ = source.entries(path) or ([], [])
    return sorted(name for name in folders if not name.startswith((".", "__")))
