"""Writing files so that a kill, a full disk or a power cut leaves the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from reid_core.errors import CheckpointError

TMP_SUFFIX = ".reid_tmp"
"""Files with this ending are unfinished; ``remove_stale`` deletes them."""

_NO_SPACE = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def temporary_beside(path: Path) -> Path:
    """A new name in the folder of ``path`` that says it is unfinished."""
    return path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TMP_SUFFIX}")


def remove_stale(folder: Path) -> int:
    """Delete what killed writers left in ``folder``; call it only where nobody else is writing. Returns how many."""
    stale = sorted(folder.glob(f"*{TMP_SUFFIX}"))
    for path in stale:
        path.unlink(missing_ok=True)
    return len(stale)


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` last through a power cut. File systems that cannot are left as they are."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def check_space(path: Path, size: int, factor: float = 1.0) -> None:
    """Refuse before a byte is written if ``factor * size`` bytes are not free where ``path`` will be.

    Raises:
        CheckpointError: too little room, or the folder cannot be looked at.
    """
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError as error:
        raise _explained(path, error, size) from error
    if free < factor * size:
        raise CheckpointError(
            f"no room to write {path}: {math.ceil(factor * size)} bytes must be free ({factor:g} times its "
            f"{size} bytes), {free} are. Nothing was changed; free some space there, or choose another --out."
        )


def write_atomically(
    path: Path, data: bytes | Callable[[BinaryIO], None], *, size: int | None = None, room: float = 1.0
) -> None:
    """Write beside, flush, fsync, rename over ``path``, fsync the folder; after any error the old file stands.

    Args:
        path: the file to make or replace; its folder must exist.
        data: the content, or a function that writes it to the open binary file.
        size: expected bytes where ``data`` is a function; then space is checked first.
        room: how many times the size must be free.

    Raises:
        CheckpointError: no space (with the path, the bytes needed and the bytes free), or any other failure of the
            file system. What ``data`` itself raises is passed on. The unfinished file is removed in every case.
    """
    size = len(data) if isinstance(data, bytes) else size
    if size is not None:
        check_space(path, size, room)
    unfinished = write_beside(path, data, size=size)
    try:
        os.replace(unfinished, path)
        sync_folder(path.parent)
    except OSError as error:
        raise _explained(path, error, size) from error
    finally:
        unfinished.unlink(missing_ok=True)


def write_beside(path: Path, data: bytes | Callable[[BinaryIO], None], *, size: int | None = None) -> Path:
    """The first half of ``write_atomically``: a complete, fsynced file under a temporary name, which is returned."""
    unfinished = temporary_beside(path)
    try:
        with open(unfinished, "xb") as file:
            if isinstance(data, bytes):
                file.write(data)
            else:
                data(file)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise _explained(path, error, size) from error
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return unfinished


def link_or_copy_beside(source: Path, path: Path) -> Path:
    """A temporary name beside ``path`` with the content of ``source``: a hard link, or an fsynced copy."""
    linked = temporary_beside(path)
    try:
        os.link(source, linked)
    except OSError:
        return write_beside(path, lambda file: _copy(source, file), size=source.stat().st_size)
    return linked


def _copy(source: Path, file: BinaryIO) -> None:
    with open(source, "rb") as original:
        shutil.copyfileobj(original, file, 1 << 20)


def _explained(path: Path, error: OSError, size: int | None) -> CheckpointError:
    """The error of the file system as a paragraph."""
    if error.errno not in _NO_SPACE:
        return CheckpointError(
            f"{path} could not be written: {error.strerror or error}. The former file, if any, is untouched; "
            "check that the folder exists and that you may write to it, then run the same command again."
        )
    try:
        free = f"{shutil.disk_usage(path.parent).free} bytes are free on that disk"
    except OSError:
        free = "how much is free is not known"
    needed = "an unknown number of" if size is None else str(size)
    return CheckpointError(
        f"{path} could not be written: {error.strerror or error}; it needs {needed} bytes, {free} (a quota or a limit "
        "on file size may allow less). The former file, if any, is untouched and nothing half-written was left; free "
        "some space or lift the limit, and go on with --resume."
    )


def json_bytes(value: Any, indent: int | None = None) -> bytes:
    """``value`` as UTF-8 JSON that any reader accepts.

    NumPy scalars and arrays become numbers and lists, paths and unknown mapping keys text, tuples lists; NaN and
    infinities become null, since JSON has no word for them.

    Raises:
        TypeError: a value has no JSON form.
    """
    text = json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace")  # undecodable bytes of file names become JSON's own \\udcXX


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise TypeError(f"a {type(value).__name__} has no JSON form: {value!r}")


def append_line(path: Path, value: Any) -> None:
    """Add ``value`` as one line of JSON: one write, flushed and fsynced. A torn last line is cut off first.

    Raises:
        CheckpointError: the line could not be written; the file is then as it was.
    """
    line = json_bytes(value) + b"\n"
    try:
        with open(path, "ab+", buffering=0) as file:
            end = _whole_lines(file)
            file.truncate(end)
            try:
                written = 0
                while written < len(line):  # a second round only ever tells why the first came back short
                    written += file.write(line[written:])
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(end)
                raise
    except OSError as error:
        raise _explained(path, error, len(line)) from error


def _whole_lines(file: BinaryIO) -> int:
    """Bytes up to and including the last newline."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 4096)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def read_lines(path: Path) -> list[Any]:
    """The values of a file written by ``append_line``; [] if there is no file. A torn last line is left out.

    Raises:
        CheckpointError: another line is not JSON; the message names it.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}. Check its permissions.") from error
    values = []
    for number, line in enumerate(raw.split(b"\n")[:-1], start=1):  # what follows the last newline is torn
        try:
            values.append(json.loads(line))
        except ValueError as error:
            _refuse_line(path, number, error)
    return values


def _refuse_line(path: Path, number: int, error: ValueError) -> NoReturn:
    raise CheckpointError(
        f"{path}, line {number}, is not JSON ({error}): the file was changed or damaged. Remove that line, or move the "
        "file away (it is a log, no training state is in it), and run the same command again."
    ) from error


def truncate_lines(path: Path, keep: Callable[[Any], bool]) -> int:
    """Keep the lines whose value satisfies ``keep`` and drop the others and a torn end, all at once.

    Returns:
        How many lines were dropped. A missing file has none.

    Raises:
        CheckpointError: as ``read_lines`` and ``write_atomically``.
    """
    if not path.exists():
        return 0
    raw = path.read_bytes()
    values = read_lines(path)
    lines = raw.split(b"\n")
    kept = [line for line, value in zip(lines[:-1], values, strict=True) if keep(value)]
    dropped = len(lines) - 1 - len(kept) + bool(lines[-1])
    if dropped:
        write_atomically(path, b"".join(line + b"\n" for line in kept))
    return dropped
