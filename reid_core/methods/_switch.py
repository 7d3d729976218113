"""When may CORE's phase begin? Decided from the epochs so far, without a true label or the noise ratio."""

from __future__ import annotations

from collections.abc import Sequence

from reid_core.types import EpochSummary


def ready_to_switch(history: Sequence[EpochSummary]) -> bool:
    """True once the networks agree with each other more than with the labels, and have stopped agreeing more.

    Args:
        history: summaries of all epochs so far; the caller bounds the switch to the middle third of the run.
    """
    if len(history) < 4:
        return False
    agreement = [summary.agreement for summary in history]
    given = sum(history[-1].given_agreement) / len(history[-1].given_agreement)
    rising = sum(agreement[-2:]) / 2 - sum(agreement[-4:-2]) / 2
    return agreement[-1] > given and rising < 0.01
