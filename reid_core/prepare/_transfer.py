"""A split's images get to their places, and can be taken back (``_undo``), whenever it was killed.

In OUT stand, while it works, ``.split.json`` (from where, how) and ``.split_journal.csv`` (every image's old and new
place), both on the disk before the first image is touched. At the end the journal, which names the old places too,
becomes ``manifest.csv``, or ``split_manifest.csv`` beside ``classes.txt`` where classes were split. The same command goes on where an interrupted one stopped.

Other than ``prepare``, which makes anew what in OUT is not as it should be, a split leaves what it finds in a place and
says so at the end: the images are the user's own, and one that was retouched meanwhile may be the only one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from reid_core.data._csv import line, read_csv
from reid_core.data._paths import unsafe
from reid_core.errors import DataError, UsageError, printable
from reid_core.files import sync_folder
from reid_core.prepare._checks import check_split
from reid_core.prepare._fill import Progress, fill
from reid_core.prepare._folder import PART, locked, write_note
from reid_core.prepare._place import MODES, same_bytes
from reid_core.prepare._plan import Item
from reid_core.prepare._source import FolderSource

STATE, JOURNAL = ".split.json", ".split_journal.csv"
MANIFESTS = {"reid": "manifest.csv", "classes": "split_manifest.csv"}
"""What the journal becomes, by the kind of split. Only the first is a data set's manifest that the reader knows."""

CLASSES = "classes.txt"
COLUMNS = ("path", "pid", "camid", "split", "source")


def transfer(
    root: Path,
    items: Sequence[Item],
    out: Path,
    mode: str = "copy",
    options: Mapping[str, str | int] | None = None,
    progress: Progress | None = None,
    allow_outside: bool = False,
    kind: str = "reid",
) -> None:
    """Place ``items`` of ``root`` in ``out``, check every one of them, and write the manifest.

    Args:
        root: the source's folder.
        items: where each image goes.
        out: a new or empty folder, neither in ``root`` nor around it.
        mode: ``copy``; ``hardlink`` (no room taken, the same file twice); ``symlink``; ``move``.
        options: what decided the plan, kept in ``.split.json``.
        progress: called with (done, total).
        allow_outside: take images to which a link leads out of ``root``.
        kind: of ``MANIFESTS``; ``classes`` writes ``classes.txt`` too, a class's folder name in the line of its ``pid``.

    Raises:
        UsageError: ``out`` is not empty, or lies in ``root`` or around it, or another command is at work in it.
        DataError: an image has gone, a link leads out of ``root`` or moving would tear it off, or the final check
            found a difference.
        OSError: ENOSPC before anything is touched if the room does not suffice.
    """
    if mode not in MODES:
        raise UsageError(f"--mode is one of {', '.join(MODES)}, got {mode!r}")
    check_split(items, root, out, mode, allow_outside)
    _check_empty(out)
    with locked(out):
        _check_empty(out)  # again, now that nobody else can fill it
        state = {
            "state": "working",
            "kind": kind,
            "source": os.path.realpath(root),
            "mode": mode,
            "options": dict(options or {}),
        }
        write_note(out, STATE, json.dumps(state, indent=1).encode())
        rows = [COLUMNS, *((i.target, i.pid, i.camid, i.split, i.source) for i in items)]
        write_note(out, JOURNAL, "".join(map(line, rows)).encode("utf-8", "surrogateescape"))
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
    with locked(out):
        source, begun = read_state(out)
        now = {"mode": mode, "options": dict(options)}
        given = os.path.realpath(root.parent if root.is_file() else root)
        same_source = os.path.commonpath([given, source]) == given  # a reader may have found the data further down
        if not same_source or now != {k: begun[k] for k in now}:
            raise UsageError(
                f"{out} holds an interrupted split of {source} with --mode {begun['mode']} and {begun['options']}; repeat "
                "that command to go on, or add --undo to take it back."
            )
        items = read_rows(out / JOURNAL)
        _go_on(out, source, items, mode, progress)
        return len(items)


def read_rows(path: Path) -> list[Item]:
    """The placements that a journal or manifest of a split lists.

    Raises:
        DataError: it was changed, for example so that it leads out of the folders.
    """
    items: list[Item] = []
    for number, row in read_csv(path, COLUMNS):
        reason = unsafe(row["path"]) or unsafe(row["source"])
        if reason:
            raise DataError(f"{path}, line {number}: the path is refused: {reason}.")
        try:
            items.append(Item(row["source"], row["path"], int(row["pid"]), int(row["camid"]), row["split"]))
        except ValueError as error:
            raise DataError(f"{path}, line {number}: pid and camid must be integers.") from error
    return items


def read_state(out: Path) -> tuple[Path, dict[str, object]]:
    """The source of a split, and its note.

    Raises:
        DataError: the note cannot be read.
    """
    try:
        state = json.loads((out / STATE).read_bytes())
        MANIFESTS[state.setdefault("kind", "reid")]
        return Path(state["source"]), {"mode": str(state["mode"]), "options": dict(state["options"]), **state}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{out / STATE} cannot be read ({printable(error)}), so the split cannot go on or back."
        ) from error


def classes_text(items: Sequence[Item]) -> bytes:
    """Contents of ``classes.txt``: the folder names of the classes in the order of their numbers, a line each."""
    names = {item.pid: item.target.split("/")[1] for item in items}
    return "".join(f"{printable(names[pid])}\n" for pid in sorted(names)).encode("utf-8", "surrogateescape")


def _check_empty(out: Path) -> None:
    """Nothing but what a ``transfer`` leaves that was killed before its first image."""
    if os.path.lexists(out) and (not out.is_dir() or any(path.name not in (STATE, PART) for path in out.iterdir())):
        raise UsageError(
            f"{out} is not an empty folder; choose another, or, if it holds an earlier split, take that back by --undo."
        )


def _go_on(out: Path, root: Path, items: Sequence[Item], mode: str, progress: Progress | None) -> None:
    """Place what is not there yet, check everything, and finish."""
    # A moved image may have its new place and still its old one; else what is there is left for the check to judge.
    missing = [item for item in items if mode == "move" or not os.path.lexists(out / item.target)]
    fill(out, missing, FolderSource(root), mode, progress, hashed=False)
    wrong = [f"{out / i.target} ({why})" for i in items if (why := _difference(root / i.source, out / i.target, mode))]
    if wrong:
        raise DataError(f"{len(wrong)} of {len(items)} images are not as they should be: {'; '.join(wrong[:20])}.")
    _, state = read_state(out)
    if state["kind"] == "classes":
        write_note(out, CLASSES, classes_text(items))
    write_note(out, STATE, json.dumps({**state, "state": "complete"}, indent=1).encode())
    os.replace(out / JOURNAL, out / MANIFESTS[str(state["kind"])])
    sync_folder(out)


def _difference(source: Path, target: Path, mode: str) -> str:
    if not target.is_file():
        return "it is missing"
    if mode == "move":
        return "its source is still there" if os.path.lexists(source) else ""
    return "" if same_bytes(source, target) else "it differs from its source"
