"""What an epoch shows without true labels; when phases begin."""

import numpy as np
import pytest

from reid_core.engine.evidence import summarize
from reid_core.engine.phases import PhaseWalk
from reid_core.types import Phase

RECORDS = {
    "prediction": np.array([[0, 1, 1, 2, -1], [0, 1, 0, 1, -1]], np.int32),
    "confidence": np.array([[0.5, 0.7, 0.9, 0.3, np.nan], [1.0, 1.0, 1.0, 1.0, np.nan]], np.float32),
    "loss": np.array([[1.0, 2.0, 3.0, 4.0, np.nan], [2.0, 2.0, 2.0, 2.0, np.nan]], np.float32),
    "given_loss": np.array([[1.0, 1.0, 1.0, 5.0, np.nan], [0.0, 0.0, 0.0, 4.0, np.nan]], np.float32),
}


def test_summary_by_hand():
    found = summarize(3, 1, RECORDS, np.array([0, 1, 2, 2, 0]), 4)
    assert (found.epoch, found.phase, found.num_classes) == (3, 1, 4)
    assert found.losses == (2.5, 2.0) and found.given_loss == (2.0, 1.0)
    assert found.agreement == 0.5  # samples 0 and 1; the last was not visited
    assert found.given_agreement == (0.75, 0.5)
    assert found.distinct == (3, 2)
    assert found.confidence == pytest.approx((0.6, 1.0))


def phases(rule=None, minimum=3):
    def rate(epoch, local):
        return 1.0 if epoch == local else 0.1

    first = Phase("first", None, 8, rate, min_epochs=minimum, end_when=rule)
    return [first, Phase("second", None, 4, rate)]


def test_fixed_phases():
    walk = PhaseWalk(phases())
    assert walk.epochs == 12 and [walk.position(e) for e in range(12)] == [0] * 8 + [1] * 4
    assert [walk.close(e, []) for e in range(12)] == [False] * 7 + [True] + [False] * 4
    assert walk.rate(7) == 1.0 and walk.rate(8) == 0.1


def test_evidence_ends_a_phase_within_its_bounds_and_the_next_gets_the_rest():
    walk = PhaseWalk(phases(rule=lambda history: True))
    assert [walk.close(e, []) for e in range(3)] == [False, False, True]
    assert walk.starts == [0, 3] and walk.epochs == 12
    assert walk.position(2) == 0 and walk.position(3) == 1 and walk.rate(3) == 0.1
    again = PhaseWalk(phases(rule=lambda history: True))
    again.load_state_dict(walk.state_dict())
    assert again.position(3) == 1


def test_without_evidence_the_latest_epoch_decides():
    walk = PhaseWalk(phases(rule=lambda history: False))
    assert [walk.close(e, []) for e in range(8)] == [False] * 7 + [True]


def test_second_phase_alone():
    walk = PhaseWalk(phases(), first=1)
    assert walk.first_epoch == 8 and walk.position(walk.first_epoch) == 1
