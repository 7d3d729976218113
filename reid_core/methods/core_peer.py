"""CORE with peer selection: a given label teaches where both networks allow it, the other network teaches elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reid_core.losses.peer_selection import PeerSelection
from reid_core.methods import core
from reid_core.methods._drop_rate import DropRate
from reid_core.methods._given_loss import GivenLoss
from reid_core.methods._outputs import co_refine_pair, evidence, rows_of
from reid_core.methods._peers import Peers
from reid_core.methods._plan import Plan
from reid_core.methods.peer import Peer
from reid_core.types import Batch, NetOutput, Phase, StepResult


@dataclass
class CorePeer(Peers):
    """Of network k with the peer j, sample by sample; the mean over the whole batch:

    | the networks predict | network j picked it | loss of network k |
    |---|---|---|
    | the same | yes | cross-entropy with the given label, with prior and smoothing |
    | the same | no | ``refused_weight`` x cross-entropy with j's prediction + ``soft_weight`` x cross-entropy with j's distribution |
    | not the same, one of them the given label | | ``supported_weight`` x cross-entropy with the given label + ``soft_weight`` x cross-entropy with j's distribution |
    | not the same, neither the given label | | ``differ_weight`` x cross-entropy with the given label + ``soft_weight`` x cross-entropy with j's distribution |

    The prior is in the first line alone, smoothing wherever the given label teaches.

    Attributes:
        soft_weight, refused_weight, supported_weight, differ_weight: as above.

    Reference:
        a combination of this package. Z. Sun et al., "Webly Supervised Fine-Grained Recognition: Benchmark Datasets and
        An Approach", ICCV 2021; M. Ye et al., "Collaborative Refining for Person Re-Identification With Label Noise",
        IEEE TIP 31, 2022.
    """

    soft_weight: float = 1.0
    refused_weight: float = 1.0
    supported_weight: float = 1.0
    differ_weight: float = 0.0

    def step(self, outputs: Sequence[NetOutput], batch: Batch) -> StepResult:
        """Both losses; ``selected`` says whose given label each network learnt, ``refined_label`` what it learnt."""
        seen = evidence(outputs, batch.labels)
        chosen = self.choose(outputs, batch.labels, seen)
        selected = chosen.picks.flip(0)
        pair = co_refine_pair(outputs, self.soft_weight, self.refused_weight, 0.0)
        given_weight = self._given_weight(chosen, batch.labels, like=pair[0])
        given = given_weight > 0
        losses: list[Tensor | None] = []
        rows = []
        for k, (output, refined) in enumerate(zip(outputs, pair)):
            easy = self.given.with_prior(rows_of(output, selected[k]), batch.labels[selected[k]])
            loss = refined.masked_scatter(selected[k], easy)
            if self.supported_weight or self.differ_weight:
                hard = self.given.plain(rows_of(output, given), batch.labels[given])
                loss = loss + torch.zeros_like(loss).masked_scatter(given, given_weight[given] * hard)
            losses.append(loss.mean() if self._teaches(selected[k], chosen.agreement, given) else None)
            rows.append(loss.detach())
        records = {
            **seen,
            "loss": torch.stack(rows),
            "selected": selected | given,
            "agreement": chosen.agreement,
            "refined_label": torch.where(selected | given, batch.labels, seen["prediction"].flip(0)),
        }
        return StepResult(losses, records)

    def _given_weight(self, chosen: PeerSelection, labels: Tensor, like: Tensor) -> Tensor:
        """Weights of the given label where the networks differ, 0 elsewhere; of the shape and type of the losses ``like``."""
        supported = (chosen.predictions == labels).any(dim=0)
        weight = torch.full_like(like, self.differ_weight).masked_fill(supported, self.supported_weight)
        return weight.masked_fill(chosen.agreement, 0.0)

    def _teaches(self, selected: Tensor, agreement: Tensor, given: Tensor) -> bool:
        """Whether any sample has a term: an optimizer that steps without one still decays the weights."""
        if self.soft_weight:
            return len(selected) > 0
        return bool((selected | given).any()) or (bool(self.refused_weight) and bool(agreement.any()))


AFTER_PEER = {"soft_weight": 0.5, "refused_weight": 0.0, "differ_weight": 1.0}
"""Networks that have learnt from given labels so far, rare classes among them, would forget those by teaching each other."""


def recipe(
    plan: Plan,
    drop_rate: str | None = None,
    drop_ramp: int | None = None,
    tau: float = 0.0,
    smoothing: float = 0.0,
    rank_with: str = "plain",
    min_keep: int = 0,
    soft_weight: float | None = None,
    refused_weight: float | None = None,
    supported_weight: float | None = None,
    differ_weight: float | None = None,
    confidence_from: str = "base",
    before_switch: str = "self_refine",
) -> list[Phase]:
    """SELF on both networks until CORE's switch, or peer learning where ``before_switch`` says so, then both together.

    Weights that are not given, soft, refused, supported and differ: 1, 1, 1 and 0; after peer learning 0.5, 0, 1 and 1
    (``docs/results.md``).

    Raises:
        UsageError: the drop rate is neither a share nor ``auto``.
    """
    first, second = core.recipe(plan, confidence_from=confidence_from)
    if before_switch == "peer":
        # One drop rate for both phases: its ramp goes on.
        drop = DropRate.of_settings(drop_rate, drop_ramp, default="0.25")
        peers = Peer(drop, GivenLoss(tau, smoothing), rank_with, min_keep)
        first = dataclasses.replace(first, name="peer", method=peers)
    else:
        drop = DropRate.of_settings(drop_rate, drop_ramp, default="auto", of_each_batch=True)
    weights: dict[str, Any] = dict(AFTER_PEER) if before_switch == "peer" else {}
    asked = {
        "soft_weight": soft_weight,
        "refused_weight": refused_weight,
        "supported_weight": supported_weight,
        "differ_weight": differ_weight,
    }
    weights |= {name: value for name, value in asked.items() if value is not None}
    method = CorePeer(drop, GivenLoss(tau, smoothing), rank_with, min_keep, **weights)
    return [first, dataclasses.replace(second, name="core_peer", method=method)]
