"""CORE with peer selection: a given label teaches where both networks allow it, the other network teaches elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reid_core.methods import core
from reid_core.methods._drop_rate import DropRate
from reid_core.methods._given_loss import GivenLoss
from reid_core.methods._outputs import co_refine_pair, cross_entropy, evidence, rows_of
from reid_core.methods._peers import Peers
from reid_core.methods._plan import Plan
from reid_core.types import Batch, NetOutput, Phase, StepResult


@dataclass
class CorePeer(Peers):
    """Of network k with the peer j, sample by sample; the mean over the whole batch:

    | the networks predict | network j picked it | loss of network k |
    |---|---|---|
    | the same | yes | cross-entropy with the given label, with prior and smoothing + ``picked_soft_weight`` x cross-entropy with j's distribution |
    | the same | no | ``refused_weight`` x cross-entropy with j's prediction + ``soft_weight`` x cross-entropy with j's distribution |
    | not the same | | ``differ_weight`` x cross-entropy with the given label + ``soft_weight`` x cross-entropy with j's distribution |

    Attributes:
        soft_weight, refused_weight, differ_weight, picked_soft_weight: as above.

    Reference:
        a combination of this package. Z. Sun et al., "Webly Supervised Fine-Grained Recognition: Benchmark Datasets and
        An Approach", ICCV 2021; M. Ye et al., "Collaborative Refining for Person Re-Identification With Label Noise",
        IEEE TIP 31, 2022.
    """

    soft_weight: float = 1.0
    refused_weight: float = 1.0
    differ_weight: float = 0.0
    picked_soft_weight: float = 0.0

    def step(self, outputs: Sequence[NetOutput], batch: Batch) -> StepResult:
        """Both losses; ``selected`` says whose given label each network learnt, ``refined_label`` what it learnt."""
        seen = evidence(outputs, batch.labels)
        chosen = self.choose(outputs, batch.labels, seen)
        selected = chosen.picks.flip(0)
        guesses = seen["prediction"].flip(0)
        soft_terms: tuple[Tensor, ...] = torch.zeros_like(seen["given_loss"]).unbind()
        if self.soft_weight or self.picked_soft_weight:
            soft_terms = co_refine_pair(outputs, 1.0, 0.0, 0.0)
        differ = ~chosen.agreement
        losses: list[Tensor | None] = []
        rows = []
        for k, (output, soft) in enumerate(zip(outputs, soft_terms)):
            picked, refused = selected[k], chosen.agreement & ~selected[k]
            loss = soft * torch.where(picked, self.picked_soft_weight, self.soft_weight).to(soft)
            loss = _plus(loss, picked, self.given.with_prior(rows_of(output, picked), batch.labels[picked]))
            if self.refused_weight:
                hard = cross_entropy(rows_of(output, refused), guesses[k][refused])
                loss = _plus(loss, refused, self.refused_weight * hard)
            if self.differ_weight:
                hard = self.given.plain(rows_of(output, differ), batch.labels[differ])
                loss = _plus(loss, differ, self.differ_weight * hard)
            losses.append(loss.mean() if self._teaches(picked, chosen.agreement) else None)
            rows.append(loss.detach())
        learnt = selected | differ if self.differ_weight else selected
        records = {
            **seen,
            "loss": torch.stack(rows),
            "selected": learnt,
            "agreement": chosen.agreement,
            "refined_label": torch.where(learnt, batch.labels, guesses),
        }
        return StepResult(losses, records)

    def _teaches(self, selected: Tensor, agreement: Tensor) -> bool:
        """Whether any sample has a term: an optimizer that steps without one still decays the weights."""
        if self.soft_weight:
            return len(selected) > 0
        if self.differ_weight and not bool(agreement.all()):
            return True
        return bool(selected.any()) or (bool(self.refused_weight) and bool(agreement.any()))


def _plus(loss: Tensor, mask: Tensor, values: Tensor) -> Tensor:
    """``loss``, (B,), with ``values`` added where ``mask`` is True."""
    return loss + torch.zeros_like(loss).masked_scatter(mask, values)


def recipe(
    plan: Plan,
    drop_rate: str | None = None,
    drop_ramp: int | None = None,
    tau: float = 0.0,
    smoothing: float = 0.0,
    rank_with: str = "plain",
    min_keep: int = 0,
    soft_weight: float = 1.0,
    refused_weight: float = 1.0,
    differ_weight: float = 0.0,
    picked_soft_weight: float = 0.0,
    confidence_from: str = "base",
) -> list[Phase]:
    """SELF on both networks until CORE's switch, then both together.

    Raises:
        UsageError: the drop rate is neither a share nor ``auto``.
    """
    first, second = core.recipe(plan, confidence_from=confidence_from)
    drop = DropRate.of_settings(drop_rate, drop_ramp, default="auto", at_once=True)
    method = CorePeer(
        drop,
        GivenLoss(tau, smoothing),
        rank_with,
        min_keep,
        soft_weight=soft_weight,
        refused_weight=refused_weight,
        differ_weight=differ_weight,
        picked_soft_weight=picked_soft_weight,
    )
    return [first, dataclasses.replace(second, name="core_peer", method=method, uses_given_labels=True)]
