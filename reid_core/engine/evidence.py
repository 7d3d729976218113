"""What an epoch shows without any true label, and the warning that CORE's phase is collapsing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reid_core.types import EpochRecords, EpochSummary


def summarize(
    epoch: int, phase: int, records: EpochRecords, labels: NDArray[np.int64], num_classes: int
) -> EpochSummary:
    """The summary of an epoch from its records.

    Args:
        epoch, phase: counted from 0.
        records: ``prediction`` (K, N) and ``confidence`` (K, N), and (K, N) ``loss`` and ``given_loss``.
        labels: (N,) given labels.
        num_classes: C.
    """
    prediction = records["prediction"]
    seen = (prediction >= 0).all(axis=0)
    visited = prediction[:, seen]
    return EpochSummary(
        epoch=epoch,
        phase=phase,
        losses=_means(records["loss"]),
        given_loss=_means(records["given_loss"]),
        agreement=float((visited == visited[0]).all(axis=0).mean()),
        given_agreement=tuple(float(v) for v in (visited == labels[seen]).mean(axis=1)),
        distinct=tuple(len(np.unique(row)) for row in visited),
        confidence=_means(records["confidence"]),
        num_classes=num_classes,
    )


def _means(rows: NDArray[np.floating]) -> tuple[float, ...]:
    # In float64 and in the order of the samples: the same for any order of the batches.
    return tuple(float(np.nanmean(row, dtype=np.float64)) for row in rows)


def collapse_warning(history: Sequence[EpochSummary], phase_start: int) -> str | None:
    """A warning if the phase that looks at no given label drifts away from them, else None.

    Args:
        history: summaries of all epochs so far, the last one within that phase.
        phase_start: the phase's first epoch.
    """
    before = [summary for summary in history if summary.epoch < phase_start]
    if not before:
        return None
    now, then = history[-1], before[-1]
    lost = np.mean(then.given_agreement) - np.mean(now.given_agreement)
    if lost <= 0.02:
        return None
    return (
        f"epoch {now.epoch}: agreement with the given labels fell from {np.mean(then.given_agreement):.1%} to "
        f"{np.mean(now.given_agreement):.1%} since the switch at epoch {phase_start}. The networks agree on being wrong. "
        f"Switch later: --switch {max(phase_start + 1, round(phase_start * 1.5))}, or --switch auto"
    )
