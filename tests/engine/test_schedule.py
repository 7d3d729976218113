"""Rates against numbers worked out by hand, from the start of a run to its end."""

import math

import pytest

from reid_core.engine.phases import PhaseWalk
from reid_core.engine.schedule import RateSchedule, cosine_factor, legacy_factor
from reid_core.types import Phase


def walk_of(*phases, first=0):
    rate = {"rate": lambda epoch, local: 0.25 + local}
    return PhaseWalk([Phase(f"p{i}", None, epochs, **rate, **more) for i, (epochs, more) in enumerate(phases)], first)


def test_warm_up_begins_at_one_step_and_ends_at_one():
    # 2 epochs of 4 steps warm up: 1/8, 2/8, ..., 8/8.
    found = [cosine_factor(step / 4, 1 / 4, 10, 2) for step in range(8)]
    assert found == pytest.approx([n / 8 for n in range(1, 9)])


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        (2.0, 1.0),
        (4.0, 0.5 * (1 + math.sqrt(0.5)) * 0.99 + 0.01),  # a quarter of what is left: cos 45 degrees
        (6.0, 0.505),  # the middle: half of 0.99, and 0.01
        (9.75, 0.5 * (1 + math.cos(math.pi * 7.75 / 8)) * 0.99 + 0.01),
    ],
)
def test_then_half_a_cosine_down_to_the_floor(done, expected):
    assert cosine_factor(done, 1 / 4, 10, 2) == pytest.approx(expected, abs=1e-12)


def test_the_floor_is_never_passed_and_no_warm_up_is_possible():
    assert cosine_factor(0.0, 0.1, 3, 0.0) == 1.0
    assert 0.01 < cosine_factor(2.999, 0.001, 3, 0.0) < 0.0101


def test_progress_is_in_epochs_so_steps_may_become_more():
    """Epoch 6 begins with the same factor whether it has 4 steps or 9."""
    schedule, walk = RateSchedule("cosine", 2.0), walk_of((10, {}))
    assert schedule.factor(walk, 6, 0, 4) == schedule.factor(walk, 6, 0, 9) == pytest.approx(0.505)
    assert schedule.factor(walk, 6, 2, 4) == pytest.approx(cosine_factor(6.5, 0.25, 10, 2))


@pytest.mark.parametrize(
    ("epochs", "epoch", "expected"),
    [
        *[(200, t, t / 4) for t in range(5)],
        (200, 5, 0.5 * (1 + math.cos(math.pi / 200))),
        (20, 19, 0.146446609),  # the specification's 0.146
        (200, 199, 0.001541333),  # and its 0.0015
    ],
)
def test_legacy_as_the_released_program(epochs, epoch, expected):
    assert legacy_factor(epoch, epochs, 5) == pytest.approx(expected, abs=1e-9)
    assert RateSchedule("legacy", 5.0).factor(walk_of((epochs, {})), epoch, 3, 7) == pytest.approx(expected, abs=1e-9)


def test_phase_is_the_recipes_own():
    assert RateSchedule().factor(walk_of((3, {}), (4, {})), 5, 1, 2) == 2.25


def test_a_schedule_runs_over_phases_alike_and_begins_anew_after_a_frozen_one():
    walk = walk_of((4, {"frozen": True, "lr": 0.1}), (3, {}), (5, {}))
    assert [walk.stretch(e) for e in (0, 3, 4, 6, 7, 11)] == [(0, 4), (0, 4), (4, 12), (4, 12), (4, 12), (4, 12)]
    schedule = RateSchedule("cosine", 2.0)
    assert schedule.factor(walk, 0, 0, 5) == schedule.factor(walk, 4, 0, 5) == pytest.approx(0.1)
    assert schedule.factor(walk, 8, 0, 5) == pytest.approx(cosine_factor(4, 0.2, 8, 2))
    assert walk_of((4, {}), (3, {}), first=1).stretch(5) == (4, 7)  # --stage2: what is left out is no part of it


def test_at_most_half_of_a_stretch_warms_up():
    schedule, walk = RateSchedule("cosine", 5.0), walk_of((4, {}))
    assert [schedule.factor(walk, e, 0, 1) for e in (0, 1, 2)] == pytest.approx([0.5, 1.0, 1.0])
