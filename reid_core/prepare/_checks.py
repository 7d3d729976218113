"""What ``prepare`` and ``split reid`` refuse before anything is touched.

They differ where their places do: OUT of ``prepare`` may lie in SRC beside the folders that are read, as everybody has
it, while a split takes any folder for images and must be apart.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from reid_core.errors import CheckpointError, DataError, UsageError
from reid_core.prepare._links import linked, refuse_leading_out
from reid_core.prepare._plan import Item
from reid_core.prepare._source import FolderSource, Source


def check_layout(items: Sequence[Item], source: Source, out: Path, mode: str) -> None:
    """Refuse what ``prepare`` cannot do.

    Raises:
        UsageError: a mode that the source cannot give, or an ``out`` in a folder that is read.
        CheckpointError: not enough space.
        DataError: an archive is damaged, or a link leads out of the source.
    """
    names = sorted({item.source for item in items})
    on_disk = [path for name in names if (path := source.on_disk(name)) is not None]
    folder = source.root if isinstance(source, FolderSource) else None
    if mode != "copy" and (folder is None or len(on_disk) < len(names)):
        raise UsageError(
            f"--mode {mode} needs images that are files on disk, and {source.where} is none of those: use --mode copy."
        )
    if folder is not None:
        _check_hardlink(folder, out, mode)
        if mode == "move" and (links := linked(folder, names)):
            raise UsageError(
                f"--mode move: {len(links)} images are links or lie behind one ({folder / links[0]}); "
                "use --mode copy or symlink."
            )
    place = Path(os.path.realpath(out))
    inside = {Path(os.path.realpath(folder)) for folder in {path.parent for path in on_disk}} & {place, *place.parents}
    if inside:
        raise UsageError(f"{out} lies in {inside.pop()}, whose images are read; name an OUT outside it.")
    need = sum(item.size for item in items if item.size > 0 and not (out / item.target).exists())
    free = shutil.disk_usage(_nearest(out)).free
    if _takes_room(folder, out, mode) and need > free:
        raise CheckpointError(
            f"{out} needs {need:,} bytes and its file system has {free:,} free: nothing was written. Free some "
            "space, choose another OUT, or use --mode hardlink or symlink with an unpacked folder."
        )
    source.verify(names)


def check_split(items: Sequence[Item], root: Path, out: Path, mode: str, allow_outside: bool = False) -> None:
    """Refuse what ``split reid`` cannot do.

    Raises:
        UsageError: ``out`` lies in ``root`` or around it, or on another disk where hard links are wanted.
        DataError: an image has gone, is a link that cannot be moved, or one that leads out of ``root``.
        OSError: ENOSPC where the room does not suffice.
    """
    real_root, real_out = os.path.realpath(root), os.path.realpath(out)
    if os.path.commonpath([real_root, real_out]) in (real_root, real_out):
        raise UsageError(f"{out} and {root} lie in one another; choose a folder beside the source.")
    names = [item.source for item in items]
    size = 0
    for name in names:
        path = root / name
        try:
            size += path.stat().st_size
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); nothing was changed.") from error
    if mode == "move" and (links := linked(root, names)):
        raise DataError(
            f"{root / links[0]} is a link or lies behind one, and moving would break it; use --mode copy. So it is with "
            f"{len(links)} of {len(items)} images; nothing was changed."
        )
    if not allow_outside:
        refuse_leading_out(root, names)
    _check_hardlink(root, out, mode)
    free = shutil.disk_usage(_nearest(out)).free
    needed = size + size // 50 + 2**20  # the folders and the manifest take room too
    if _takes_room(root, out, mode) and free < needed:
        raise OSError(errno.ENOSPC, f"{needed} bytes are needed and {free} are free", str(_nearest(out)))


def _check_hardlink(source: Path, out: Path, mode: str) -> None:
    if mode == "hardlink" and _crosses(source, out):
        raise UsageError(
            f"--mode hardlink cannot reach from {source} to {out}: they are on different file systems. "
            "Use --mode copy or symlink."
        )


def _takes_room(source: Path | None, out: Path, mode: str) -> bool:
    return mode == "copy" or (mode == "move" and source is not None and _crosses(source, out))


def _crosses(source: Path, out: Path) -> bool:
    return source.stat().st_dev != _nearest(out).stat().st_dev


def _nearest(path: Path) -> Path:
    """The folder that is there, on whose disk ``path`` will be."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
