"""What a data set is measured by: its test images are classified, or its queries are ranked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from reid_core.engine.classify import classify
from reid_core.engine.evaluate import EvaluationOptions, evaluate
from reid_core.models._network import Network
from reid_core.types import Split

CURVES = ("mAP", "rank1", "accuracy", "balanced_accuracy", "lowest_recall")
"""The figures of a measurement that are followed over the epochs; each kind of measurement has some of them."""

CHOOSING = ("mAP", "balanced_accuracy")
"""The figure by which a validation set chooses an epoch: every kind of measurement has one of them."""


class Measurement(Protocol):
    """The outcome, whatever was measured."""

    def to_json(self) -> dict[str, Any]:
        """Network 0's figures at top level, all under ``networks``, those of all together under ``ensemble``."""


def is_measurable(split: Split) -> bool:
    """Whether there is something to measure."""
    return bool(split.test) or bool(split.query and split.gallery)


def measure_split(
    networks: Sequence[Network],
    split: Split,
    class_names: Sequence[str],
    options: EvaluationOptions,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
    train_counts: NDArray[np.int64] | None = None,
    post_progress: Callable[[int, int], None] | None = None,
) -> Measurement:
    """Measure networks on the test images, or the queries and gallery, of ``split``.

    Args:
        class_names: (C,) of the networks; ranking looks at none.
        train_counts: (C,) training images of each class, if known; ranking looks at none.
        progress, post_progress: see ``evaluate``.
    """
    if split.test:
        return classify(networks, split, class_names, options, device, progress, train_counts)
    return evaluate(networks, split, options, device, progress, post_progress)


def curves(figures: dict[str, Any]) -> dict[str, float]:
    """Those of ``CURVES`` that a network's figures have."""
    return {name: figures[name] for name in CURVES if name in figures}
