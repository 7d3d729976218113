"""OUT while a command fills it: a lock against a second one, and notes that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reid_core.errors import UsageError
from reid_core.files import sync_folder

try:
    import fcntl
except ImportError:  # Windows: two commands at once are then the user's own care
    fcntl = None  # type: ignore[assignment]

PART = ".prepare.part"
"""A note that was being written when the process died; the next note is written over it."""


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Make ``out`` and keep other commands away; the lock ends with the process, however it ends.

    Folders made for a command that failed before it wrote anything go again.

    Raises:
        UsageError: another process is at work there.
    """
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)
    handle = os.open(out, os.O_RDONLY) if fcntl is not None else None
    try:
        try:
            if handle is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another command is at work in {out}; wait for it to end.") from error
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        try:
            for folder in made:
                folder.rmdir()
        except OSError:  # there is something in it
            pass
        if handle is not None:
            os.close(handle)


def write_note(out: Path, name: str, text: bytes) -> None:
    """Put ``name`` into ``out`` whole or not at all, durably.

    Raises:
        OSError: as it came, so that the command line can say how to go on; nothing half-written is left.
    """
    part = out / PART
    try:
        with open(part, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, out / name)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(out)
