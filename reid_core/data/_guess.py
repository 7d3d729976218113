"""Which reader fits a folder, by its layout; for commands whose ``--dataset`` was not given."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from reid_core.data._files import is_image
from reid_core.data.image_folder import TEST_FOLDERS, TRAIN_FOLDERS
from reid_core.data.manifest import FILE_NAME
from reid_core.errors import DataError
from reid_core.plugins import names

_FILE_NAMES = (
    ("market1501", re.compile(r"-?\d+_c\d+s\d+_")),
    ("dukemtmc_reid", re.compile(r"\d+_c\d+_f\d+")),
    ("cuhk03", re.compile(r"\d+_c\d+_\d+\.png")),
)
_RAW_FOLDERS = ("bounding_box_train", "bounding_box_test")
_SHOWN = "a manifest.csv, one folder an identity, class folders in train and test, or the layout in which a known data set is released or prepared"


def guess_dataset(root: Path) -> str:
    """Name of the reader whose layout ``root`` has.

    A CSV file is a manifest. In a folder, the released layouts go first (``bounding_box_train`` with the file names
    that tell Market, Duke and CUHK03-NP apart, the lists of MSMT17, the MATLAB file of CUHK03), then the prepared
    layout of those (``train_all``), then ``manifest.csv``, then class folders (``test`` or ``val``, with a
    training folder beside it or nothing, but no query and no gallery), then identity folders. One folder around all is
    looked into.

    Raises:
        DataError: there is nothing at ``root``, or nothing that fits.
    """
    if root.is_file():
        return "manifest"
    if not root.is_dir():
        raise DataError(f"there is no data set at {root}: no such folder or file.")
    inner = [e.path for e in os.scandir(root) if not e.name.startswith(".")]
    folders = [root, *(Path(p) for p in inner if len(inner) == 1 and os.path.isdir(p))]
    known = names("reid_core.data")
    for folder in folders:
        name = _released(folder) or _by_file_names(folder, ("train_all",))
        if name in known:
            return name
    if (root / FILE_NAME).is_file():
        return "manifest"
    if _has_classes(root):
        return "image_folder"
    if any(_some_images(root, depth) for depth in (2, 3)):
        return "pid_folders"
    raise DataError(
        f"{root} has none of the known layouts: {_SHOWN}, was expected. Name it by --dataset if you know it."
    )


def _has_classes(root: Path) -> bool:
    """Whether a test folder holds class folders, and a training folder too or nothing else is there; identities are
    searched for instead."""
    if (root / "query").is_dir() or (root / "gallery").is_dir():
        return False
    train, test = (any(_some_images(root / name, 2) for name in part) for part in (TRAIN_FOLDERS, TEST_FOLDERS))
    inner = [entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith(".")]
    return test and (train or set(inner) <= set(TEST_FOLDERS))


def _released(folder: Path) -> str:
    if (folder / "list_train.txt").is_file():
        return "msmt17"
    if (folder / "cuhk-03.mat").is_file():
        return "cuhk03"
    return _by_file_names(folder, _RAW_FOLDERS)


def _by_file_names(folder: Path, parts: tuple[str, ...]) -> str:
    """The data set whose pattern the file names in ``parts`` of ``folder`` have, or ""."""
    for part in parts:
        for name in itertools.chain(_some_images(folder / part, 1), _some_images(folder / part, 2)):
            for dataset, pattern in _FILE_NAMES:
                if pattern.match(name):
                    return dataset
    return ""


def _some_images(folder: Path, depth: int) -> list[str]:
    """Names of a few images exactly ``depth`` levels below ``folder``."""

    def walk(path: str, left: int) -> Iterator[str]:
        if not os.path.isdir(path):
            return
        with os.scandir(path) as entries:
            for entry in entries:
                if left == 1 and is_image(entry.name):
                    yield entry.name
                elif left > 1 and not entry.name.startswith("."):
                    yield from walk(entry.path, left - 1)

    return list(itertools.islice(walk(str(folder), depth), 5))
