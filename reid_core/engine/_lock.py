"""One run, one process: a lock file that tells a living owner from a dead one."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from pathlib import Path
from typing import Any, BinaryIO

from reid_core.errors import CheckpointError
from reid_core.files import json_bytes, sync_folder, write_beside

try:
    import fcntl
except ImportError:  # not a POSIX system: a dead owner's lock is then removed by hand
    fcntl = None  # type: ignore[assignment]


class Lock:
    """Holds ``path`` until ``release``; the file says who: process, host, boot, and when the process started.

    Two processes that find a dead owner's lock at once: both wait for the kernel's lock on that very file, the first
    renames its own lock over it, and the second then sees that the file it waited for is no longer the one in place.

    Raises:
        CheckpointError: a living process, or one on another machine, holds it; or the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mine = _myself()
        try:
            unfinished = write_beside(path, json_bytes(self._mine))
            try:
                if not any(self._create(unfinished) or self._take_over(unfinished) for _ in range(100)):
                    raise CheckpointError(f"{path} cannot be opened nor replaced: delete it and start again.")
                sync_folder(path.parent)
            finally:
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"{path} could not be made: {error.strerror or error}; check that you may write to the folder."
            ) from error

    def _create(self, unfinished: Path) -> bool:
        """The file appears with its content at once, and only if there was none."""
        try:
            os.link(unfinished, self.path)
            return True
        except FileExistsError:
            return False
        except OSError:  # no hard links here
            try:
                with open(self.path, "xb") as file:
                    file.write(json_bytes(self._mine))
                    file.flush()
                    os.fsync(file.fileno())
                return True
            except FileExistsError:
                return False

    def _take_over(self, unfinished: Path) -> bool:
        """Replace a dead owner's lock. False: the file changed under us, look again."""
        try:
            with open(self.path, "r+b") as file:
                if is_alive(_owner(file)):
                    raise CheckpointError(_refusal(self.path, _owner(file)))
                if fcntl is None:
                    raise CheckpointError(
                        f"{self.path} was left by a process that is no longer there: delete that file and start again."
                    )
                fcntl.flock(file, fcntl.LOCK_EX)  # let go when the file is closed, or by the kernel if we die
                if not _same_file(file, self.path):
                    return False
                os.replace(unfinished, self.path)
                return True
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Remove the file if it is still ours; a forked child does nothing."""
        if os.getpid() == self._mine["pid"] and read_owner(self.path) == self._mine:
            self.path.unlink(missing_ok=True)


def _same_file(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _owner(file: BinaryIO) -> dict[str, Any] | None:
    file.seek(0)
    try:
        owner = json.loads(file.read())
    except ValueError:
        return None
    return owner if isinstance(owner, dict) else None


def read_owner(path: Path) -> dict[str, Any] | None:
    """Who holds the lock: ``pid, host, boot_id, started, since, token``; None if nobody does or it cannot be read."""
    try:
        with open(path, "rb") as file:
            return _owner(file)
    except OSError:
        return None


def is_alive(owner: dict[str, Any] | None) -> bool:
    """False only where the owner is surely dead: this machine since booted anew, or no such process any more.

    An unreadable lock, another machine and another container (their processes cannot be seen) count as alive.
    """
    if owner is None or not isinstance(owner.get("pid"), int):
        return True
    me = _myself()
    if owner.get("machine") != me["machine"]:
        return True
    if owner.get("host") == me["host"] and owner.get("boot_id") != me["boot_id"]:
        return False
    if (owner.get("host"), owner.get("boot_id"), owner.get("pid_space")) != (
        me["host"],
        me["boot_id"],
        me["pid_space"],
    ):
        return True
    if me["started"] is not None:
        return _start_of(owner["pid"]) == owner.get("started") is not None
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _refusal(path: Path, owner: dict[str, Any] | None) -> str:
    if owner is None:
        return f"{path} cannot be read: if no process is working in that folder, delete this file and start again."
    who = f"process {owner.get('pid')} on {owner.get('host')}, since {owner.get('since')}"
    return (
        f"{path.parent} is in use by another run ({who}). Wait for it or stop it, or choose another --name; if that "
        f"process is on another machine and surely gone, delete {path.name} there and start again."
    )


def _myself() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "machine": _line(Path("/etc/machine-id")),
        "boot_id": _line(Path("/proc/sys/kernel/random/boot_id")),
        "pid_space": _pid_space(),
        "started": _start_of(os.getpid()),
        "since": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "token": secrets.token_hex(8),
    }


def _line(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _pid_space() -> str | None:
    """Containers on one machine share its boot but count processes apart."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _start_of(pid: int) -> int | None:
    """Clock ticks from boot to the start of a living process, so that a number used again is not mistaken for it."""
    stat = _line(Path(f"/proc/{pid}/stat"))
    if stat is None:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold blanks and brackets
    return None if fields[0] in "ZX" else int(fields[19])
