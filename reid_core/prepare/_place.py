"""One image into its place; killed between any two instructions, it is not half-written and not lost.

A copy is written beside its place and renamed into it. A move gives the image its new place first, as a second name
or, on another disk, as a copy, and takes the old one away once the new one surely holds the same.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from reid_core.errors import DataError
from reid_core.files import sync_folder
from reid_core.prepare._source import CHUNK, pieces_of

MODES = ("copy", "hardlink", "symlink", "move")
_PART = ".reid_core."
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)
"""Another disk, or one without hard links."""


def place(source: Path, target: Path, mode: str) -> str:
    """Make ``target`` out of ``source`` by one of ``MODES``.

    Returns:
        sha256 of the bytes if they went by (``copy``), else "".

    Raises:
        DataError: what is to be moved is gone, or something else is where it should go.
        OSError: as it came. ``target`` is then missing or whole.
    """
    return _PLACE[mode](source, target)


def put(pieces: Iterator[bytes], target: Path, durable: bool = False) -> str:
    """Write bytes to ``target``, which is then whole or absent; returns their sha256."""
    part = target.with_name(f"{_PART}{os.getpid()}.part")
    try:
        return _write(pieces, part, target, durable)
    finally:
        part.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove half copies that a kill left behind; the lock says that nobody is writing them now."""
    for leftover in folder.glob(f"{_PART}*.part"):
        leftover.unlink()


def second_name(first: Path, target: Path) -> None:
    """Make ``target`` the same file as ``first``, or a copy where that cannot be; whatever else is there is replaced."""
    if same_bytes(first, target):
        return
    try:
        os.link(first, target)
    except OSError:  # another file is there, or there are no hard links
        _copy(first, target)


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two files hold the same; False where either is missing."""
    try:
        if os.path.samefile(one, other):
            return True
        if one.stat().st_size != other.stat().st_size:
            return False
        with open(one, "rb") as a, open(other, "rb") as b:
            while chunk := a.read(CHUNK):
                if chunk != b.read(CHUNK):
                    return False
            return True
    except FileNotFoundError:
        return False


def digest_of(pieces: Iterator[bytes]) -> str:
    """sha256 of bytes."""
    value = hashlib.sha256()
    for piece in pieces:
        value.update(piece)
    return value.hexdigest()


def _move(source: Path, target: Path) -> str:
    """At every moment there is ``source`` or ``target``; a ``target`` that is there is never overwritten."""
    if not os.path.lexists(source):
        if os.path.lexists(target):  # moved before
            return ""
        raise DataError(
            f"{source} is gone, and it is not at {target} either; put it back and run the same command again."
        )
    if not os.path.lexists(target):
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _copy(source, target, durable=True)
    if not same_bytes(source, target):
        raise DataError(
            f"{target} is there already and differs from {source}; both were kept. Remove the wrong one and repeat the "
            "command."
        )
    if not os.path.samefile(source, target):
        with open(target, "rb") as file:  # it may be somebody's own copy, which nobody has flushed
            os.fsync(file.fileno())
        sync_folder(target.parent)
    os.unlink(source)
    return ""


def _copy(source: Path, target: Path, durable: bool = False) -> str:
    value = put(pieces_of(source), target, durable)
    with suppress(OSError):  # dates and rights come along where the file system takes them
        shutil.copystat(source, target)
    return value


def _hardlink(source: Path, target: Path) -> str:
    os.link(os.path.realpath(source), target)
    return ""


def _symlink(source: Path, target: Path) -> str:
    os.symlink(os.path.realpath(source), target)
    return ""


def _write(pieces: Iterator[bytes], part: Path, target: Path, durable: bool = False) -> str:
    value = hashlib.sha256()
    with open(part, "wb") as file:
        for piece in pieces:
            value.update(piece)
            file.write(piece)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(part, target)
    return value.hexdigest()


_PLACE: dict[str, Callable[[Path, Path], str]] = {
    "copy": _copy,
    "hardlink": _hardlink,
    "symlink": _symlink,
    "move": _move,
}
