"""What methods have in common in which two networks pick samples for each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_core.losses.peer_selection import PeerSelection, select_peers
from reid_core.methods._drop_rate import DropRate
from reid_core.methods._given_loss import GivenLoss
from reid_core.types import EpochRecords, NetOutput


@dataclass
class Peers:
    """Everything of such a method but its losses.

    Attributes:
        drop: the share of the samples that both predict alike which each network refuses.
        given: the loss with given labels.
        rank_with: a small loss is one of plain cross-entropy (``plain``), or of that with the prior (``balanced``).
        min_keep: each network picks at least so many of the samples both predict alike, if there are.
    """

    drop: DropRate
    given: GivenLoss = field(default_factory=GivenLoss)
    rank_with: str = "plain"
    min_keep: int = 0
    num_networks: int = 2

    def choose(self, outputs: Sequence[NetOutput], labels: Tensor, seen: Mapping[str, Tensor]) -> PeerSelection:
        """What the two networks pick of a batch; ``labels`` (B,) are the given ones, ``seen`` is ``evidence`` of both."""
        losses = seen["given_loss"]
        if self.rank_with == "balanced":
            with torch.no_grad():
                losses = torch.stack([self.given.with_prior(output, labels, smoothing=0.0) for output in outputs])
        return select_peers(seen["prediction"], losses, self.drop.of_batch(seen["prediction"], labels), self.min_keep)

    def begin(self, labels: NDArray[np.int64], num_classes: int) -> None:
        """Count the classes."""
        self.given.count(labels, num_classes)
        self.drop.watch(labels)

    def start_epoch(self, epoch: int) -> None:
        """The drop rate goes by the epochs of the phase."""
        self.drop.start_epoch()

    def end_epoch(self, records: EpochRecords) -> None:
        """Measure the drop rate, where no number was given."""
        self.drop.end_epoch(records)

    def state_dict(self) -> dict[str, Any]:
        """Where the drop rate stands."""
        return self.drop.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.drop.load_state_dict(state)
