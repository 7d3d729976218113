"""Cross-entropy with the given labels: what every other method is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_core.methods._outputs import cross_entropy, evidence
from reid_core.methods._plan import Plan
from reid_core.types import Batch, EpochRecords, NetOutput, Phase, StepResult


@dataclass
class Baseline:
    """One network, mean cross-entropy with the given labels."""

    num_networks: int = 1

    def step(self, outputs: Sequence[NetOutput], batch: Batch) -> StepResult:
        """Mean cross-entropy of network 0; ``given_loss`` and ``loss`` are the same values."""
        loss = cross_entropy(outputs[0], batch.labels)
        rows = loss.detach()[None]
        return StepResult([loss.mean()], {**evidence(outputs, batch.labels), "loss": rows, "given_loss": rows})

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
