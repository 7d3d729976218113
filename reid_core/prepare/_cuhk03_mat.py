"""CUHK03 from its MATLAB release: ``cuhk-03.mat`` and, for the new protocol, the two files that define it.

``cuhk-03.mat`` is HDF5: ``detected`` and ``labeled`` refer to five camera pairs, each a table (identities, 10) of
references to (H, W, 3) images or to nothing, the first five columns view 1; ``testsets`` refers to 20 tables (100, 2)
of (pair, identity), from 1. MATLAB stores columns first, so every array arrives transposed. The protocol files hold
``filelist``, ``labels`` and the 1-based ``train_idx, query_idx, gallery_idx``.

Images become PNG files when they are placed. In the classic protocol every test image is both query and gallery, as
common toolboxes have it: the same camera's images are dropped from a query's ranking.
"""

from __future__ import annotations

import io
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reid_core.data._layout import Layout, samples_of
from reid_core.errors import DataError, UsageError
from reid_core.prepare._plan import Item, place

DATA = "cuhk-03.mat"
_CROP = re.compile(r"([1-5])_([0-9]{1,4})_([12])_([0-9]{1,2})\.png")


@dataclass(frozen=True)
class MatSource:
    """The crops of ``cuhk-03.mat`` as files: ``crops`` maps a file name to (pair, identity, image), all from 1."""

    path: Path
    file: Any = field(repr=False)
    images: str
    crops: Mapping[str, tuple[int, int, int]] = field(repr=False)

    @property
    def where(self) -> str:
        return str(self.path)

    def entries(self, folder: str) -> tuple[list[str], list[str]] | None:
        return None if folder else ([], sorted(self.crops))

    def read_text(self, path: str) -> str:
        raise DataError(f"{self.path} holds no text file {path!r}.")

    def size(self, path: str) -> int:
        return -1

    def tag(self, path: str) -> str:
        return ""

    def stream(self, path: str) -> Iterator[bytes]:
        """The crop as a PNG file."""
        pair, identity, image = self.crops[path]
        pixels = _crop(self.file, _pair_table(self.file, self.images, pair)[identity - 1, image - 1])
        if pixels is None:
            raise DataError(f"{self.path}: crop {path} of {self.images} is empty.")
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
        yield buffer.getvalue()

    def on_disk(self, path: str) -> Path | None:
        return None

    def below(self, folder: str) -> MatSource:
        return self

    def verify(self, paths: list[str]) -> None:
        """HDF5 notices damage when it reads."""


def find(src: Path) -> Path | None:
    """``cuhk-03.mat`` at or up to two folders below ``src``, or None."""
    if src.suffix.lower() == ".mat":
        return src
    if not src.is_dir():
        return None
    return next((p for depth in ("", "*/", "*/*/") for p in sorted(src.glob(depth + DATA))), None)


def plan(layout: Layout, path: Path, options: Mapping[str, str]) -> tuple[MatSource, list[Item]]:
    """Source and placements for one kind of boxes and one protocol.

    Args:
        layout: CUHK03's.
        path: ``cuhk-03.mat``.
        options: ``images`` (detected, labeled), ``protocol`` (new, classic), ``test_split`` (1 to 20).

    Raises:
        UsageError: h5py is not installed, or a split that does not exist.
        DataError: a file is missing or is not what it should be.
    """
    try:
        import h5py
    except ImportError as error:
        raise UsageError(
            f"reading {path} needs h5py: pip install 'reid-core[cuhk03]', or name a CUHK03-NP folder instead."
        ) from error
    images = options["images"]
    try:
        file = h5py.File(path, "r")
        crops = _all_crops(file, images)
        if options["protocol"] == "classic":
            wanted = _classic(file, crops, int(options["test_split"]))
        else:
            wanted = _new(path, images, crops)
    except (OSError, KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, (DataError, UsageError)):
            raise
        raise DataError(f"{path} is not CUHK03's {DATA} ({error}); get it again.") from error
    renamed = {name: crops[crop] for listed in wanted.values() for name, crop in listed.items()}
    source = MatSource(path, file, images, renamed)
    samples = {split: samples_of(layout, sorted(listed), source.where, split) for split, listed in wanted.items()}
    return source, place(layout, source, samples)


