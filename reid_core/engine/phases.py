"""Walks a recipe: which phase an epoch belongs to, and when an evidence-bound phase ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reid_core.types import EpochSummary, Phase


class PhaseWalk:
    """The phases of a run and the epochs at which they begin.

    Args:
        phases: the recipe; the epochs of all phases together are the length of the run.
        first: position of the phase to begin with; the epochs of the ones before are skipped, not trained.
    """

    def __init__(self, phases: Sequence[Phase], first: int = 0) -> None:
        self.phases = tuple(phases)
        self.first = first
        self.epochs = sum(phase.epochs for phase in phases)
        self.starts = [sum(phase.epochs for phase in phases[:i]) for i in range(len(phases))]

    @property
    def first_epoch(self) -> int:
        """The epoch that the run begins with."""
        return self.starts[self.first]

    def position(self, epoch: int) -> int:
        """Position of the phase that ``epoch`` belongs to."""
        return max(i for i, start in enumerate(self.starts) if start <= epoch)

    def rate(self, epoch: int) -> float:
        """Factor of the base learning rate in ``epoch``."""
        position = self.position(epoch)
        return self.phases[position].rate(epoch, epoch - self.starts[position])

    @property
    def frozen_epochs(self) -> int:
        """Epochs of a first stage with frozen backbones: a recipe's own epochs, and its switch, count from its end."""
        return self.starts[1] if self.phases[0].frozen and len(self.starts) > 1 else 0

    @property
    def switch(self) -> int | None:
        """First epoch of the last phase, None where the recipe has but one."""
        return self.starts[-1] if len(self.starts) > 1 + self.phases[0].frozen else None

    def stretch(self, epoch: int) -> tuple[int, int]:
        """First epoch, and the one after the last, of the phases around ``epoch`` that share a base rate and what is frozen.

        A schedule runs over such a stretch, not over the run: another base rate or a thawed backbone is a new training.
        """

        def alike(position: int) -> bool:
            return (self.phases[position].lr, self.phases[position].frozen) == (here.lr, here.frozen)

        low = high = self.position(epoch)
        here = self.phases[low]
        while low > self.first and alike(low - 1):
            low -= 1
        while high + 1 < len(self.phases) and alike(high + 1):
            high += 1
        return self.starts[low], self.starts[high + 1] if high + 1 < len(self.phases) else self.epochs

    def close(self, epoch: int, history: Sequence[EpochSummary]) -> bool:
        """Ask the phase of ``epoch``, which has just ended, whether the next one shall begin; True if it does.

        The epochs that a phase gives up go to the next one, so that the run keeps its length.
        """
        position = self.position(epoch)
        phase = self.phases[position]
        if position + 1 >= len(self.phases):
            return False
        if self.starts[position + 1] == epoch + 1:
            return True
        done = epoch + 1 - self.starts[position]
        if phase.end_when is None or done < phase.min_epochs or not phase.end_when(history):
            return False
        self.starts[position + 1] = epoch + 1
        return True

    def state_dict(self) -> dict[str, Any]:
        """The starts decided so far."""
        return {"starts": list(self.starts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the starts."""
        self.starts = [int(start) for start in state["starts"]]
