"""How many of the samples that two networks predict alike are refused: a ramp to a given share, or to a measured one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reid_core.errors import UsageError
from reid_core.types import EpochRecords

PUBLISHED_RAMP = 10


def ramped(epoch: int, final: float, ramp: int) -> float:
    """The drop rate of ``epoch``, from 0: ``final * epoch / (ramp - 1)`` until ``final`` is reached in epoch ``ramp - 1``.

    With a ramp of at most 1: 0 in epoch 0, ``final`` from epoch 1 on.
    """
    if epoch >= ramp - 1:
        return final if epoch > 0 else 0.0
    return final * epoch / (ramp - 1)


def refused_share(records: EpochRecords, labels: NDArray[np.int64]) -> float | None:
    """The share, among the samples that both networks predict alike, of those whose given label is another.

    Args:
        records: of an epoch; ``prediction`` (2, N), -1 where a sample was not visited.
        labels: (N,) given labels.

    Returns:
        The share in [0, 1], or None where the networks agree on no sample.
    """
    prediction = records["prediction"]
    agreed = (prediction[0] == prediction[1]) & (prediction[0] >= 0)
    return float((prediction[0] != labels)[agreed].mean()) if agreed.any() else None


@dataclass
class DropRate:
    """The drop rate of each epoch of a phase.

    Attributes:
        final: the share at the end of the ramp, or None: the least ``refused_share`` of the epochs so far. The least one,
            because what is refused is taught by the networks' own predictions: the share itself runs away with them.
        ramp: epochs of the phase until ``final`` is reached.
        of_each_batch: instead of all that, the share of each batch, from the first: as many are refused as both networks
            refute. For networks that know much already when the phase begins: a share of the epoch before refuses too few
            of a batch with many wrong labels, and those are learnt.
        epochs: how many epochs of the phase have begun.
        least: the least share measured so far; None before the first.
        labels: (N,) given labels that it is measured on; None before ``watch``.
    """

    final: float | None
    ramp: int
    of_each_batch: bool = False
    epochs: int = 0
    least: float | None = None
    labels: NDArray[np.int64] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of_settings(
        cls, drop_rate: str | None, drop_ramp: int | None, default: str, of_each_batch: bool = False
    ) -> DropRate:
        """From ``--drop_rate`` (a number in [0, 1], ``auto`` or None for ``default``) and ``--drop_ramp``.

        None for the ramp: the published 10 epochs to a given share; a measured share is used as it is from the second
        epoch on, or that ``of_each_batch``.

        Raises:
            UsageError: the drop rate is neither.
        """
        text = default if drop_rate is None else drop_rate
        if text == "auto":
            return cls(None, 1 if drop_ramp is None else drop_ramp, of_each_batch and drop_ramp is None)
        try:
            final = float(text)
        except ValueError:
            final = -1.0
        if not 0.0 <= final <= 1.0:
            raise UsageError(f"--drop_rate must be a number in [0, 1] or auto, got {text}")
        return cls(final, PUBLISHED_RAMP if drop_ramp is None else drop_ramp)

    @property
    def now(self) -> float:
        """The drop rate of the epoch that began last, where batches have not their own."""
        final = self.least if self.final is None else self.final
        return 0.0 if final is None else ramped(max(self.epochs - 1, 0), final, self.ramp)

    def of_batch(self, predictions: Tensor, labels: Tensor) -> float | Tensor:
        """The drop rate for a batch of (2, B) ``predictions`` and (B,) given ``labels``; (), where it is the batch's own."""
        if not self.of_each_batch:
            return self.now
        agreement = predictions[0] == predictions[1]
        refused = (agreement & (predictions[0] != labels)).sum()
        return refused.double() / agreement.sum().clamp(min=1)

    def watch(self, labels: NDArray[np.int64]) -> None:
        """The (N,) given labels to measure on."""
        self.labels = labels

    def start_epoch(self) -> None:
        """One step up the ramp."""
        self.epochs += 1

    def end_epoch(self, records: EpochRecords) -> None:
        """Measure the share, where it is asked for."""
        if self.final is not None or self.of_each_batch:
            return
        if self.labels is None:
            raise RuntimeError("begin() must be called before the first epoch: the drop rate is measured on all labels")
        share = refused_share(records, self.labels)
        if share is not None:
            self.least = share if self.least is None else min(self.least, share)

    def state_dict(self) -> dict[str, Any]:
        """Also ``drop_rate``, for the log alone: None where each batch has its own."""
        return {
            "drop_rate": None if self.of_each_batch else self.now,
            "drop_epochs": self.epochs,
            "drop_least": self.least,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the ramp stood."""
        self.epochs = int(state["drop_epochs"])
        self.least = None if state["drop_least"] is None else float(state["drop_least"])
