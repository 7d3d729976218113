"""A folder that comes into being whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path


def contents(root: Path, folders: Sequence[str]) -> dict[str, dict[str, int]]:
    """Number of files and bytes together of each folder: enough to notice that some are missing or empty."""
    found = {}
    for name in folders:
        folder = root / name
        sizes = [entry.stat().st_size for entry in os.scandir(folder)] if folder.is_dir() else []
        found[name] = {"images": len(sizes), "bytes": sum(sizes)}
    return found


@contextlib.contextmanager
def whole_or_nothing(out: Path) -> Iterator[Path]:
    """A new folder beside ``out`` to be filled and handed to ``installed``; whatever is left of it at the end is removed.

    Folders left behind by processes of this host that were killed are removed first.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{out.name}.partial-{socket.gethostname()}-"
    for old in out.parent.iterdir():
        if old.name.startswith(prefix) and old.is_dir() and not _alive(old.name[len(prefix) :]):
            shutil.rmtree(old, ignore_errors=True)
    folder = out.parent / f"{prefix}{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def installed(folder: Path, out: Path) -> bool:
    """Give ``folder`` the name ``out``; False where something lies there already, which is left as it is."""
    try:
        os.rename(folder, out)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    return True


def _alive(pid: str) -> bool:
    if os.name != "posix" or not pid.isdigit():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
