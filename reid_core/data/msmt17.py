"""MSMT17: fifteen cameras in and around a campus over several days, boxes by a detector.

Reference:
    L. Wei, S. Zhang, W. Gao, Q. Tian, "Person Transfer GAN to Bridge Domain Gap for Person Re-identification",
    CVPR 2018.

Statistics, commonly quoted and not checked against the owners' page: 4,101 identities; 32,621 training images of 1,041
(the lists ``train`` and ``val`` together); 11,659 queries; a gallery of 82,161 of 3,060. No distractors, no junk:
pid 0 is a person. Training and test identities are both counted from 0; the same number is not the same person.

Layout: ``list_train.txt, list_val.txt, list_query.txt, list_gallery.txt`` with lines ``PATH PID``, paths below
``train`` and ``test`` (first release) or ``mask_train_v2`` and ``mask_test_v2`` (second). Only listed images count.

File name: ``0000_000_01_0303morning_0015_0.jpg`` is identity 0, its image 0, camera 1.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from reid_core.data import _layout
from reid_core.data._files import Files, images_below, some
from reid_core.errors import DataError
from reid_core.types import Role, Split

logger = logging.getLogger(__name__)

TITLE = "MSMT17"
TRAIN_DEFAULTS = {"noise_ratio": 0.2}  # as the reference program has it
PATTERN = "PID_NUMBER_CAMERA_..., four, three and two digits, as in 0000_000_01_0303morning_0015_0.jpg"
LISTS = {"train": ("list_train.txt", "list_val.txt"), "query": ("list_query.txt",), "gallery": ("list_gallery.txt",)}
RELEASES = (("train", "test"), ("mask_train_v2", "mask_test_v2"))
_NAME = re.compile(r"([0-9]{4,9})_[0-9]{3,9}_([0-9]{2})_")


def parse(name: str) -> tuple[int, int, Role]:
    """(pid, camid from 0, ``identity``) of a file name.

    Raises:
        DataError: the name does not fit the pattern; cameras count from 1.
    """
    match = _NAME.match(name)
    if match is None or int(match[2]) < 1:
        raise _layout.misfit(name, TITLE, PATTERN)
    return int(match[1]), int(match[2]) - 1, "identity"


def find_folders(files: Files) -> Mapping[str, str] | None:
    """The folders of whichever release this is, if its lists are there."""
    folders, names = files.entries("") or ([], [])
    if not {name for lists in LISTS.values() for name in lists} <= set(names):
        return None
    for train, test in RELEASES:
        if train in folders and test in folders:
            return {"train": train, "query": test, "gallery": test}
    return None


def list_images(files: Files, folders: Mapping[str, str]) -> Mapping[str, Sequence[str]]:
    """Image paths by split, as the lists say, sorted.

    Raises:
        DataError: a line is no ``PATH PID``, a path is listed twice, or an image is missing.
    """
    there = {folder: set(images_below(files, folder)) for folder in sorted(set(folders.values()))}
    return {
        split: _listed(files, LISTS[split], folder, there[folder])
        for split, folder in folders.items()
        if split in LISTS
    }


def _listed(files: Files, lists: Sequence[str], folder: str, there: set[str]) -> list[str]:
    paths: set[str] = set()
    missing, other = [], 0
    for name in lists:
        try:
            text = files.read_text(name)
        except UnicodeDecodeError as error:
            raise DataError(f"{name} of {files.where} is not UTF-8 text ({error}).") from error
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            fields = line.rsplit(None, 1)
            if len(fields) != 2 or re.fullmatch("[0-9]{1,9}", fields[1]) is None:
                raise DataError(f"{name} of {files.where}, line {number}: expected 'PATH PID', got {line[:200]!r}.")
            path = f"{folder}/{fields[0].strip()}"
            if path in paths:
                raise DataError(f"{name} of {files.where}, line {number}: {fields[0]!r} is listed twice.")
            paths.add(path)
            if path not in there:
                missing.append(path)
            else:
                other += int(fields[1]) != _pid(path)
    if missing:
        raise DataError(
            f"{len(missing)} of {len(paths)} images listed in {', '.join(lists)} of {files.where} are not there: "
            f"{some(missing)}. Unpack the data set again."
        )
    if other:
        logger.warning("%d lines of %s give another identity than the file name, which counts", other, lists[0])
    return sorted(paths)


def _pid(path: str) -> int | None:
    match = _NAME.match(path.rsplit("/", 1)[-1])
    return int(match[1]) if match else None


LAYOUT = _layout.Layout(
    dataset="msmt17",
    title=TITLE,
    pattern=PATTERN,
    parse=parse,
    folders={"train": "train", "query": "test", "gallery": "test"},
    usual_names=("msmt17", "MSMT17_V1", "MSMT17_V2", "pytorch"),
    published={"train_all": (32_621, 1_041), "query": (11_659, None), "gallery": (82_161, 3_060)},
    find_folders=find_folders,
    list_images=list_images,
    needs="list_train.txt, list_val.txt, list_query.txt, list_gallery.txt, and train and test "
    "(or mask_train_v2 and mask_test_v2)",
)


def read(root: Path, *, train_split: str = "train") -> Split:
    """Records of the data set in ``root``, released (either release) or prepared.

    As released, both values of ``train_split`` mean the lists ``train`` and ``val`` together.

    Raises:
        UsageError: ``train_split`` is neither ``train`` nor ``train_all``.
        DataError: a folder or list is missing or wrong, an image is missing, or a file name does not fit.
    """
    return _layout.read(LAYOUT, root, train_split)
