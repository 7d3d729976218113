"""Images to be classified, one folder a class: ``train/<class>/...`` and ``test/<class>/...`` or ``val/<class>/...``.

- Class: its number is the place of its folder's name in the sorted list of all names of the training folder; the names
  themselves are ``Split.class_names``. Training and test folders must hold the same classes. A test folder alone is enough
  to measure with networks that were trained elsewhere.
- ``reid-core split classes`` makes ``train_split`` and ``val_split``; they are read where there is no ``train``, or with
  ``--train_split train_split``.
- Of several folders to measure with, ``test`` goes before ``val`` before ``val_split``, and which one it is, is said.
- Images may lie in folders below their class. Endings are compared without regard to case. Files that are no images are
  left out and listed; ``.bmp``, ``.webp`` and their kin are an error, lest images go missing.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from reid_core.data._files import FOREIGN, is_image, some
from reid_core.errors import DataError
from reid_core.types import Sample, Split

TRAIN_DEFAULTS = {"tau": 1.0, "smoothing": 0.1, "before_switch": "peer"}
"""Classes of photographs often have long tails: the prior, the smoothing and the first phase of methods that have them."""
SIZE_OF_ARCHITECTURE = True
"""Photographs of anything, not people who stand: as large as timm names for the architecture, unless said otherwise."""

TRAIN_FOLDERS = ("train", "train_split")
TEST_FOLDERS = ("test", "val", "val_split")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClassFolders:
    """What lies in a folder of class folders.

    Attributes:
        images: paths of a class's images relative to its folder, sorted, by class name; classes in sorted order.
        others: paths of the files that are no images, relative to the folder of classes.
    """

    images: dict[str, list[str]]
    others: list[str] = field(default_factory=list)


def read(root: Path, *, train_split: str = "train") -> Split:
    """Read class folders; no image is opened.

    Args:
        root: the folder that holds ``train`` and, if anything is to be measured, ``test`` or ``val``.
        train_split: name of the training folder; ``train_split`` stands in where there is no ``train``.

    Returns:
        A split with ``test`` in place of query and gallery, no cameras, and ``class_names``. Where there is a test folder
        alone, as one may have to measure a network again, ``train`` is empty.

    Raises:
        DataError: no such folder, neither training nor test folder, a class without an image, images outside class
            folders, images of a kind that is not read, or training and test folders whose classes differ.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; one with train/<class>/<image> in it was expected.")
    there = subfolders(root)
    train_folder = _train_folder(root, train_split, there)
    test_folder = _test_folder(root, train_folder, there)
    train = list_classes(root / train_folder) if train_folder else ClassFolders({})
    test = list_classes(root / test_folder) if test_folder else ClassFolders({})
    if test_folder and train_folder:
        _same_classes(root, train_folder, set(train.images), test_folder, set(test.images))
    skipped = [f"{train_folder}/{name}" for name in train.others] + [f"{test_folder}/{name}" for name in test.others]
    if skipped:
        _log.warning("%s: %d files are no images and are left out: %s", root, len(skipped), some(skipped, 20))
    names = tuple(train.images or test.images)
    return Split(
        "image_folder",
        root,
        train_folder,
        _samples(train, train_folder, names),
        protocol="any-camera",
        test=_samples(test, test_folder, names),
        class_names=names,
    )


def list_classes(folder: Path) -> ClassFolders:
    """The classes of ``folder`` and their images.

    Raises:
        DataError: no class at all, one without an image, images in ``folder`` itself, or images that are not read.
    """
    stray = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    images = [name for name in stray if is_image(name)]
    if images:
        raise DataError(
            f"{folder} holds images itself ({len(images)}, like {images[0]!r}); one folder a class was expected, as in "
            f"{folder / 'some_class' / images[0]}. Move them into the folders of their classes."
        )
    found = ClassFolders({}, [name for name in stray if not name.startswith(".")])
    for name in subfolders(folder):
        found.images[name] = []
        for path in _files_below(folder / name):
            if is_image(path.rsplit("/", 1)[-1]):
                found.images[name].append(path)
            elif PurePosixPath(path).suffix.lower() in FOREIGN:
                raise DataError(f"{folder / name / path}: only JPEG and PNG images are read; convert it, or remove it.")
            else:
                found.others.append(f"{name}/{path}")
    empty = [name for name, paths in found.images.items() if not paths]
    if empty:
        raise DataError(
            f"{folder}: {len(empty)} of {len(found.images)} class folders hold no JPEG or PNG image: {some(empty)}. "
            "Remove them, or put their images in."
        )
    if not found.images:
        raise DataError(f"{folder} holds no class folder; one folder a class with its images in it was expected.")
    return found


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in ``folder`` that are not hidden, sorted; none where it is no folder."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _train_folder(root: Path, asked: str, there: list[str]) -> str:
    """What to train on; "" where none of the usual ones is beside a test folder."""
    if asked in there:
        if asked == "train" and "train_split" in there:
            _log.warning(
                "%s holds train and train_split; train is used, val_split is not (else: --train_split train_split)",
                root,
            )
        return asked
    if asked == "train" and "train_split" in there:
        return "train_split"
    if asked in TRAIN_FOLDERS and any(name in there for name in TEST_FOLDERS):
        return ""
    raise DataError(
        f"{root} has no training folder {asked!r}; {asked}/<class>/<image> was expected, there is "
        f"{some(there, 8) if there else 'no folder at all'}. Name the folder that holds {asked}, or cut your class folders "
        "into training and validation images with: reid-core split classes SRC OUT"
    )


def _test_folder(root: Path, train_folder: str, there: list[str]) -> str:
    """What to measure with, or "": never ``val_split`` beside the ``train`` that it may have been copied from."""
    fitting = [
        name
        for name in TEST_FOLDERS
        if name in there and not (name == "val_split" and train_folder == "train" and "train_split" in there)
    ]
    if len(fitting) > 1:
        _log.warning("%s holds %s; %s is measured, the others are left aside", root, some(fitting), fitting[0])
    return fitting[0] if fitting else ""


def _same_classes(root: Path, train_folder: str, train: set[str], test_folder: str, test: set[str]) -> None:
    only_train, only_test = sorted(train - test), sorted(test - train)
    if only_train or only_test:
        parts = [
            f"{len(names)} only in {where} ({some(names)})"
            for names, where in ((only_train, train_folder), (only_test, test_folder))
            if names
        ]
        raise DataError(
            f"{root}: the classes of {train_folder} and {test_folder} differ: {'; '.join(parts)}. Both need a folder of "
            "the same name for every class: rename, add or remove folders."
        )


def _files_below(folder: Path) -> list[str]:
    """All files below ``folder`` that are not hidden, relative to it, with forward slashes, sorted."""
    paths: list[str] = []
    for base, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = os.path.relpath(base, folder).replace(os.sep, "/")
        paths += [name if below == "." else f"{below}/{name}" for name in files if not name.startswith(".")]
    return sorted(paths)


def _samples(found: ClassFolders, folder: str, names: tuple[str, ...]) -> tuple[Sample, ...]:
    number = {name: c for c, name in enumerate(names)}
    made = [
        Sample(f"{folder}/{name}/{path}", number[name], -1) for name, paths in found.images.items() for path in paths
    ]
    return tuple(sorted(made, key=lambda sample: sample.path))
