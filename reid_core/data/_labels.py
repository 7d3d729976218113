"""Label files: ``--labels FILE.csv`` read against the training images, and the run's own ``labels.csv``."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_core.data._csv import is_utf8, read_csv, write_csv
from reid_core.errors import DataError
from reid_core.types import NoisyLabels, Sample

COLUMNS = ("path", "label", "true_label", "noise")
"""Of a run's ``labels.csv``: path relative to the training folder, given label, true label or empty, noise model."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True)
class FileLabels:
    """Labels read from a file, in the order of the training images.

    Attributes:
        given: (N,) int64 in [0, C).
        true: (N,) int64 in [0, C) where every row has a ``true_label``, else None.
        num_classes: C. A label without any image is possible only where ``true`` has images of it.
        names: (C,) the words used in the file, sorted; None where it has integers.
    """

    given: NDArray[np.int64]
    true: NDArray[np.int64] | None
    num_classes: int
    names: tuple[str, ...] | None

    def to_noisy(self) -> NoisyLabels:
        """The labels as the noise models hand them over: kind ``file``, no ratio, no seed."""
        ratio = 0.0 if self.true is None else float(np.mean(self.given != self.true))
        return NoisyLabels(self.given, self.true, "file", ratio, 0)


def read_labels(path: str | Path, train: Sequence[Sample], train_folder: str = "") -> FileLabels:
    """Labels of all training images from a CSV file with the columns ``path`` and ``label``.

    Labels are either all integers, then 0 to C-1 with an image for each, or all words, then numbered in their sorted
    order. One word among integers is an error, as it is more likely a slip than a name. A ``true_label`` column, as in
    a run's own ``labels.csv``, is read along (for reports; training never sees it), and a class that noise has emptied
    still counts. Other columns are ignored.

    Args:
        path: the CSV file.
        train: the training images, each of which needs exactly one row.
        train_folder: ``Split.train_folder``: paths in the file are relative to it.

    Raises:
        DataError: see ``read_csv``; unknown paths, images without a row or with two, an empty, negative, fractional or
            mixed label, or integers with gaps.
    """
    path = Path(path)
    given: list[tuple[int, str]] = [(0, "")] * len(train)
    true: list[tuple[int, str]] = [(0, "")] * len(train)
    unknown: list[tuple[int, str]] = []
    doubled: list[tuple[int, int]] = []
    names = _Names([relative(sample.path, train_folder) for sample in train])
    for line, row in read_csv(path, ("path", "label"), ("true_label",)):
        index = names.find(row["path"])
        if index is None:
            unknown.append((line, row["path"]))
        elif given[index][0]:
            doubled.append((line, given[index][0]))
        else:
            given[index] = (line, row["label"].strip())
            true[index] = (line, row["true_label"].strip())
        if len(unknown) > len(train) + 1000:
            break  # a file of something else; enough is known to say so
    where = f"the training folder{f' {train_folder}' if train_folder else ''}"
    if unknown:
        raise DataError(
            f"{path}: {len(unknown)} rows name no training image: {_few(f'line {n} {p!r}' for n, p in unknown)}. "
            f"Paths are relative to {where}, like {names.known[0]!r}.{names.hint(unknown[0][1])}"
            if train
            else f"{path}: there are no training images to label."
        )
    if doubled:
        raise DataError(
            f"{path}: {len(doubled)} images are labelled twice: "
            f"{_few(f'lines {first} and {again}' for again, first in doubled)}. Keep one row an image."
        )
    missing = [name for name, (line, _) in zip(names.known, given) if line == 0]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(train)} training images have no row: {_few(map(repr, missing))}. "
            "Every training image needs a label; add rows, or move unlabelled images out of the training folder."
        )
    return _numbered(path, given, true if all(text for _, text in true) else None)


