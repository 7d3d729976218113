"""From a split to what training sees: class numbers, given labels, and only images that can be read."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_core.config import TrainConfig
from reid_core.data._images import check_images, settle_bad_images
from reid_core.data._labels import FileLabels, read_labels
from reid_core.data._long_tail import keep_long_tail
from reid_core.errors import DataError
from reid_core.plugins import load
from reid_core.types import NoisyLabels, Sample, Split

SecondLabels = Callable[[tuple[Sample, ...], NDArray[np.int64], int], NDArray[np.int64]]
"""(training samples, true labels, C) to the second label of each sample: what patterned noise asks for."""


@dataclass(frozen=True)
class Validation:
    """Identities, or images of every class, cut off from training, by given label.

    Attributes:
        split: query and gallery, or test; ``pid`` is the given label as it was before the cut.
        class_names: the identities or classes that those numbers stand for.
    """

    split: Split
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class TrainingData:
    """Samples and their labels.

    Attributes:
        split: with unreadable images and the validation set's left out.
        labels: given and, where known, true labels.
        class_names: (C,) the identity that each class number stands for.
        skipped: number of unreadable images left out of training, query, gallery and test together.
        validation: what ``--val_ids`` or ``--val_images`` cut off, if anything.
    """

    split: Split
    labels: NoisyLabels
    class_names: tuple[str, ...]
    skipped: int = 0
    validation: Validation | None = None

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    @property
    def train_counts(self) -> NDArray[np.int64]:
        """(C,) training images of each class: by true label where it is known, for results alone, else as given."""
        labels = self.labels.given if self.labels.true is None else self.labels.true
        return np.bincount(labels[labels >= 0], minlength=self.num_classes)


def usable(split: Split, config: TrainConfig, progress: Callable[[int, int], None] | None = None) -> tuple[Split, int]:
    """``split`` without its unreadable images, and their number; what to do with them is the user's choice.

    Raises:
        DataError: an image cannot be read and ``--on_bad_image`` is ``error``; all of them are named.
    """
    samples = split.train + split.query + split.gallery + split.test
    paths = [split.root / sample.path for sample in samples]
    bad = settle_bad_images(
        check_images(paths, progress, workers=max(config.workers, 1)),
        len(paths),
        config.on_bad_image,
        config.max_bad_images,
    )

    def keep(part: Sequence[Sample]) -> tuple[Sample, ...]:
        return tuple(sample for sample in part if split.root / sample.path not in bad)

    rest = dataclasses.replace(
        split, train=keep(split.train), query=keep(split.query), gallery=keep(split.gallery), test=keep(split.test)
    )
    return rest, len(bad)


def class_names_of(split: Split) -> tuple[str, ...]:
    """(C,) names of the identities or classes that there are training images of, in the order of their pids."""
    pids = sorted({sample.pid for sample in split.train})
    return tuple(split.class_names[pid] if split.class_names else str(pid) for pid in pids)


def long_tailed(split: Split, config: TrainConfig) -> Split:
    """``split`` with the training images that ``--imbalance`` keeps; the noise's seed draws them."""
    if config.imbalance is None or config.imbalance_factor is None:
        return split
    _, labels = np.unique([sample.pid for sample in split.train], return_inverse=True)
    kept = keep_long_tail(labels.astype(np.int64), config.imbalance, config.imbalance_factor, config.noise_seed)
    return dataclasses.replace(split, train=tuple(split.train[i] for i in kept))


def _by_folder(found: FileLabels, class_names: tuple[str, ...]) -> FileLabels:
    """Words that are names of class folders as those folders' numbers: a class that no image is given to stays a class."""
    if found.names is None or not set(found.names) <= set(class_names):
        return found
    number = np.array([class_names.index(name) for name in found.names], np.int64)
    true = None if found.true is None else number[found.true]
    return FileLabels(number[found.given], true, len(class_names), None)


def training_labels(
    split: Split, config: TrainConfig, second_labels: SecondLabels
) -> tuple[NoisyLabels, tuple[str, ...]]:
    """Given labels and class names: from ``--labels``, or true labels with the noise that was asked for.

    Identities sorted by pid are classes 0..C-1; samples are in the order of their paths.

    Raises:
        DataError: fewer than two identities, or a label file that does not fit.
    """
    pids = np.array([sample.pid for sample in split.train], np.int64)
    classes, inverse = np.unique(pids, return_inverse=True)
    true, class_names = inverse.astype(np.int64), class_names_of(split)
    if config.labels is not None:
        found = read_labels(Path(config.labels), split.train, split.train_folder)
        if split.class_names:
            found = _by_folder(found, class_names)
        noisy = NoisyLabels(found.given, found.true, "file", 0.0, config.noise_seed)
        # A run's own labels.csv counts identities as we do; then the classes keep the identities' names.
        ours = found.names is None and found.true is not None and np.array_equal(found.true, true)
        # Of class folders, numbers from 0 are places in the sorted list of folders, as everywhere.
        ours = ours or bool(split.class_names and found.names is None and found.num_classes <= len(class_names))
        if not ours:
            class_names = found.names or tuple(str(c) for c in range(found.num_classes))
    else:
        if config.noise_ratio == 0:
            noisy = NoisyLabels(true, true, "none", 0.0, config.noise_seed)
        elif config.noise == "patterned":
            module = load("reid_core.noise", "patterned")
            chosen = second_labels(split.train, true, len(classes))
            noisy = module.corrupt(true, config.noise_ratio, config.noise_seed, second_labels=chosen)
        else:
            corrupt = load("reid_core.noise", config.noise).corrupt
            known = {
                "num_classes": len(class_names),
                "class_names": class_names,
                "asymmetric_pairs": config.asymmetric_pairs,
            }
            wanted = {name: known[name] for name in inspect.signature(corrupt).parameters if name in known}
            noisy = corrupt(true, config.noise_ratio, config.noise_seed, **wanted)
    if len(class_names) < 2:
        raise DataError(f"{split.root}: training needs at least two identities, found {len(class_names)}")
    if len(split.train) < 2:
        raise DataError(f"{split.root}: training needs at least two images, found {len(split.train)}")
    return noisy, class_names
