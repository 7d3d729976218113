"""The loss with given labels that peers allow: label smoothing, and where classes are unequal a prior of their counts."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_core.methods._outputs import balanced, cross_entropy
from reid_core.types import NetOutput

log = logging.getLogger(__name__)


@dataclass
class GivenLoss:
    """Smoothed cross-entropy of a network's logits, with ``tau * log counts`` added to them.

    Attributes:
        tau: strength of the prior; 1 is balanced softmax, 0 plain cross-entropy.
        smoothing: share of each label that is spread over all classes.
        counts: (C,) training images of each given label; None before ``count``.
    """

    tau: float = 0.0
    smoothing: float = 0.0
    counts: Tensor | None = None

    def count(self, labels: NDArray[np.int64], num_classes: int) -> None:
        """Count the (N,) given labels; a warning where the prior would have to speak of a class without any."""
        found = np.bincount(labels, minlength=num_classes)
        self.counts = torch.from_numpy(found)
        missing = np.flatnonzero(found == 0)
        if self.tau and len(missing):
            log.warning(
                "%d of %d classes have no training image (first: class %d); balanced softmax gives them next to no "
                "prior (1e-12 images), so nothing is ever taught as one of them",
                len(missing),
                num_classes,
                missing[0],
            )

    def with_prior(self, output: NetOutput, labels: Tensor, smoothing: float | None = None) -> Tensor:
        """(B,) losses with the prior, smoothed unless ``smoothing`` says otherwise."""
        share = self.smoothing if smoothing is None else smoothing
        if not self.tau:
            return cross_entropy(output, labels, share)
        if self.counts is None:
            raise RuntimeError("begin() must be called before the first step: the prior is made of all given labels")
        self.counts = self.counts.to(labels.device)
        return balanced(output, labels, self.counts, self.tau, share)

    def plain(self, output: NetOutput, labels: Tensor) -> Tensor:
        """(B,) losses without the prior."""
        return cross_entropy(output, labels, self.smoothing)