def write_labels(
    path: str | Path,
    train: Sequence[Sample],
    labels: NoisyLabels,
    train_folder: str = "",
    class_names: Sequence[str] | None = None,
) -> None:
    """Write a run's ``labels.csv``: ``COLUMNS``, a row an image in the order of ``train``; whole or not at all.

    Args:
        path: the file; replaced if it is there.
        train: (N,) training images.
        labels: (N,) labels; ``true_label`` stays empty where the truth is not known or is no class (-1).
        train_folder: ``Split.train_folder``.
        class_names: (C,) if given, the columns ``class`` and ``true_class`` say the labels in words too.

    Raises:
        ValueError: the labels are not as many as the images.
    """
    known = np.full(len(train), -1) if labels.true is None else labels.true
    true = [None if label < 0 else label for label in known.tolist()]
    if not len(train) == len(labels.given) == len(true):
        raise ValueError(
            f"{len(train)} images, {len(labels.given)} given and {len(true)} true labels: one each expected"
        )
    given = labels.given.tolist()
    columns = [[relative(s.path, train_folder) for s in train], given, true, [labels.kind] * len(train)]
    if class_names is None:
        write_csv(path, COLUMNS, zip(*columns))
        return
    columns += [[class_names[c] for c in given], [None if c is None else class_names[c] for c in true]]
    write_csv(path, (*COLUMNS, "class", "true_class"), zip(*columns))


def relative(path: str, train_folder: str) -> str:
    """``path`` (relative to the split's root) relative to the training folder."""
    return path[len(train_folder) + 1 :] if train_folder and path.startswith(train_folder + "/") else path


class _Names:
    """Finds images by the path in a row: exactly, else with ``\\`` for ``/`` and any Unicode form of an accent."""

    def __init__(self, known: list[str]) -> None:
        self.known = known
        self._exact = {name: i for i, name in enumerate(known)}
        self._loose: dict[str, int | None] = {}
        for i, name in enumerate(known):
            key = self._key(name)
            self._loose[key] = None if key in self._loose else i  # ambiguous: only the exact name will do

    @staticmethod
    def _key(name: str) -> str:
        key = unicodedata.normalize("NFC", name.replace("\\", "/"))
        return key.removeprefix("./")

    def find(self, name: str) -> int | None:
        found = self._exact.get(name)
        return self._loose.get(self._key(name)) if found is None else found

    def hint(self, name: str) -> str:
        """What may be wrong with an unknown path."""
        if not is_utf8(name):
            return " The file is not UTF-8; save it as CSV UTF-8."
        base = self._key(name).rsplit("/", 1)[-1]
        same = next((k for k in self.known if self._key(k).rsplit("/", 1)[-1] == base), None)
        return f" Did you mean {same!r}?" if same else ""


def _few(items: Iterator[str]) -> str:
    """The first five, joined."""
    return "; ".join(text for text, _ in zip(items, range(5)))


def _numbered(path: Path, given: list[tuple[int, str]], true: list[tuple[int, str]] | None) -> FileLabels:
    """Texts to numbers 0..C-1, words by their sorted order."""
    cells = given + (true or [])
    for line, text in cells:
        if not text:
            raise DataError(f"{path}, line {line}: the label is empty; every image needs one.")
        if not is_utf8(text):
            raise DataError(f"{path}, line {line}: the label {text!r} is not UTF-8; save the file as CSV UTF-8.")
    words = [(line, text) for line, text in cells if _is_word(text)]
    if len(words) == len(cells):
        names = tuple(sorted({text for _, text in cells}))
        number = {name: i for i, name in enumerate(names)}
        values = np.array([number[text] for _, text in cells], dtype=np.int64)
    else:
        if words:
            line, text = words[0]
            raise DataError(
                f"{path}, line {line}: the label {text!r} is a word, but others are numbers ({len(words)} words, "
                f"{len(cells) - len(words)} numbers). Use integers 0 to C-1 throughout, or names throughout."
            )
        names = None
        values = np.array([_integer(path, line, text) for line, text in cells], dtype=np.int64)
        _check_gaps(path, values)
    count, whole = len(given), values.copy()
    return FileLabels(whole[:count], whole[count:] if true else None, int(values.max()) + 1, names)


def _is_word(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return True
    return False


def _integer(path: Path, line: int, text: str) -> int:
    value = int(text) if _INTEGER.fullmatch(text) else -1
    if value < 0:
        why = " (a spreadsheet or pandas wrote a decimal point: write whole numbers)" if "." in text else ""
        raise DataError(f"{path}, line {line}: labels are integers from 0, got {text!r}{why}.")
    return value


def _check_gaps(path: Path, values: NDArray[np.int64]) -> None:
    used = np.unique(values)
    wanted = np.arange(len(used))
    if not np.array_equal(used, wanted):
        first = int(wanted[used != wanted][0])
        raise DataError(
            f"{path}: the labels have gaps: {len(used)} different ones are used and should be 0 to {len(used) - 1}, but "
            f"{first} has no image and the largest is {int(used[-1])}. Number the identities without gaps (identity "
            "numbers as they are in file names are not labels), or write names instead of numbers."
        )
