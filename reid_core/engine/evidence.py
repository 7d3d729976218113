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
    # In float64 and in the order of the samples: the same for any order of the batches. A network that learnt nothing in
    # the epoch had no loss: 0.
    return tuple(float(np.nanmean(row, dtype=np.float64)) if not np.isnan(row).all() else 0.0 for row in rows)


def selected_shares(
    records: EpochRecords, given: NDArray[np.int64], true: NDArray[np.int64] | None
) -> dict[str, list[float | None]]:
    """Which samples a method selected in an epoch, and how well: for the logs alone.

    Args:
        records: of the epoch; ``selected`` (N,) or (K, N), -1 where a sample was not visited.
        given, true: (N,) labels; ``true`` is None where it is not known, -1 for an identity that is no class.

    Returns:
        Nothing for a method that records no ``selected``. Else ``selected``, the share of the samples; and with true labels
        ``selected_precision``, the share of those selected whose given label is true, and ``selected_recall``, the share
        of those with a true label that is selected. A value for each row; None where there is nothing to take a share of.
    """
    if "selected" not in records:
        return {}
    rows = np.atleast_2d(records["selected"])
    shares = {"selected": [_share(row == 1, row >= 0) for row in rows]}
    if true is not None:
        right = given == true
        shares["selected_precision"] = [_share(right, row == 1) for row in rows]
        shares["selected_recall"] = [_share(row == 1, right & (row >= 0)) for row in rows]
    return shares


def _share(what: NDArray[np.bool_], among: NDArray[np.bool_]) -> float | None:
    return float(what[among].mean()) if among.any() else None


IDENTITIES_LOST = 0.02
AGREEMENT_LOST = 0.03
"""Losses an epoch since the switch that mean collapse. Measured on omniglot-reid with 50 % noise (docs/results.md): switched
too early 3 to 5 % of the identities were lost every epoch, in a healthy run 0.6 %; the agreement with the given labels fell
by 4 % of itself against 1.2 %."""


def collapse_warning(
    history: Sequence[EpochSummary], phase_start: int, first_stage: int = 0, epochs: int | None = None
) -> str | None:
    """A warning, once, if a phase in which predictions teach is losing identities or the given labels, else None.

    Such a phase has little to correct it: where the networks are not yet right, they come to agree on being wrong, the
    loss falls all the same, and identities are no longer predicted at all.

    Args:
        history: summaries of all epochs so far, the last one within that phase.
        phase_start: the phase's first epoch.
        first_stage: epochs of ``history`` that ``--switch`` does not count: those of a first stage.
        epochs: of the run, those included; None: any number.
    """
    phase = [summary for summary in history if summary.epoch >= phase_start]
    if not _collapses(phase, history) or any(_collapses(phase[:n], history) for n in range(1, len(phase))):
        return None
    now, first = phase[-1], phase[0]
    switch = phase_start - first_stage
    later = max(switch + 1, round(1.5 * switch))
    possible = epochs is None or later < epochs - first_stage
    advice = (
        f"--switch {later} or later, a longer run," if possible else "a longer run (--epochs) and a later --switch,"
    )
    return (
        f"epoch {now.epoch}: the networks are coming to agree on being wrong. Since the switch at epoch {phase_start} the "
        f"identities predicted fell to {min(now.distinct)} of {now.num_classes} and the agreement with the given labels from "
        f"{np.mean(first.given_agreement):.1%} to {np.mean(now.given_agreement):.1%}. The switch came too early: start anew "
        f"with {advice} or --switch auto"
    )


def _collapses(phase: Sequence[EpochSummary], history: Sequence[EpochSummary]) -> bool:
    """Whether the last epoch of ``phase`` shows a collapse, by what was lost an epoch since before the switch."""
    first, now = phase[0], phase[-1]
    before = [summary for summary in history if summary.epoch < first.epoch][-1:]
    known = float(np.mean((before or [first])[0].distinct))
    epochs = now.epoch - first.epoch + 1
    if epochs < 2:
        return False
    identities = (known - float(np.mean(now.distinct))) / now.num_classes / epochs
    given = float(np.mean(first.given_agreement))
    agreement = (given - float(np.mean(now.given_agreement))) / max(given, 1e-9) / (epochs - 1)
    return identities > IDENTITIES_LOST or agreement > AGREEMENT_LOST
