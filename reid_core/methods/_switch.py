"""When may CORE's phase begin? Decided from the epochs so far, without a true label or the noise ratio."""

from __future__ import annotations

from collections.abc import Sequence

from reid_core.types import EpochSummary

SURE = 0.8
STILL = 0.005


def ready_to_switch(history: Sequence[EpochSummary]) -> bool:
    """True once two networks that were trained apart say the same of most images, or have stopped coming closer.

    They learn from the same wrong labels but start differently, so what they agree on is mostly what the images have in
    common, not what was memorised. CORE's phase replaces every label by the other network's prediction: it needs teachers
    that are right more often than not for every identity.

    The rule: the networks agree with each other more than with the given labels, and either they agree on at least ``SURE``
    of the images, or over the last four epochs their agreement rose by less than ``STILL`` an epoch.

    Args:
        history: summaries of all epochs so far; the caller bounds the switch to the middle third of the run.
    """
    if len(history) < 4:
        return False
    agreement = [summary.agreement for summary in history[-4:]]
    given = sum(history[-1].given_agreement) / len(history[-1].given_agreement)
    rise = (agreement[2] + agreement[3] - agreement[0] - agreement[1]) / 4
    return agreement[3] > given and (agreement[3] >= SURE or rise < STILL)
