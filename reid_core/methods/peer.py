"""Peer learning: where two networks agree, each learns what the other finds easy; where they differ, both learn all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reid_core.errors import UsageError
from reid_core.methods._drop_rate import DropRate
from reid_core.methods._given_loss import GivenLoss
from reid_core.methods._outputs import evidence, rows_of
from reid_core.methods._peers import Peers
from reid_core.methods._plan import Plan
from reid_core.methods.baseline import Baseline
from reid_core.types import Batch, NetOutput, Phase, StepResult


@dataclass
class Peer(Peers):
    """Mean loss over the samples the networks predict differently and those the *other* network picked.

    The other network picks ``floor((1 - drop_rate) * |A|)`` of the samples A both predict alike: those with its smallest
    cross-entropy. On these the loss has the prior of the class counts (balanced softmax), elsewhere it has none.
    A network without any such sample in a batch has no loss there (None): it must not learn from what was refused.

    Reference:
        Z. Sun et al., "Webly Supervised Fine-Grained Recognition: Benchmark Datasets and An Approach", ICCV 2021;
        J. Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020.

    Differs from the authors' code:
        where nothing is left to learn from, theirs takes the mean of nothing, NaN, and the weights are lost. Prior,
        smoothing, ``rank_with`` and ``min_keep`` are not in it; ``tau = smoothing = min_keep = 0`` is the original.
    """

    def step(self, outputs: Sequence[NetOutput], batch: Batch) -> StepResult:
        """Both losses; ``selected`` says whose given label each network learnt, and ``loss`` is NaN for the others."""
        seen = evidence(outputs, batch.labels)
        chosen = self.choose(outputs, batch.labels, seen)
        differ = ~chosen.agreement
        losses: list[Tensor | None] = []
        rows = torch.full_like(chosen.losses, torch.nan)
        for k, output in enumerate(outputs):
            picked = chosen.picks[1 - k]
            easy = self.given.with_prior(rows_of(output, picked), batch.labels[picked])
            hard = self.given.plain(rows_of(output, differ), batch.labels[differ])
            values = torch.cat([easy, hard])
            losses.append(values.mean() if len(values) else None)
            rows[k, picked], rows[k, differ] = easy.detach(), hard.detach()
        records = {
            **seen,
            "loss": rows,
            "selected": chosen.picks.flip(0) | differ,
            "agreement": chosen.agreement,
        }
        return StepResult(losses, records)


def recipe(
    plan: Plan,
    drop_rate: str | None = None,
    drop_ramp: int | None = None,
    tau: float = 0.0,
    smoothing: float = 0.0,
    rank_with: str = "plain",
    min_keep: int = 0,
    plain_epochs: int = 0,
) -> list[Phase]:
    """Peer learning over the whole run, or after ``plain_epochs`` of cross-entropy with the same smoothing.

    Raises:
        UsageError: the warm-up leaves no epoch, or the drop rate is neither a share nor ``auto``.
    """
    if not 0 <= plain_epochs < plan.epochs:
        raise UsageError(
            f"--plain_epochs {plain_epochs} must lie in [0, {plan.epochs - 1}]: it is a part of the run's {plan.epochs} epochs"
        )
    drop = DropRate.of_settings(drop_rate, drop_ramp, default="0.25")
    method = Peer(drop, GivenLoss(tau, smoothing), rank_with, min_keep)
    phase = Phase("peer", method, plan.epochs - plain_epochs, plan.single_phase_rate())
    if not plain_epochs:
        return [phase]
    return [Phase("warm-up", Baseline(2, smoothing), plain_epochs, plan.single_phase_rate()), phase]
