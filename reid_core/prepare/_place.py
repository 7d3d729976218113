"""Files are put in place one by one; killed between any two instructions, nothing is half-written or lost.

Copies are written beside their place and renamed into it. A move first gives the file its new place and only then
takes away the old one; where the same image has two places (train_all and train), the second is a hard link to the
first, or a copy where the file system has none.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from reid_core.errors import DataError
from reid_core.files import sync_folder
from reid_core.prepare._journal import PART
from reid_core.prepare._plan import Item
from reid_core.prepare._source import CHUNK, Source

MODES = ("copy", "hardlink", "symlink", "move")
_LEFT_TO_CALLER = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
"""Full disks and missing permissions keep their own errors: the command line turns them into exit code 4."""


def place_all(
    items: Sequence[Item], source: Source, out: Path, mode: str, progress: Callable[[int, int], None] | None
) -> dict[str, str]:
    """Put every item in place and return sha256 by target. What is in place already stays.

    Raises:
        DataError: a file cannot be read, linked or placed.
        OSError: no space or no permission.
    """
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.source, []).append(item)
    digests: dict[str, str] = {}
    for folder in sorted({item.target.rsplit("/", 1)[0] for item in items}):
        (out / folder).mkdir(parents=True, exist_ok=True)
    try:
        for name, group in groups.items():
            targets = [out / item.target for item in group]
            try:
                value = _PLACE[mode](source, name, targets, out / PART)
            except OSError as error:
                if error.errno in _LEFT_TO_CALLER:
                    raise
                raise DataError(
                    f"{name} of {source.where} cannot be put to {targets[0]} by --mode {mode}: "
                    f"{error.strerror or error}. What was placed before it is whole; mend this and run the same "
                    "command again."
                ) from error
            for item in group:
                digests[item.target] = value
            if progress is not None:
                progress(len(digests), len(items))
    finally:
        (out / PART).unlink(missing_ok=True)
    return digests


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return _hash(iter(lambda: file.read(CHUNK), b""))


def _hash(pieces: Iterator[bytes]) -> str:
    value = hashlib.sha256()
    for piece in pieces:
        value.update(piece)
    return value.hexdigest()


def _write(pieces: Iterator[bytes], part: Path, target: Path, durable: bool = False) -> str:
    """Write ``pieces`` to ``target`` by way of ``part``; returns sha256."""
    value = hashlib.sha256()
    with open(part, "wb") as file:
        for piece in pieces:
            value.update(piece)
            file.write(piece)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(part, target)
    if durable:
        sync_folder(target.parent)
    return value.hexdigest()


def _copy(source: Source, name: str, targets: list[Path], part: Path) -> str:
    value = ""
    for target in targets:
        if os.path.lexists(target):
            value = value or _hash(source.stream(name))
            if target.is_file() and not target.is_symlink() and hash_file(target) == value:
                continue
        value = _write(source.stream(name), part, target)
    return value


def _real(source: Source, name: str) -> Path:
    path = source.on_disk(name)
    if path is None:
        raise DataError(f"{name} of {source.where} is not a file that can be linked or moved; use --mode copy.")
    return Path(os.path.realpath(path))


def _hardlink(source: Source, name: str, targets: list[Path], part: Path) -> str:
    path = _real(source, name)
    for target in targets:
        if not os.path.lexists(target):
            os.link(path, target)
        elif not os.path.samefile(path, target):
            os.link(path, part)
            os.replace(part, target)
    return hash_file(path)


def _symlink(source: Source, name: str, targets: list[Path], part: Path) -> str:
    path = _real(source, name)
    for target in targets:
        if not os.path.lexists(target):
            os.symlink(path, target)
        elif not target.is_symlink() or os.readlink(target) != str(path):
            os.symlink(path, part)
            os.replace(part, target)
    return hash_file(path)


def _move(source: Source, name: str, targets: list[Path], part: Path) -> str:
    origin = source.on_disk(name)
    if origin is None:
        raise DataError(f"{name} of {source.where} is not a file that can be moved; use --mode copy.")
    first, others = targets[0], targets[1:]
    left = os.path.lexists(origin)
    if left and os.path.lexists(first):
        if hash_file(origin) != hash_file(first):
            raise DataError(f"{origin} and {first} differ although one is the other moved; neither was touched.")
    elif left:
        try:
            os.rename(origin, first)
            left = False
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _write(source.stream(name), part, first, durable=True)
    elif not os.path.lexists(first):
        raise DataError(f"{origin} is gone, and it is not at {first} either; put it back, or name another OUT.")
    value = hash_file(first)
    for target in others:
        if os.path.lexists(target):
            if os.path.samefile(first, target) or hash_file(target) == value:
                continue
            target.unlink()
        try:
            os.link(first, target)
        except OSError:
            with open(first, "rb") as file:
                _write(iter(lambda: file.read(CHUNK), b""), part, target)
    if left:
        os.unlink(origin)
    return value


_PLACE: dict[str, Callable[[Source, str, list[Path], Path], str]] = {
    "copy": _copy,
    "hardlink": _hardlink,
    "symlink": _symlink,
    "move": _move,
}
