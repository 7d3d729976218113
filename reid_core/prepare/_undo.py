"""A split is taken back, finished or not: moved images return, copies and links go, whatever else there is stays."""

from __future__ import annotations

import os
from pathlib import Path

from reid_core.errors import DataError
from reid_core.prepare._fill import Progress
from reid_core.prepare._folder import PART, locked
from reid_core.prepare._place import place, same_bytes, sweep
from reid_core.prepare._transfer import CLASSES, JOURNAL, MANIFESTS, STATE, classes_text, read_rows, read_state


def undo(out: Path, progress: Progress | None = None) -> int:
    """Take a finished or interrupted ``transfer`` back.

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
    with locked(out):
        root, state = read_state(out)
        manifest = MANIFESTS[str(state["kind"])]
        listed = next((out / name for name in (JOURNAL, manifest) if (out / name).is_file()), None)
        items = read_rows(listed) if listed else []
        for folder in {path.parent for item in items for path in (root / item.source, out / item.target)}:
            sweep(folder)
        kept: list[str] = []
        for done, item in enumerate(items, 1):
            source, target = root / item.source, out / item.target
            reason = _take_back(source, target, str(state["mode"]))
            if reason:
                kept.append(f"{target} ({reason})")
            if progress is not None:
                progress(done, len(items))
        if kept:
            raise DataError(
                f"{len(kept)} of {len(items)} images could not be taken back: {'; '.join(kept[:20])}. The others were. "
                "Put these in order and run the same command again."
            )
        if state["kind"] == "classes" and _reads(out / CLASSES, classes_text(items)):
            (out / CLASSES).unlink()
        for name in (JOURNAL, manifest, PART, STATE):
            (out / name).unlink(missing_ok=True)
        _remove_empty(out, {(out / item.target).parent for item in items})
        return len(items)


def _reads(path: Path, text: bytes) -> bool:
    return path.is_file() and path.read_bytes() == text


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
        place(target, source, "move")
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
