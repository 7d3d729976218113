"""The factor of every base rate, as a function of where the run stands: a run that goes on has nothing to remember."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reid_core.engine.phases import PhaseWalk

FLOOR = 0.01
SCHEDULES = ("phase", "cosine", "legacy")


def cosine_factor(done: float, step: float, length: float, warmup: float, floor: float = FLOOR) -> float:
    """Linear warm-up from one step's share to 1, then half a cosine from 1 to ``floor``.

    Everything is in epochs, because the number of steps in an epoch may change:

    ``(done + step) / warmup`` while ``done < warmup``, then ``(1 + cos(pi q)) / 2 (1 - floor) + floor`` with q in [0, 1)
    the share of the rest that is done.

    Args:
        done: epochs done before the step, ``epoch + batch / batches``.
        step: epochs that the step takes, ``1 / steps in this epoch``.
        length: epochs in all.
        warmup: epochs of them that warm up, less than ``length``.
        floor: what the cosine comes close to.
    """
    if done < warmup - step / 2:
        return min(1.0, (done + step) / warmup)
    share = max(0.0, done - warmup) / (length - warmup)
    return (1 + math.cos(math.pi * share)) / 2 * (1 - floor) + floor


def legacy_factor(epoch: int, length: int, warmup: int) -> float:
    """The factor of the released program of peer learning: an epoch has one rate, the first is 0.

    ``epoch / (warmup - 1)`` for ``epoch < warmup``, then ``(1 + cos(pi (epoch - warmup + 1) / length)) / 2``: the cosine
    is divided by all epochs, not by those after the warm-up, so it never comes to its end.

    Args:
        epoch: counted from 0.
        length: all epochs.
        warmup: the first epochs of them.

    Reference:
        Z. Sun et al., "Webly Supervised Fine-Grained Recognition: Benchmark Datasets and An Approach", ICCV 2021.
    """
    if epoch < warmup:
        return epoch / (warmup - 1) if warmup > 1 else 1.0
    return (1 + math.cos(math.pi * (epoch - warmup + 1) / length)) / 2


@dataclass(frozen=True)
class RateSchedule:
    """How rates change: ``phase`` (a factor an epoch, set by the recipe), ``cosine`` or ``legacy``, with ``warmup`` epochs.

    The last two begin anew where the base rate or what is frozen changes; half of such a stretch warms up at most.
    """

    kind: str = "phase"
    warmup: float = 5.0

    def factor(self, walk: PhaseWalk, epoch: int, step: int, steps: int) -> float:
        """Factor of the base rates in optimizer step ``step`` of ``steps`` of ``epoch``, both counted from 0."""
        if self.kind == "phase":
            return walk.rate(epoch)
        start, end = walk.stretch(epoch)
        length = end - start
        warmup = min(self.warmup, length / 2)
        if self.kind == "legacy":
            return legacy_factor(epoch - start, length, int(warmup))
        return cosine_factor(epoch - start + step / steps, 1 / steps, length, warmup)
