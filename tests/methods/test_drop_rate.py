"""How many samples are refused: the published ramp, a measured share, and going on."""

import numpy as np
import pytest
import torch

from reid_core.errors import UsageError
from reid_core.methods._drop_rate import DropRate, ramped, refused_share


def test_published_ramp():
    listed = [0, 0.0278, 0.0556, 0.0833, 0.1111, 0.1389, 0.1667, 0.1944, 0.2222, 0.25, 0.25]
    assert [ramped(epoch, 0.25, 10) for epoch in range(11)] == pytest.approx(listed, abs=5e-5)


@pytest.mark.parametrize("ramp", [0, 1])
def test_no_ramp_is_the_whole_share_from_epoch_1_on(ramp):
    assert [ramped(epoch, 0.3, ramp) for epoch in range(3)] == [0.0, 0.3, 0.3]


def test_a_ramp_of_two():
    assert [ramped(epoch, 0.3, 2) for epoch in range(3)] == [0.0, 0.3, 0.3]


def test_epochs_count_from_the_begin_of_the_phase_and_go_on_after_a_stop():
    drop, seen = DropRate(0.25, 10), []
    for _ in range(4):
        drop.start_epoch()
        seen.append(drop.now)
    assert seen == pytest.approx([0.25 * t / 9 for t in range(4)])
    again = DropRate(0.25, 10)
    again.load_state_dict(drop.state_dict())
    assert again.now == drop.now  # in the middle of an epoch
    drop.start_epoch()
    again.start_epoch()
    assert again.now == drop.now == pytest.approx(0.25 * 4 / 9)


# Samples 0 to 3 are predicted alike, 4 is not, 5 was not visited.
RECORDS = {"prediction": np.array([[0, 1, 2, 2, 1, -1], [0, 1, 2, 2, 0, -1]], np.int32)}


@pytest.mark.parametrize(
    ("labels", "share"),
    [([0, 1, 2, 2, 0, 0], 0.0), ([0, 1, 2, 1, 2, 2], 0.25), ([1, 0, 0, 0, 1, 1], 1.0)],
)
def test_share_by_hand(labels, share):
    assert refused_share(RECORDS, np.array(labels)) == share


def test_no_share_of_nothing():
    assert refused_share({"prediction": np.array([[0, -1], [1, -1]], np.int32)}, np.array([0, 0])) is None


def test_the_least_share_so_far_is_used_in_the_next_epoch_and_survives_a_stop():
    drop = DropRate.of_settings("auto", None, "0.25")
    labels = [[0, 1, 2, 1, 0, 0], [0, 0, 0, 0, 0, 0], [0, 1, 2, 2, 0, 0], [0, 1, 2, 1, 0, 0]]
    used = []
    for given in labels:
        drop.watch(np.array(given))
        drop.start_epoch()
        used.append(drop.now)
        drop.end_epoch(RECORDS)
    drop.start_epoch()
    assert [*used, drop.now] == [0.0, 0.25, 0.25, 0.0, 0.0]  # measured: 1/4, 3/4, 0, 1/4
    drop.least = 0.25
    again = DropRate.of_settings("auto", None, "0.25")
    again.load_state_dict(drop.state_dict())
    assert again == drop and (again.now, again.epochs) == (0.25, 5)


def test_agreement_on_nothing_measures_nothing():
    drop = DropRate(None, 1)
    drop.watch(np.array([0]))
    drop.end_epoch({"prediction": np.array([[0], [1]], np.int32)})
    assert drop.least is None and drop.now == 0.0


@pytest.mark.parametrize(("labels", "share"), [([0, 1, 2, 1, 2], 0.25), ([0, 1, 2, 2, 2], 0.0), ([1, 0, 0, 0, 0], 1.0)])
def test_a_batch_has_its_own_share(labels, share):
    """Samples 0 to 3 are predicted alike, 4 is not."""
    predictions, labels = torch.tensor([[0, 1, 2, 2, 1], [0, 1, 2, 2, 0]]), torch.tensor(labels)
    drop = DropRate.of_settings(None, None, "auto", of_each_batch=True)
    drop.watch(np.array([0, 1, 2, 1, 0, 0]))
    for _ in range(3):
        drop.start_epoch()
        assert float(drop.of_batch(predictions, labels)) == share
        assert float(drop.of_batch(predictions[:, 4:], labels[4:])) == 0.0  # of nothing
        drop.end_epoch(RECORDS)
        assert drop.state_dict()["drop_rate"] is None and drop.least is None
    for other in (
        DropRate.of_settings("auto", None, "0.25"),
        DropRate.of_settings("auto", 1, "auto", of_each_batch=True),
        DropRate.of_settings("0.3", None, "auto", of_each_batch=True),
    ):
        other.start_epoch()
        assert other.of_batch(predictions, labels) == 0.0


def test_a_measured_share_ramps_if_asked_to():
    drop = DropRate.of_settings("auto", 3, "0.25")
    drop.watch(np.array([0, 1, 2, 1, 0, 0]))
    seen = []
    for _ in range(4):
        drop.start_epoch()
        seen.append(drop.now)
        drop.end_epoch(RECORDS)
    assert seen == [0.0, 0.125, 0.25, 0.25]


def test_settings():
    assert DropRate.of_settings(None, None, "0.25") == DropRate(0.25, 10)
    assert DropRate.of_settings(None, None, "auto") == DropRate(None, 1)
    assert DropRate.of_settings(None, None, "auto", of_each_batch=True) == DropRate(None, 1, of_each_batch=True)
    assert DropRate.of_settings("0.5", 4, "auto") == DropRate(0.5, 4)
    for text in ("1.5", "-0.1", "nan", "many"):
        with pytest.raises(UsageError, match=rf"--drop_rate must be a number in \[0, 1\] or auto, got {text}"):
            DropRate.of_settings(text, None, "auto")
