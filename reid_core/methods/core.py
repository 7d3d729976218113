"""CORE: two networks refine their own labels first, then teach each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reid_core.methods._outputs import co_refine_pair, evidence
from reid_core.methods._plan import Plan
from reid_core.methods._switch import ready_to_switch
from reid_core.methods.self_refine import SelfRefine
from reid_core.types import Batch, EpochRecords, NetOutput, Phase, StepResult


@dataclass
class CoRefine:
    """Each network learns the other's hard and soft predictions; no given label is looked at.

    Attributes:
        soft_weight: weight of the soft term (mu).
        agree_weight, disagree_weight: weights of the hard term where the networks agree and disagree.

    Reference:
        M. Ye et al., "Collaborative Refining for Person Re-Identification With Label Noise", IEEE TIP 31, 2022.

    Differs from the authors' code:
        selective consistency masks the hard term a sample at a time (see ``losses/co_refine.py``). Outside the published
        schedules dropout rests in this phase: a network whose units drop out is a noisy teacher, its slips become the
        other's labels, and identities die out (``docs/results.md``: 66 of 86 left instead of 81 at 50 % noise).
    """

    soft_weight: float = 1.0
    agree_weight: float = 1.0
    disagree_weight: float = 1.0
    num_networks: int = 2

    def step(self, outputs: Sequence[NetOutput], batch: Batch) -> StepResult:
        """Mean co-refining loss of both networks, each with the other as its constant teacher."""
        pair = co_refine_pair(outputs, self.soft_weight, self.agree_weight, self.disagree_weight)
        seen = evidence(outputs, batch.labels)
        records = {
            **seen,
            "loss": torch.stack([loss.detach() for loss in pair]),
            "refined_label": seen["prediction"].flip(0),
            "selected": seen["prediction"][0] == seen["prediction"][1],
        }
        return StepResult([loss.mean() for loss in pair], records)

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


def recipe(
    plan: Plan, soft_weight: float | None = None, selective: bool = False, confidence_from: str = "base"
) -> list[Phase]:
    """SELF on both networks until the switch, then CORE, whose ``soft_weight`` is 1 unless given."""
    first = Phase(
        "self_refine",
        SelfRefine(2, confidence_from),
        plan.last_switch,
        plan.rate(second_phase=False),
        min_epochs=plan.earliest if plan.switch is None else plan.last_switch,
        end_when=ready_to_switch if plan.switch is None else None,
    )
    second = Phase(
        "core",
        CoRefine(1.0 if soft_weight is None else soft_weight, disagree_weight=0.0 if selective else 1.0),
        plan.epochs - plan.last_switch,
        plan.rate(second_phase=True),
        watch_collapse=True,
        dropout=plan.published,
    )
    return [first, second]
