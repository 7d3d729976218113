"""Users' own data as one folder an identity.

Either ``train/<identity>/...``, ``query/<identity>/...`` and ``gallery/<identity>/...``, or a flat
``<identity>/...``, which has training images only (``reid-core split reid`` cuts query and gallery from it).

- Identity: folder names that are all integers are the pids themselves; otherwise pids are numbered in the sorted order
  of all names of all splits, so that the same name is the same pid everywhere. 0 is an ordinary identity. A folder
  called ``-1`` holds junk, which only the gallery may have.
- Camera: the number after ``_c`` in the file name (``0002_c3s1_000451.jpg``), if every image of the data set has one;
  otherwise there are no cameras and the protocol is ``any-camera``.
- Images may lie in folders below an identity. Hidden files and files that are no images by their ending are ignored,
  but ``.bmp``, ``.webp`` and their kin are an error, lest images go missing without a word.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from reid_core.data._files import FOREIGN, is_image
from reid_core.errors import DataError
from reid_core.types import Sample, Split

_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_CAMERA = re.compile(r"_c([0-9]{1,9})", re.ASCII)
_log = logging.getLogger(__name__)


def read(root: Path, *, train_split: str = "train") -> Split:
    """Read a data set of identity folders; no image is opened.

    Args:
        root: the folder.
        train_split: name of the folder with the training images; not looked at in the flat layout.

    Returns:
        A split with paths relative to ``root``, sorted. Without a training folder, but with query or gallery,
        ``train`` is empty.

    Raises:
        DataError: no such folder, no identity in it, an identity without an image, images outside identity folders,
            image formats that are not read, or junk outside the gallery.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; a folder with one folder an identity was expected.")
    # A folder called "train" with images directly in it is an identity of the flat layout.
    parts = [name for name in (train_split, "query", "gallery") if _folders(root / name)]
    if parts and train_split not in parts and train_split != "train":
        raise DataError(f"{root} has no folder {train_split!r} with identity folders in it; it has {_folders(root)}.")
    found = {part: _images(root, part) for part in parts or [""]}
    if not any(found.values()):
        raise DataError(f"{root} has no identity folders with images in it.")
    pids = number_identities(name for images in found.values() for name, _ in images)
    cameras = _cameras([path for images in found.values() for _, path in images])
    samples: dict[str, tuple[Sample, ...]] = {}
    for part, images in found.items():
        if part != "gallery" and any(name == "-1" for name, _ in images):
            raise DataError(f"{root / part / '-1'}: a folder called -1 holds junk, which only the gallery may have.")
        made = [
            Sample(path, pids[name], cameras.get(path, -1), "junk" if name == "-1" else "identity")
            for name, path in images
        ]
        samples[part] = tuple(sorted(made, key=lambda s: s.path))
    train_folder = train_split if parts else ""
    train, query, gallery = (samples.get(part, ()) for part in (train_folder, "query", "gallery"))
    return Split("pid_folders", root, train_folder, train, query, gallery, "market1501" if cameras else "any-camera")


def number_identities(names: Iterable[str]) -> dict[str, int]:
    """pid of every folder name: the integer itself where all are different integers from -1, else the sorted order."""
    unique = sorted(set(names))
    if all(_INTEGER.fullmatch(name) for name in unique):
        values = [int(name) for name in unique]
        if len(set(values)) == len(values) and min(values, default=0) >= -1:
            return dict(zip(unique, values))
    words = [name for name in unique if name != "-1"]
    return {**{name: i for i, name in enumerate(words)}, "-1": -1}


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))


def _images(root: Path, part: str) -> list[tuple[str, str]]:
    """(identity folder's name, path relative to ``root``) of every image of one part."""
    base = root / part if part else root
    stray = sorted(e.name for e in os.scandir(base) if e.is_file() and is_image(e.name))
    if stray:
        raise DataError(
            f"{base} holds images itself ({len(stray)}, like {stray[0]!r}); one folder an identity was expected, as in "
            f"{base / '0001' / stray[0]}. If identities are in the file names, another --dataset may read them, or list "
            "them in a manifest.csv."
        )
    images: list[tuple[str, str]] = []
    empty: list[str] = []
    for name in _folders(base):
        inside = _walk(base / name)
        if not inside:
            empty.append(name)
        images.extend((name, (f"{part}/" if part else "") + f"{name}/{path}") for path in inside)
    if empty and (images or part):
        raise DataError(
            f"{base}: {len(empty)} identity folders hold no JPEG or PNG image: {', '.join(map(repr, empty[:5]))}. "
            "Remove them, or put their images in."
        )
    return images


def _walk(folder: Path) -> list[str]:
    """Images below ``folder``, relative to it, with forward slashes."""
    images: list[str] = []
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(base, folder).replace(os.sep, "/")
        for name in files:
            if name.lower().endswith(tuple(FOREIGN)) and not name.startswith("."):
                raise DataError(
                    f"{os.path.join(base, name)}: only JPEG and PNG images are read; convert it, or remove it."
                )
            if is_image(name):
                images.append(name if below == "." else f"{below}/{name}")
    return sorted(images)


def _cameras(paths: list[str]) -> dict[str, int]:
    """Camera of every path, counted from 0; empty where not all file names have one."""
    found = {path: _CAMERA.search(path.rsplit("/", 1)[-1]) for path in paths}
    numbers = {path: int(match[1]) for path, match in found.items() if match}
    if numbers and len(numbers) < len(paths):
        without = next(path for path, match in found.items() if match is None)
        _log.warning(
            "%d of %d file names have a camera (_c1), %r has none: cameras are not used and the protocol is any-camera",
            len(numbers), len(paths), without,
        )  # fmt: skip
        return {}
    lowest = min(numbers.values(), default=0)
    return {path: number - (1 if lowest > 0 else 0) for path, number in numbers.items()}
