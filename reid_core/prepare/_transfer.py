"""Put planned images into their places, so that a kill at any moment loses none, and take it all back.

In the new folder stand, while it works, ``.split.json`` (from where, how) and ``.split_journal.csv`` (every image's old
and new place), both on the disk before the first image is touched. At the end ``manifest.csv``, which names the old
places too, takes the journal's place. The same command goes on where an interrupted one stopped; ``undo`` works at any
time.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from reid_core.data._csv import read_csv, write_csv
from reid_core.data._paths import unsafe
from reid_core.errors import DataError, UsageError, printable
from reid_core.files import TMP_SUFFIX, sync_folder, write_atomically
from reid_core.prepare.split_reid import Item

try:
    import fcntl
except ImportError:  # Windows: two at once are the user's own care there
    fcntl = None  # type: ignore[assignment]

MODES = ("copy", "hardlink", "symlink", "move")
STATE, JOURNAL, MANIFEST = ".split.json", ".split_journal.csv", "manifest.csv"
_PART = ".reid_core."
COLUMNS = ("path", "pid", "camid", "split", "source")

Progress = Callable[[int, int], None]


def transfer(
    root: Path,
    items: Sequence[Item],
    out: Path,
    mode: str = "copy",
    options: Mapping[str, str | int] | None = None,
    progress: Progress | None = None,
) -> None:
    """Place ``items`` of ``root`` in ``out``, check every one of them, and write ``out/manifest.csv``.

    Args:
        root: the source's folder.
        items: where each image goes.
        out: a new or empty folder, neither in ``root`` nor around it.
        mode: ``copy``; ``hardlink`` (no room taken, the same file twice); ``symlink``; ``move``.
        options: what decided the plan, kept in ``.split.json``.
        progress: called with (done, total).

    Raises:
        UsageError: ``out`` is not empty, or lies in ``root`` or around it, or another command is at work in it.
        DataError: an image has gone, or moving would tear a link off, or the final check found a difference.
        OSError: ENOSPC before anything is touched if the room does not suffice.
    """
    if mode not in MODES:
        raise UsageError(f"--mode is one of {', '.join(MODES)}, got {mode!r}")
    _check_places(root, out, items, mode)
    with _locked(out):
        _check_empty(out)  # again, now that nobody else can fill it
        for leftover in out.iterdir():
            leftover.unlink()
        state = {"state": "working", "source": os.path.realpath(root), "mode": mode, "options": dict(options or {})}
        write_atomically(out / STATE, json.dumps(state, indent=1).encode())
        _write_rows(out / JOURNAL, items)
        _go_on(out, Path(os.path.realpath(root)), items, mode, progress)


def resume(out: Path, root: Path, mode: str, options: Mapping[str, str | int], progress: Progress | None = None) -> int:
    """Go on with an interrupted ``transfer``; 0 where there is none, else the number of images.

    Args:
        out: the folder that it was filling.
        root: the source as the user named it: a folder, or a manifest in it.
        mode, options: as they were then.
        progress: called with (done, total).

    Raises:
        UsageError: it was begun from another folder, in another mode or with other options.
    """
    if not (out / JOURNAL).is_file():
        return 0
    with _locked(out):
        source, begun = _read_state(out)
        now = {"mode": mode, "options": dict(options)}
        given = os.path.realpath(root.parent if root.is_file() else root)
        same_source = os.path.commonpath([given, source]) == given  # a reader may have found the data further down
        if not same_source or now != {k: begun[k] for k in now}:
            raise UsageError(
                f"{out} holds an interrupted split of {source} with --mode {begun['mode']} and {begun['options']}; repeat "
                "that command to go on, or add --undo to take it back."
            )
        items = _read_rows(out / JOURNAL)
        _go_on(out, source, items, mode, progress)
        return len(items)


def undo(out: Path, progress: Progress | None = None) -> int:
    """Take a finished or interrupted ``transfer`` back: moved images return, copies and links go.

    A copy is removed only where its source still holds the same bytes. What cannot be taken back stays, and so does
    the manifest, and whatever else lies in the folder.

    Args:
        out: the folder that ``transfer`` filled.
        progress: called with (done, total).

    Returns:
        The number of images taken back.

    Raises:
        DataError: ``out`` holds no such split, or some images could not be taken back (all others were).
    """
    if not (out / STATE).is_file():
        raise DataError(f"{out} holds no split that could be undone: there is no {STATE} in it.")
    with _locked(out):
        root, state = _read_state(out)
        listed = next((out / name for name in (JOURNAL, MANIFEST) if (out / name).is_file()), None)
        items = _read_rows(listed) if listed else []
        for folder in {path.parent for item in items for path in (root / item.source, out / item.target)}:
            _sweep(folder)
        kept: list[str] = []
        for done, item in enumerate(items, 1):
            source, target = root / item.source, out / item.target
            reason = _take_back(source, target, str(state["mode"]))
            if reason:
                kept.append(f"{target} ({reason})")
            _tick(progress, done, len(items))
        if kept:
            raise DataError(
                f"{len(kept)} of {len(items)} images could not be taken back: {'; '.join(kept[:20])}. The others were. "
                "Put these in order and run the same command again."
            )
        for name in (JOURNAL, MANIFEST, STATE):
            (out / name).unlink(missing_ok=True)
            for leftover in out.glob(f"{name}.*{TMP_SUFFIX}"):
                leftover.unlink(missing_ok=True)
        _remove_empty(out, {(out / item.target).parent for item in items})
        return len(items)


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two files hold the same; False where either is missing."""
    try:
        if os.path.samefile(one, other):
            return True
        if one.stat().st_size != other.stat().st_size:
            return False
        with open(one, "rb") as a, open(other, "rb") as b:
            while chunk := a.read(1 << 20):
                if chunk != b.read(1 << 20):
                    return False
            return True
    except FileNotFoundError:
        return False


