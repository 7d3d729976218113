"""The warning of a collapse and the automatic switch, on curves that were measured (omniglot-reid, 50 % random noise)."""

import pytest

from reid_core.engine.evidence import collapse_warning
from reid_core.methods._switch import ready_to_switch
from reid_core.types import EpochSummary

# (agreement, given agreement of both networks, distinct identities of both networks), from the last SELF epoch on.
COLLAPSE_AT_12 = [
    (0.452, (0.287, 0.278), (86, 86)),
    (0.785, (0.385, 0.370), (83, 86)),
    (0.847, (0.374, 0.374), (80, 81)),
    (0.894, (0.347, 0.347), (75, 76)),
    (0.891, (0.335, 0.329), (70, 70)),
]
HEALTHY_AT_24 = [
    (0.591, (0.385, 0.383), (86, 86)),
    (0.841, (0.462, 0.468), (86, 86)),
    (0.888, (0.456, 0.459), (86, 86)),
    (0.906, (0.458, 0.449), (85, 85)),
    (0.927, (0.454, 0.452), (85, 85)),
    (0.928, (0.452, 0.448), (85, 85)),
    (0.948, (0.450, 0.451), (84, 84)),
    (0.944, (0.440, 0.442), (83, 83)),
    (0.942, (0.436, 0.436), (81, 82)),
    (0.962, (0.439, 0.437), (81, 81)),
    (0.962, (0.437, 0.430), (81, 80)),
    (0.966, (0.428, 0.435), (80, 80)),
    (0.960, (0.427, 0.429), (78, 78)),
]


def history(curve, switch):
    return [
        EpochSummary(switch - 1 + i, int(i > 0), (1.0, 1.0), (1.0, 1.0), agreement, given, distinct, (0.5, 0.5), 86)
        for i, (agreement, given, distinct) in enumerate(curve)
    ]


def warnings(curve, switch):
    whole = history(curve, switch)
    found = {s.epoch: collapse_warning(whole[: i + 1], switch) for i, s in enumerate(whole) if s.epoch >= switch}
    return {epoch: text for epoch, text in found.items() if text}


def test_the_collapsing_run_is_warned_of_once_within_two_epochs_of_the_switch():
    found = warnings(COLLAPSE_AT_12, 12)
    assert list(found) == [13]
    assert "epoch 13" in found[13] and "switch at epoch 12" in found[13] and "--switch 18" in found[13]


@pytest.mark.parametrize(
    ("first_stage", "epochs", "advice"),
    [
        (0, 36, "--switch 18 or later, a longer run,"),
        (0, 18, "a longer run (--epochs) and a later --switch,"),
        (0, 15, "a longer run (--epochs) and a later --switch,"),
        (4, 36, "--switch 12 or later, a longer run,"),
        (4, 16, "a longer run (--epochs) and a later --switch,"),
    ],
)
def test_the_advice_is_one_that_can_be_followed(first_stage, epochs, advice):
    """--switch lies in the run, and is counted from the end of a first stage."""
    found = collapse_warning(history(COLLAPSE_AT_12, 12)[:3], 12, first_stage, epochs)
    assert f"start anew with {advice} or --switch auto" in found


def test_the_healthy_run_is_never_warned_of():
    assert warnings(HEALTHY_AT_24, 24) == {}


def test_lost_agreement_alone_is_enough():
    curve = [(0.5, (0.4, 0.4), (86, 86))] + [(0.9, (0.5 - 0.03 * i, 0.5 - 0.03 * i), (86, 86)) for i in range(4)]
    assert list(warnings(curve, 8)) == [9]


def agreeing(values, given=0.3):
    return [
        EpochSummary(i, 0, (1.0,) * 2, (1.0,) * 2, v, (given, given), (86, 86), (0.5, 0.5), 86)
        for i, v in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("values", "given", "ready"),
    [
        ([0.2, 0.4, 0.6, 0.79], 0.3, False),  # rising
        ([0.2, 0.4, 0.6, 0.8], 0.3, True),  # sure
        ([0.57, 0.576, 0.575, 0.578], 0.3, True),  # still
        ([0.572, 0.559, 0.576, 0.591], 0.38, False),  # the measured healthy run, epoch 23
        ([0.388, 0.419, 0.446, 0.452], 0.28, False),  # the one that collapses if switched here
        ([0.9, 0.9, 0.9, 0.9], 0.95, False),  # the labels are fitted better than the networks agree
        ([0.9, 0.9, 0.9], 0.3, False),  # too few epochs to tell
    ],
)
def test_switch_rule(values, given, ready):
    assert ready_to_switch(agreeing(values, given)) is ready