def _pair_table(file: Any, images: str, pair: int) -> Any:
    """(identities, 10) references of a camera pair, counted from 1."""
    return file[file[images][()].reshape(-1)[pair - 1]][()].T


def _crop(file: Any, reference: Any) -> Any:
    """(H, W, 3) uint8, or None for an empty cell."""
    stored = file[reference]
    if stored.ndim < 3 or stored.size == 0:
        return None
    pixels = stored[()].T
    if pixels.dtype != np.uint8 or pixels.shape[-1] != 3:
        raise DataError(f"a crop has shape {pixels.shape} and type {pixels.dtype}; expected (H, W, 3) uint8.")
    return pixels


def _all_crops(file: Any, images: str) -> dict[str, tuple[int, int, int]]:
    """Every crop that is there, by its classic name."""
    crops = {}
    for pair in range(1, file[images].size + 1):
        table = _pair_table(file, images, pair)
        for identity, image in np.ndindex(*table.shape):
            stored = file[table[identity, image]]
            if stored.ndim >= 3 and stored.size:
                view = 1 if image < 5 else 2
                name = f"{pair}_{identity + 1:03d}_{view}_{image + 1:02d}.png"
                crops[name] = (pair, identity + 1, image + 1)
    return crops


def _classic(file: Any, crops: Mapping[str, tuple[int, int, int]], number: int) -> dict[str, dict[str, str]]:
    """Names by split, each with the crop it shows: here the same."""
    splits = file["testsets"][()].reshape(-1)
    if not 1 <= number <= len(splits):
        raise UsageError(f"--test_split must lie in [1, {len(splits)}], got {number}.")
    tested = {(int(pair), int(identity)) for pair, identity in file[splits[number - 1]][()].T}
    test = {name: name for name, crop in crops.items() if crop[:2] in tested}
    train = {name: name for name, crop in crops.items() if crop[:2] not in tested}
    return {"train": train, "query": test, "gallery": test}


def _new(path: Path, images: str, crops: Mapping[str, tuple[int, int, int]]) -> dict[str, dict[str, str]]:
    """Names by split in CUHK03-NP's style, each with the crop it shows."""
    protocol = _protocol_file(path, images)
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(str(protocol))
    except (MatReadError, NotImplementedError, OSError, TypeError, ValueError, zlib.error) as error:
        raise DataError(f"{protocol} is not a MATLAB file that can be read ({error}); get it again.") from error
    names = [str(cell.item() if hasattr(cell, "item") else cell) for cell in content["filelist"].reshape(-1)]
    labels = content["labels"].reshape(-1)
    if len(labels) != len(names):
        raise DataError(f"{protocol}: {len(names)} names in filelist but {len(labels)} labels.")
    wanted: dict[str, dict[str, str]] = {}
    for split in ("train", "query", "gallery"):
        listed = {}
        for position in content[f"{split}_idx"].reshape(-1):
            if not 1 <= position <= len(names):
                raise DataError(f"{protocol}: {split}_idx holds {position}, expected 1 to {len(names)}.")
            crop = os.path.basename(names[int(position) - 1])
            match = _CROP.fullmatch(crop)
            if match is None or crop not in crops:
                raise DataError(f"{protocol}: {split} lists {crop!r}, which is no crop of {images} in {path}.")
            listed[f"{int(labels[int(position) - 1]):04d}_c{match[3]}_{int(match[4]):02d}.png"] = crop
        if len(listed) != content[f"{split}_idx"].size:
            raise DataError(f"{protocol}: {split}_idx lists an image twice.")
        wanted[split] = listed
    return wanted


def _protocol_file(path: Path, images: str) -> Path:
    found: Sequence[Path] = sorted(path.parent.glob(f"*config*{images}*.mat"))
    if len(found) != 1:
        raise DataError(
            f"the new protocol needs cuhk03_new_protocol_config_{images}.mat beside {path}, found {len(found)} such "
            "files. Put it there, or use --protocol classic."
        )
    return found[0]
