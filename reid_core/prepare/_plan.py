"""What goes where: decided from names and sizes before anything is written."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

from reid_core.data._layout import Layout, released_folders, released_images, samples_of, wrong_folder
from reid_core.errors import DataError
from reid_core.prepare._source import Source
from reid_core.types import Sample

SPLITS = ("train_all", "train", "val", "query", "gallery", "multi-query")
"""Folders of the prepared layout, in the order of tables and manifests."""


@dataclass(frozen=True)
class Item:
    """One file to place.

    Attributes:
        source: path in the source, forward slashes.
        target: path in OUT: split, identity folder, file name.
        pid, camid: as read; cameras from 0, -1 without.
        split: one of ``SPLITS``.
        size: bytes, -1 where not known.
        tag: a checksum of the source's, or "".
    """

    source: str
    target: str
    pid: int
    camid: int
    split: str
    size: int = -1
    tag: str = ""


def name_of(path: str) -> str:
    """File name of a path with forward slashes."""
    return path.rsplit("/", 1)[-1]


def hold_out(train: Sequence[Sample]) -> set[str]:
    """Paths of the validation images: of every identity with two images or more, the first by file name."""
    by_pid: dict[int, list[str]] = {}
    for sample in train:
        by_pid.setdefault(sample.pid, []).append(sample.path)
    return {min(paths, key=lambda p: (name_of(p), p)) for paths in by_pid.values() if len(paths) > 1}


def plan_released(layout: Layout, source: Source) -> list[Item]:
    """Every placement that turns the data set as released into the prepared layout.

    Raises:
        DataError: as readers raise it, and for empty files and for names that would fall on each other.
    """
    folders = released_folders(layout, source)
    if folders is None:
        raise DataError(wrong_folder(layout, source))
    paths = released_images(layout, source, folders)
    samples = {split: samples_of(layout, paths[split], source.where, split) for split in paths}
    return place(layout, source, samples)


def place(layout: Layout, source: Source, samples: Mapping[str, Sequence[Sample]]) -> list[Item]:
    """Placements of samples by released split; ``train`` becomes train_all, train and val."""
    held_out = hold_out(samples["train"])
    splits: dict[str, Sequence[Sample]] = {
        **samples,
        "train_all": samples["train"],
        "train": [s for s in samples["train"] if s.path not in held_out],
        "val": [s for s in samples["train"] if s.path in held_out],
    }
    items = []
    for split in SPLITS:
        for s in splits.get(split, ()):
            name = name_of(s.path)
            target = f"{split}/{layout.folder_of(name)}/{name}"
            items.append(Item(s.path, target, s.pid, s.camid, split, source.size(s.path), source.tag(s.path)))
    check(items, source.where)
    return sorted(items, key=lambda item: (SPLITS.index(item.split), item.target))


def check(items: Sequence[Item], where: str) -> None:
    """Refuse empty files and placements that would overwrite each other (also where case does not count).

    Raises:
        DataError: naming them.
    """
    empty = sorted({item.source for item in items if item.size == 0})
    if empty:
        raise DataError(
            f"{len(empty)} images in {where} are empty (0 bytes): {', '.join(repr(p) for p in empty)}. Nothing was "
            "written. Get them again, or remove them from the source."
        )
    taken: dict[str, str] = {}
    for item in items:
        key = unicodedata.normalize("NFC", item.target).casefold()
        if key in taken:
            raise DataError(
                f"{taken[key]!r} and {item.source!r} in {where} would both become {item.target!r}. Nothing was "
                "written. Remove or rename one of them."
            )
        taken[key] = item.source


def digest(items: Sequence[Item]) -> str:
    """sha256 of a plan: the same names, sizes and checksums give the same."""
    text = json.dumps([astuple(item) for item in items], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
