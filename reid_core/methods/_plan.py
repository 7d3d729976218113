"""When the phases of a recipe begin and when the learning rate drops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reid_core.errors import UsageError


@dataclass(frozen=True)
class Plan:
    """Epochs, switch and rate drops of a run; epochs are counted from 0.

    Attributes:
        epochs: length of the run.
        switch: first epoch of the second phase, or None where the evidence decides (auto).
        earliest, latest: bounds of an automatic switch, inclusive.
        drops: epochs from which the rate is multiplied by ``gamma`` once more; None: one drop, at the switch.
        gamma: the factor of a drop.
    """

    epochs: int
    switch: int | None
    earliest: int
    latest: int
    drops: tuple[int, ...] | None = None
    gamma: float = 0.1

    @property
    def published(self) -> bool:
        """Whether this is a schedule of the paper or the released program, to be followed to the letter."""
        return self.drops is not None

    @property
    def last_switch(self) -> int:
        """The latest epoch at which the second phase can begin; single-phase methods drop their rate there."""
        return self.latest if self.switch is None else self.switch

    def rate(self, second_phase: bool) -> Callable[[int, int], float]:
        """Factor of the base rate as ``f(epoch, epoch in phase)`` for the first or the second phase."""
        if self.drops is None:
            return (lambda epoch, local: self.gamma) if second_phase else (lambda epoch, local: 1.0)
        drops = self.drops
        return lambda epoch, local: self.gamma ** sum(epoch >= drop for drop in drops)

    def single_phase_rate(self) -> Callable[[int, int], float]:
        """The same drops for a method that has one phase."""
        drops = (self.last_switch,) if self.drops is None else self.drops
        return lambda epoch, local: self.gamma ** sum(epoch >= drop for drop in drops)


def make_plan(schedule: str, epochs: int | None, switch: str) -> Plan:
    """The plan of a named schedule.

    Args:
        schedule: ``reference`` (the released program: 61 epochs, drops at 20 and 50, CORE from epoch 21),
            ``paper`` (60 epochs, drop and switch at 20) or ``default`` (60 epochs or ``epochs``, drop at the switch).
        epochs: length of a ``default`` run; None elsewhere.
        switch: ``auto``, an epoch, or an empty string for the schedule's own.

    Raises:
        UsageError: ``epochs`` with a published schedule, or a switch outside the run.
    """
    if schedule not in ("reference", "paper", "default"):
        raise UsageError(f"--schedule must be reference, paper or default, got {schedule!r}")
    if schedule != "default" and epochs is not None:
        raise UsageError(
            f"--epochs {epochs} with --schedule {schedule}: a published schedule has its own length; "
            "use --schedule default, which --epochs rescales"
        )
    total, own, drops = {
        "reference": (61, 21, (20, 50)),
        "paper": (60, 20, (20,)),
        "default": (60 if epochs is None else epochs, None, None),
    }[schedule]
    if total < 1:
        raise UsageError(f"--epochs must be at least 1, got {total}")
    earliest = max(1, round(total / 3))
    latest = max(earliest, round(2 * total / 3))
    if switch == "":
        chosen = own
    elif switch == "auto":
        chosen = None
    else:
        try:
            chosen = int(switch)
        except ValueError:
            raise UsageError(f"--switch must be auto or an epoch, got {switch!r}") from None
        if not 1 <= chosen <= total:
            raise UsageError(f"--switch {chosen} must lie in [1, {total}] for a run of {total} epochs")
    return Plan(total, chosen, earliest, latest, drops)
