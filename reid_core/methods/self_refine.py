"""SELF: progressive self label refining. Its confidence rises as the given labels become easy to fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reid_core.errors import NumericalError
from reid_core.methods._outputs import evidence, label_refine
from reid_core.methods._plan import Plan
from reid_core.types import Batch, EpochRecords, NetOutput, Phase, StepResult


@dataclass
class SelfRefine:
    """Each network refines its own labels; networks do not see each other.

    Attributes:
        num_networks: one, or two as the first phase of CORE.
        confidence_from: which loss the confidence is made of: ``base`` (cross-entropy with the given labels, as the
            paper writes) or ``combined`` (the loss that is minimised, as the released program does).
        confidence: lambda of each network, constant within an epoch; 0 in the first.

    Reference:
        M. Ye et al., "Collaborative Refining for Person Re-Identification With Label Noise", IEEE TIP 31, 2022.

    Differs from the authors' code:
        the confidence is ``1 / (1 + A)`` with A the mean over samples, not over batch means, so that a short last
        batch does not count more; A is the cross-entropy with the given labels unless ``combined`` is asked for.
    """

    num_networks: int = 1
    confidence_from: str = "base"
    confidence: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.confidence_from not in ("base", "combined"):
            raise ValueError(f"confidence_from must be base or combined, got {self.confidence_from!r}")
        self.confidence = self.confidence or [0.0] * self.num_networks

    def step(self, outputs: Sequence[NetOutput], batch: Batch) -> StepResult:
        """Mean refined loss of each network."""
        losses = [
            label_refine(output, batch.labels, confidence) for output, confidence in zip(outputs, self.confidence)
        ]
        seen = evidence(outputs, batch.labels)
        rows = torch.stack([loss.detach() for loss in losses])
        return StepResult([loss.mean() for loss in losses], {**seen, "loss": rows, "refined_label": seen["prediction"]})

    def begin(self, labels: NDArray[np.int64], num_classes: int) -> None:
        """Nothing is made of all labels."""

    def start_epoch(self, epoch: int) -> None:
        """The confidence of the epoch was set when the one before ended."""

    def end_epoch(self, records: EpochRecords) -> None:
        """Set each network's confidence to ``1 / (1 + A)``, A the epoch's mean loss over the visited samples.

        Raises:
            NumericalError: an average is not finite.
        """
        losses = records["given_loss" if self.confidence_from == "base" else "loss"]
        for k, row in enumerate(losses):
            seen = row[~np.isnan(row)].astype(np.float64)
            average = float(seen.mean()) if len(seen) else float("nan")
            if not np.isfinite(average):
                raise NumericalError(
                    f"the mean loss of network {k} over the epoch is {average}, so its confidence cannot be set; "
                    "lower --lr and start from the last checkpoint with --resume"
                )
            self.confidence[k] = 1.0 / (1.0 + average)

    def state_dict(self) -> dict[str, Any]:
        """The confidences: a run resumed without them would be another run."""
        return {"confidence": list(self.confidence)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the confidences."""
        self.confidence = [float(value) for value in state["confidence"]]


def recipe(plan: Plan, confidence_from: str = "base") -> list[Phase]:
    """One network, one phase over the whole run."""
    return [Phase("self_refine", SelfRefine(1, confidence_from), plan.epochs, plan.single_phase_rate())]
