"""``manifest.csv``: every image of the prepared layout, and counting what it lists."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reid_core.data._csv import from_cell, line
from reid_core.data._layout import Layout
from reid_core.errors import DataError
from reid_core.prepare._folder import write_note
from reid_core.prepare._plan import SPLITS, Item, name_of

NAME = "manifest.csv"
HEADER = ("path", "pid", "camid", "split", "sha256")


@dataclass(frozen=True)
class Row:
    """A line of the manifest: path relative to its folder, identity, camera from 0, split, sha256 of the bytes."""

    path: str
    pid: int
    camid: int
    split: str
    sha256: str


def rows_of(items: Sequence[Item], digests: Mapping[str, str]) -> list[Row]:
    """Manifest lines of placed items, from the sha256 of their sources."""
    return [Row(item.target, item.pid, item.camid, item.split, digests[item.source]) for item in items]


def write(out: Path, rows: Sequence[Row]) -> None:
    """Write ``out/manifest.csv`` whole or not at all; text cells are guarded against spreadsheets."""
    text = "".join([line(HEADER), *(line((r.path, r.pid, r.camid, r.split, r.sha256)) for r in rows)])
    write_note(out, NAME, text.encode("utf-8", "surrogateescape"))


def read(out: Path) -> list[Row]:
    """The lines of ``out/manifest.csv``.

    Raises:
        DataError: it is missing or cannot be read.
    """
    path = out / NAME
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            lines = csv.reader(file)
            if tuple(next(lines)) != HEADER:
                raise ValueError(f"its first line is not {','.join(HEADER)}")
            return [Row(from_cell(p), int(pid), int(cam), from_cell(split), sha) for p, pid, cam, split, sha in lines]
    except (OSError, ValueError, StopIteration, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}); prepare into another folder.") from error


def count(layout: Layout, rows: Sequence[Row]) -> dict[str, tuple[int, int]]:
    """(images, identities) by split; distractors and junk are images but no identities."""
    images = dict.fromkeys((s for s in SPLITS if any(r.split == s for r in rows)), 0)
    pids: dict[str, set[int]] = {split: set() for split in images}
    asked = {r.pid for r in rows if r.split == "query"}
    for row in rows:
        images[row.split] += 1
        role = layout.parse(name_of(row.path))[2]
        absent = layout.absent_are_distractors and row.split == "gallery" and row.pid not in asked
        if role == "identity" and not absent:
            pids[row.split].add(row.pid)
    return {split: (images[split], len(pids[split])) for split in images}