def _check_places(root: Path, out: Path, items: Sequence[Item], mode: str) -> None:
    real_root, real_out = os.path.realpath(root), os.path.realpath(out)
    common = os.path.commonpath([real_root, real_out])
    if common in (real_root, real_out):
        raise UsageError(f"{out} and {root} lie in one another; choose a folder beside the source.")
    _check_empty(out)
    size = 0
    for item in items:
        path = os.path.join(real_root, *item.source.split("/"))
        try:
            size += os.stat(path).st_size
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); nothing was changed.") from error
        if mode == "move" and os.path.realpath(path) != path:
            raise DataError(f"{path} is a link or lies behind one, and moving would break it; use --mode copy.")
    near = out if out.exists() else next(p for p in Path(real_out).parents if p.exists())
    other_disk = os.stat(near).st_dev != os.stat(real_root).st_dev
    if mode == "hardlink" and other_disk:
        raise UsageError(f"{out} is on another disk than {root}, where hard links cannot lead; use another --mode.")
    free = shutil.disk_usage(near).free
    if (mode == "copy" or (mode == "move" and other_disk)) and free < size * 1.02 + 2**20:
        raise OSError(errno.ENOSPC, f"{size} bytes are needed and {free} are free", str(near))


def _check_empty(out: Path) -> None:
    """Nothing but what a ``transfer`` leaves that was killed before its first image."""
    if os.path.lexists(out) and (
        not out.is_dir() or any(entry.name != STATE and not _is_unfinished(entry.name) for entry in out.iterdir())
    ):
        raise UsageError(
            f"{out} is not an empty folder; choose another, or, if it holds an earlier split, take that back by --undo."
        )


def _is_unfinished(name: str) -> bool:
    """A note that was being written when the process died."""
    return name.startswith((f"{STATE}.", f"{JOURNAL}.")) and name.endswith(TMP_SUFFIX)


def _go_on(out: Path, root: Path, items: Sequence[Item], mode: str, progress: Progress | None) -> None:
    """Place what is not there yet, check everything, and finish."""
    ready: set[Path] = set()
    for done, item in enumerate(items, 1):
        source, target = root / item.source, out / item.target
        if target.parent not in ready:
            target.parent.mkdir(parents=True, exist_ok=True)
            _sweep(target.parent)
            ready.add(target.parent)
        try:
            if not os.path.lexists(target):
                _PLACE[mode](source, target)
            elif mode == "move" and os.path.lexists(source):  # killed between the two halves of a move
                _finish_move(source, target)
        except FileNotFoundError as error:
            raise DataError(
                f"{source} has gone since the work began; all other images are in {root} or {out}."
            ) from error
        _tick(progress, done, len(items))
    wrong = [f"{out / i.target} ({why})" for i in items if (why := _difference(root / i.source, out / i.target, mode))]
    if wrong:
        raise DataError(f"{len(wrong)} of {len(items)} images are not as they should be: {'; '.join(wrong[:20])}.")
    _write_rows(out / MANIFEST, items)
    _, state = _read_state(out)
    write_atomically(out / STATE, json.dumps({**state, "state": "complete"}, indent=1).encode())
    (out / JOURNAL).unlink(missing_ok=True)


