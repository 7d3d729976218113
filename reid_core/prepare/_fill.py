"""Fill OUT with images, one by one; what is in place already stays, so a killed call is simply made again.

Both ``prepare`` and ``split reid`` do it this way. What each of them notes down beside the images differs, because they
can be sure of different things: ``prepare`` plans anew from SRC and needs no list to go on (``_journal``), while a split
must be able to go back as well and therefore keeps every image's old place (``_transfer``).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from reid_core.errors import DataError
from reid_core.prepare._place import digest_of, place, put, second_name, sweep
from reid_core.prepare._plan import Item
from reid_core.prepare._source import Source, pieces_of

Progress = Callable[[int, int], None]

_LEFT_TO_CALLER = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
"""Full disks and missing permissions keep their own errors: the command line turns them into exit code 4."""


def fill(
    out: Path,
    items: Sequence[Item],
    source: Source,
    mode: str,
    progress: Progress | None = None,
    hashed: bool = True,
) -> dict[str, str]:
    """Put every item in place.

    A copy or link that is there but is not what it should be is made anew; another file in the way of a move is an
    error. The second place of a moved image is a hard link to the first, or a copy where there are none.

    Args:
        out: the folder to fill, which the caller has locked.
        items: what goes where. A source may stand in several.
        source: where the images are; only ``copy`` can take them from something else than a folder.
        mode: one of ``MODES``.
        progress: called with (done, total).
        hashed: whether to read images that nothing else reads, for their digests.

    Returns:
        sha256 of the bytes by source; without ``hashed``, "" where they did not go by.

    Raises:
        DataError: a file cannot be read, linked or placed.
        OSError: no space or no permission.
    """
    places: dict[str, list[Path]] = {}
    for item in items:
        places.setdefault(item.source, []).append(out / item.target)
    for folder in sorted({target.parent for targets in places.values() for target in targets}):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
    digests: dict[str, str] = {}
    done = 0
    for name, targets in places.items():
        try:
            value = _put_everywhere(source, name, targets, mode)
            digests[name] = value or (digest_of(pieces_of(targets[0])) if hashed else "")
        except OSError as error:
            if error.errno in _LEFT_TO_CALLER:
                raise
            raise DataError(
                f"{name} of {source.where} cannot be put to {targets[0]} by --mode {mode}: {error.strerror or error}. "
                "What was placed before it is whole; mend this and run the same command again."
            ) from error
        done += len(targets)
        if progress is not None:
            progress(done, len(items))
    if hasattr(os, "sync"):  # the images reach the disk before any note says that they are there
        os.sync()
    return digests


def _put_everywhere(source: Source, name: str, targets: Sequence[Path], mode: str) -> str:
    """One image into all of its places; its sha256 if its bytes went by, else ""."""
    origin = source.on_disk(name)
    if origin is None and mode != "copy":
        raise DataError(f"{name} of {source.where} is not a file that can be linked or moved; use --mode copy.")
    if origin is not None and mode == "move":
        place(origin, targets[0], mode)
        for target in targets[1:]:
            second_name(targets[0], target)
        return ""
    value = ""
    for target in targets:
        if os.path.lexists(target):
            if mode == "copy":
                value = value or digest_of(source.stream(name))
            if _is_placed(origin, target, mode, value):
                continue
            target.unlink()
        value = (place(origin, target, mode) if origin is not None else put(source.stream(name), target)) or value
    return value


def _is_placed(origin: Path | None, target: Path, mode: str, value: str) -> bool:
    """Whether ``target`` is what ``mode`` makes of ``origin``, whose bytes have the digest ``value``."""
    if origin is None or mode == "copy":
        return target.is_file() and not target.is_symlink() and digest_of(pieces_of(target)) == value
    if mode == "symlink":
        return target.is_symlink() and os.readlink(target) == os.path.realpath(origin)
    return not target.is_symlink() and os.path.samefile(origin, target)
