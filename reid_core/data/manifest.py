"""Users' own data as one CSV file: ``path,pid,camid,split``, a row an image.

- ``path``: relative to the CSV's folder, forward slashes. Paths and links that lead outside are refused, unless the
  caller allows it: a manifest may come from somebody else.
- ``pid``: any integer from 0, an ordinary identity, 0 too. -1 marks junk, which is left out of every ranking and
  belongs to the gallery alone. Distractors need no mark: an identity that no query has can never match.
- ``camid``: any integer from 0, in every row or in none. Without cameras the protocol is ``any-camera``.
- ``split``: ``train``, ``query`` or ``gallery``. The manifests that ``reid-core prepare`` writes have ``train_all``,
  ``val`` and ``multi-query`` too, and ``train_split`` picks among them; rows of the others are left aside.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from reid_core.data._csv import read_csv
from reid_core.data._paths import Boundary, unsafe
from reid_core.errors import DataError
from reid_core.plugins import closest
from reid_core.types import Sample, Split

FILE_NAME = "manifest.csv"
SPLITS = ("train", "query", "gallery", "train_all", "val", "multi-query")

_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)


def read(root: Path, *, train_split: str = "train", allow_outside: bool = False) -> Split:
    """Read a manifest; no image is opened, but each must be there.

    Args:
        root: the CSV file, or a folder with a ``manifest.csv`` in it.
        train_split: rows of this split are the training images.
        allow_outside: accept absolute paths, ``..`` and links that lead out of the manifest's folder.

    Returns:
        A split whose root and training folder are the manifest's folder; training, query and gallery sorted by path.

    Raises:
        DataError: no such file, wrong columns or cells, a path that leads outside, names a missing file or stands
            twice in a split, or cameras in some rows only; the message names file and line.
    """
    file = root / FILE_NAME if root.is_dir() else root
    folder = file.parent
    boundary = None if allow_outside else Boundary(folder)
    samples: dict[str, list[Sample]] = {name: [] for name in SPLITS}
    lines: dict[tuple[str, str], int] = {}
    who: dict[str, tuple[int, int]] = {}
    missing: list[str] = []
    first_with = first_without = 0
    for line, row in read_csv(file, ("path", "pid", "split"), ("camid",)):
        where = f"{file}, line {line}"
        split = _split(where, row["split"].strip())
        pid, camid = _pid(where, row["pid"].strip(), split), _camid(where, row["camid"].strip())
        path = _path(where, folder, row["path"], boundary)
        if (path, split) in lines:
            raise DataError(f"{where}: {path!r} stands in {split} already, in line {lines[path, split]}.")
        if who.setdefault(path, (pid, line))[0] != pid:
            raise DataError(f"{where}: {path!r} has pid {pid} here and {who[path][0]} in line {who[path][1]}.")
        lines[path, split] = line
        first_with, first_without = (
            (first_with or line, first_without) if camid >= 0 else (first_with, first_without or line)
        )
        if not os.path.isfile(folder / path):
            missing.append(f"line {line} {path!r}")
        samples[split].append(Sample(path, pid, camid, "junk" if pid == -1 else "identity"))
    if missing:
        raise DataError(
            f"{file}: {len(missing)} of {len(lines)} images are not there: {'; '.join(missing[:5])}. Paths are relative "
            f"to {folder}; put the images there, or remove the rows."
        )
    if not lines:
        raise DataError(f"{file} has a header but no rows; one row an image was expected.")
    if first_with and first_without:
        raise DataError(
            f"{file}: line {first_without} has no camid, line {first_with} has one. Give every image a camera, or "
            "leave the column out to rank without cameras."
        )
    train, query, gallery = (
        tuple(sorted(samples[name], key=lambda s: s.path))
        for name in (_split("train_split", train_split), "query", "gallery")
    )
    protocol = "market1501" if first_with else "any-camera"
    return Split("manifest", folder, "", train, query, gallery, protocol)


def _split(where: str, name: str) -> str:
    if name not in SPLITS:
        raise DataError(f"{where}: split must be train, query or gallery, got {name!r}.{closest(name, SPLITS)}")
    return name


def _pid(where: str, text: str, split: str) -> int:
    if not _INTEGER.fullmatch(text) or int(text) < -1:
        raise DataError(
            f"{where}: pid must be an integer from 0, or -1 for junk, got {text!r}; number the identities, or use one "
            "folder an identity (--dataset pid_folders), where names may be words."
        )
    if int(text) == -1 and split != "gallery":
        raise DataError(f"{where}: pid -1 marks junk, which only the gallery may hold, but the row is of {split}.")
    return int(text)


def _camid(where: str, text: str) -> int:
    if text in ("", "-1"):
        return -1
    if not _INTEGER.fullmatch(text) or int(text) < 0:
        raise DataError(f"{where}: camid must be an integer from 0, or empty in all rows, got {text!r}.")
    return int(text)


def _path(where: str, folder: Path, path: str, boundary: Boundary | None) -> str:
    if not path or "\0" in path:
        raise DataError(f"{where}: a path was expected, got {path!r}.")
    if boundary is None:
        return path
    reason = unsafe(path)
    if not reason and boundary.crossed_by(path):
        reason = "a link on the way leads elsewhere"
    if reason:
        raise DataError(
            f"{where}: the path {path!r} is refused: {reason}. Paths must stay below {folder}; if you trust the file, "
            "add --allow_outside."
        )
    return path
