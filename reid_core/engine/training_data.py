"""From a split to what training sees: class numbers, given labels, and only images that can be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_core.config import TrainConfig
from reid_core.data._images import check_images, settle_bad_images
from reid_core.data._labels import read_labels
from reid_core.errors import DataError
from reid_core.noise.random import corrupt as corrupt_at_random
from reid_core.plugins import load
from reid_core.types import NoisyLabels, Sample, Split

SecondLabels = Callable[[tuple[Sample, ...], NDArray[np.int64], int], NDArray[np.int64]]
"""(training samples, true labels, C) to the second label of each sample: what patterned noise asks for."""


@dataclass(frozen=True)
class Validation:
    """Identities cut off from training, by given label.

    Attributes:
        split: query and gallery; ``pid`` is the given label as it was before the cut.
        class_names: the identities that those numbers stand for.
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
        skipped: number of unreadable images left out of training, query and gallery together.
        validation: what ``--val_ids`` cut off, if anything.
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


def usable(split: Split, config: TrainConfig, progress: Callable[[int, int], None] | None = None) -> tuple[Split, int]:
    """``split`` without its unreadable images, and their number; what to do with them is the user's choice.

    Raises:
        DataError: an image cannot be read and ``--on_bad_image`` is ``error``; all of them are named.
    """
    samples = split.train + split.query + split.gallery
    paths = [split.root / sample.path for sample in samples]
    bad = settle_bad_images(
        check_images(paths, progress, workers=max(config.workers, 1)),
        len(paths),
        config.on_bad_image,
        config.max_bad_images,
    )

    def keep(part: Sequence[Sample]) -> tuple[Sample, ...]:
        return tuple(sample for sample in part if split.root / sample.path not in bad)

    rest = Split(
        split.dataset,
        split.root,
        split.train_folder,
        keep(split.train),
        keep(split.query),
        keep(split.gallery),
        split.protocol,
    )
    return rest, len(bad)


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
    true, class_names = inverse.astype(np.int64), tuple(str(pid) for pid in classes)
    if config.labels is not None:
        found = read_labels(Path(config.labels), split.train, split.train_folder)
        noisy = NoisyLabels(found.given, found.true, "file", 0.0, config.noise_seed)
        # A run's own labels.csv counts identities as we do; then the classes keep the identities' names.
        ours = found.names is None and found.true is not None and np.array_equal(found.true, true)
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
            corrupt = corrupt_at_random if config.noise == "random" else load("reid_core.noise", config.noise).corrupt
            noisy = corrupt(true, config.noise_ratio, config.noise_seed)
    if len(class_names) < 2:
        raise DataError(f"{split.root}: training needs at least two identities, found {len(class_names)}")
    if len(split.train) < 2:
        raise DataError(f"{split.root}: training needs at least two images, found {len(split.train)}")
    return noisy, class_names
