"""What a run tells the person in front of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from reid_core.engine.phases import PhaseWalk
from reid_core.engine.training_data import TrainingData


class Reporter(Protocol):
    """What a run shows while it goes on."""

    def started(
        self, data: TrainingData, walk: PhaseWalk, folder: Path, first_epoch: int, image_size: tuple[int, int]
    ) -> None:
        """Everything was checked; training begins. ``image_size``: (height, width) in the end."""

    def working(self, title: str) -> Callable[[int, int], None]:
        """A stretch of work that is not training, as a (done, total) callback."""

    def step(self, epoch: int, step: int, steps: int, losses: Sequence[float | None]) -> None:
        """A step is done."""

    def epoch(self, line: dict[str, Any]) -> None:
        """An epoch is done."""

    def note(self, text: str) -> None:
        """Something worth a line."""
