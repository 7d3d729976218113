"""Measure networks on test images whose classes they were trained on: each alone, and the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from reid_core.data._csv import read_csv
from reid_core.data._dataset import EvalImages, eval_loader
from reid_core.data._files import some
from reid_core.engine.evaluate import EvaluationOptions
from reid_core.engine.predict import predict
from reid_core.errors import DataError
from reid_core.metrics.classification import ClassificationResult, classification_metrics
from reid_core.models._network import Network
from reid_core.types import Split


@dataclass(frozen=True)
class Classification:
    """Results of each network in order, and of all together where there are two or more."""

    networks: tuple[ClassificationResult, ...]
    ensemble: ClassificationResult | None

    def to_json(self) -> dict[str, Any]:
        """Network 0 at top level, all under ``networks``, the pair under ``ensemble``."""
        networks = [result.to_json() for result in self.networks]
        together = None if self.ensemble is None else self.ensemble.to_json()
        return {**networks[0], "networks": networks, "ensemble": together}


def classify(
    networks: Sequence[Network],
    split: Split,
    class_names: Sequence[str],
    options: EvaluationOptions,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
    train_counts: NDArray[np.int64] | None = None,
) -> Classification:
    """Classify the test images of ``split``; with mirror images, logits are the mean of the two views'.

    Args:
        networks: their logits are those of ``class_names``.
        split: has ``test`` images; classes are found by name.
        class_names: (C,) what the networks were trained on.
        options: image size, mirror images, batch size and workers count here.
        progress: called with (images seen, images).
        train_counts: (C,) training images of each class, for many, medium and few.

    Raises:
        DataError: a test image is of a class that the networks do not know.
    """
    labels = labels_of_test(split, class_names)
    loader = eval_loader(EvalImages(split.root, split.test, options.transform()), options.batch_size, options.workers)
    total, views = len(split.test) * len(networks), 2 if options.flip else 1
    results, probabilities = [], np.zeros((len(split.test), len(class_names)))
    for k, network in enumerate(networks):
        base = k * len(split.test)
        tick = None if progress is None else (lambda done, base=base: progress(base + done, total))
        logits = predict(network, loader, device, options.flip, tick).logits / views
        results.append(classification_metrics(logits, labels, train_counts))
        probabilities += softmax(logits.astype(np.float64), axis=1) / len(networks)
    together = classification_metrics(probabilities, labels, train_counts) if len(networks) > 1 else None
    return Classification(tuple(results), together)


def labels_of_test(split: Split, class_names: Sequence[str]) -> NDArray[np.int64]:
    """(N,) the place in ``class_names`` of every test image's class.

    Raises:
        DataError: a class is not among them.
    """
    number = {name: c for c, name in enumerate(class_names)}
    used = sorted({split.class_names[sample.pid] for sample in split.test})
    unknown = [name for name in used if name not in number]
    if unknown:
        raise DataError(
            f"{split.root}: {len(unknown)} of {len(used)} test classes were not trained on: {some(unknown)}. The networks "
            f"know {some(list(class_names))}; measure with folders of these names"
        )
    return np.array([number[split.class_names[sample.pid]] for sample in split.test], np.int64)


def trained_counts(labels_file: Path, num_classes: int) -> NDArray[np.int64] | None:
    """(C,) training images of each class by a run's ``labels.csv``: by true label where it is known, else as given.

    None where there is no such file, or it is not of as many classes.
    """
    if not labels_file.is_file():
        return None
    rows = [row for _, row in read_csv(labels_file, ("path", "label"), ("true_label",))]
    labels = np.array([int(row["true_label"] or row["label"]) for row in rows], np.int64)
    counts = np.bincount(labels, minlength=num_classes)
    return counts if len(counts) == num_classes else None