def _difference(source: Path, target: Path, mode: str) -> str:
    if not target.is_file():
        return "it is missing"
    if mode == "move":
        return "its source is still there" if os.path.lexists(source) else ""
    return "" if same_bytes(source, target) else "it differs from its source"


def _copy(source: Path, target: Path) -> None:
    """Beside, to the disk, then renamed: a target is whole or absent."""
    beside = target.with_name(f"{_PART}{os.getpid()}.part")
    try:
        with open(source, "rb") as read, open(beside, "wb") as write:
            shutil.copyfileobj(read, write, 1 << 20)
        shutil.copystat(source, beside)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def _move(source: Path, target: Path) -> None:
    """First a second name, then the old one goes: at every moment there is at least one."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
            raise
        _copy(source, target)  # another disk, or one without hard links
    _finish_move(source, target)


def _finish_move(source: Path, target: Path) -> None:
    """Remove ``source`` once ``target`` surely holds the same."""
    if not same_bytes(source, target):
        raise DataError(
            f"{target} is there already and differs from {source}; both were kept. Remove the wrong one and repeat the command."
        )
    if not os.path.samefile(source, target):
        with open(target, "rb") as file:
            os.fsync(file.fileno())
        sync_folder(target.parent)
    os.unlink(source)


def _symlink(source: Path, target: Path) -> None:
    os.symlink(os.path.realpath(source), target)


def _hardlink(source: Path, target: Path) -> None:
    os.link(os.path.realpath(source), target)


_PLACE = {"copy": _copy, "hardlink": _hardlink, "symlink": _symlink, "move": _move}


def _take_back(source: Path, target: Path, mode: str) -> str:
    """Undo one placement; why not, or ""."""
    if not os.path.lexists(target):
        return "" if mode != "move" or os.path.lexists(source) else f"it is gone, and so is {source}"
    if mode == "symlink":
        if not target.is_symlink():
            return "it is no link any more"
        os.unlink(target)
        return ""
    if os.path.lexists(source):
        if not same_bytes(source, target):
            return f"it differs from {source}"
        os.unlink(target)
    elif mode == "move":
        source.parent.mkdir(parents=True, exist_ok=True)
        _move(target, source)
    else:
        return f"its source {source} is gone, so this may be the only copy"
    return ""


def _remove_empty(out: Path, folders: set[Path]) -> None:
    """Remove the folders that were made, as far as nothing else lies in them; never ``out``'s parents."""
    above = {parent for folder in folders for parent in folder.parents if out in parent.parents or parent == out}
    for folder in sorted(folders | above | {out}, key=lambda f: len(f.parts), reverse=True):
        try:
            folder.rmdir()
        except OSError:
            continue


def _sweep(folder: Path) -> None:
    """Remove half copies that a kill left behind; the lock says that nobody is writing them now."""
    for leftover in folder.glob(f"{_PART}*.part"):
        leftover.unlink()


def _write_rows(path: Path, items: Sequence[Item]) -> None:
    write_csv(path, COLUMNS, ((i.target, i.pid, i.camid, i.split, i.source) for i in items))


def _read_rows(path: Path) -> list[Item]:
    items: list[Item] = []
    for line, row in read_csv(path, COLUMNS):
        reason = unsafe(row["path"]) or unsafe(row["source"])
        if reason:
            raise DataError(f"{path}, line {line}: the path is refused: {reason}.")
        try:
            items.append(Item(row["source"], row["path"], int(row["pid"]), int(row["camid"]), row["split"]))
        except ValueError as error:
            raise DataError(f"{path}, line {line}: pid and camid must be integers.") from error
    return items


def _read_state(out: Path) -> tuple[Path, dict[str, object]]:
    try:
        state = json.loads((out / STATE).read_bytes())
        return Path(state["source"]), {"mode": str(state["mode"]), "options": dict(state["options"]), **state}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{out / STATE} cannot be read ({printable(error)}), so the split cannot go on or back."
        ) from error


def _tick(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """One command at a time; the system lets go of the lock when the process ends, however it ends."""
    out.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    handle = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another command is at work in {out}; wait for it to end.") from error
        yield
    finally:
        os.close(handle)
