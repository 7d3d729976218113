"""Training in two stages: first all but the backbones, then everything; and either stage alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from reid_core.config import TrainConfig
from reid_core.errors import UsageError
from reid_core.types import Phase


def with_first_stage(recipe: Callable[[], list[Phase]], epochs: int, lr: float | None) -> list[Phase]:
    """The phases of ``recipe()``, after ``epochs`` in which the backbones rest.

    The first stage trains with the loss of the recipe's first phase, at a rate of its own that does not fall. It has a
    method object of its own, so that what follows begins as it would without it: ramps from their start, epochs of
    the schedule counted from its end.

    Args:
        recipe: makes the phases, anew at each call.
        epochs: of the first stage; 0 gives the recipe as it is.
        lr: its base learning rate, or None: the run's.
    """
    phases = recipe()
    if not epochs:
        return phases
    first = Phase(
        f"heads ({phases[0].name})",
        recipe()[0].method,
        epochs,
        lambda epoch, local: 1.0,
        watch_collapse=phases[0].watch_collapse,
        dropout=phases[0].dropout,
        frozen=True,
        image_size=phases[0].image_size,
        lr=lr,
    )
    return [first, *(dataclasses.replace(phase, rate=_later(phase.rate, epochs)) for phase in phases)]


def _later(rate: Callable[[int, int], float], epochs: int) -> Callable[[int, int], float]:
    return lambda epoch, local: rate(epoch - epochs, local)


def part_asked_for(phases: Sequence[Phase], config: TrainConfig) -> tuple[list[Phase], int]:
    """The phases to walk, and the position to begin with: all from the first, or what --stage1 or --stage2 leaves.

    Raises:
        UsageError: a stage of a recipe that has one phase.
    """
    if (config.stage1 or config.stage2) and len(phases) < 2:
        raise UsageError(
            f"--stage{1 if config.stage1 else 2}: --method {config.method} has one phase; --stage1_epochs gives it a first "
            "stage, and some methods have two phases of their own"
        )
    if config.stage1:
        return list(phases[:1]), 0
    if config.stage2:
        return list(phases), 1 if config.stage1_epochs else len(phases) - 1
    return list(phases), 0
