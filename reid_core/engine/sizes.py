"""Which image size an epoch has, and how many images a batch then holds."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from reid_core.engine.phases import PhaseWalk
from reid_core.models._network import Network

Size = tuple[int, int]


@dataclass(frozen=True)
class ImageSizes:
    """Progressive resizing: a share of the epochs sees small images, the rest full ones; rates stay as they are.

    It is a matter of epochs, not of phases, so that every recipe has it as it stands, also one whose phases end on evidence.

    Attributes:
        full: (height, width) of the end, and of all where ``small`` is None.
        small: of the beginning.
        share: of the epochs in which the backbone trains; epochs with a frozen one do not count.
        batch_size: images a batch at the beginning. Larger images come in batches smaller by the ratio of the areas,
            rounded down to a multiple of 8.
    """

    full: Size
    batch_size: int
    small: Size | None = None
    share: float = 0.6

    def of(self, walk: PhaseWalk, epoch: int) -> Size:
        """(height, width) in ``epoch``; a phase's own size goes before all else."""
        phase = walk.phases[walk.position(epoch)]
        if phase.image_size is not None:
            return phase.image_size
        if self.small is None:
            return self.full
        frozen = [walk.phases[walk.position(e)].frozen for e in range(walk.epochs)]
        trained = len(frozen) - sum(frozen)
        before = epoch - sum(frozen[:epoch])
        return self.small if before < round(self.share * trained) else self.full

    def all(self, walk: PhaseWalk) -> list[Size]:
        """Every size that the run may come to, each once."""
        own = [phase.image_size for phase in walk.phases if phase.image_size is not None]
        return list(dict.fromkeys([*([] if self.small is None else [self.small]), self.full, *own]))

    def batch(self, size: Size) -> int:
        """Images a batch at ``size``."""
        first = self.full if self.small is None else self.small
        ratio = first[0] * first[1] / (size[0] * size[1])
        if ratio >= 1:
            return self.batch_size
        return max(int(self.batch_size * ratio) // 8 * 8, min(8, self.batch_size))


def check_sizes(networks: Sequence[Network], sizes: Sequence[Size]) -> None:
    """See that every network can be made ready for every size, before anything is trained; on copies.

    Raises:
        UsageError: one cannot; the nearest sizes it can take are offered.
    """
    for network in networks if len(sizes) > 1 else ():
        for size in sizes:
            copy.deepcopy(network).set_image_size(size)
