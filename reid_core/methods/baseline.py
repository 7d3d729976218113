"""Cross-entropy with the given labels: what every other method is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reid_core.methods._outputs import cross_entropy, evidence
from reid_core.methods._plan import Plan
from reid_core.types import Batch, EpochRecords, NetOutput, Phase, StepResult


@dataclass
class Baseline:
    """Mean cross-entropy with the given labels; networks do not see each other.

    Attributes:
        num_networks: one, or two as the warm-up of a method that trains two.
        smoothing: share of each label that is spread over all classes.
    """

    num_networks: int = 1
    smoothing: float = 0.0

    def step(self, outputs: Sequence[NetOutput], batch: Batch) -> StepResult:
        """Mean cross-entropy of each network; without smoothing ``given_loss`` and ``loss`` are the same values."""
        losses = [cross_entropy(output, batch.labels, self.smoothing) for output in outputs]
        rows = torch.stack([loss.detach() for loss in losses])
        records = {**evidence(outputs, batch.labels), "loss": rows}
        if not self.smoothing:
            records["given_loss"] = rows
        return StepResult([loss.mean() for loss in losses], records)

    def begin(self, labels: NDArray[np.int64], num_classes: int) -> None:
        """Nothing is made of all labels."""

    def start_epoch(self, epoch: int) -> None:
        """Nothing changes from epoch to epoch."""

    def end_epoch(self, records: EpochRecords) -> None:
        """Nothing is learnt from the records."""

    def state_dict(self) -> dict[str, Any]:
        """No state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """No state."""


def recipe(plan: Plan) -> list[Phase]:
    """One phase over the whole run."""
    return [Phase("baseline", Baseline(), plan.epochs, plan.single_phase_rate())]
