"""The order of an epoch is a function of (seed, epoch): a loader has no state to save."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Sampler

from reid_core.randomness import generator


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of ``(epoch, sample index)`` keys of one epoch, from any step on.

    A last batch of one sample is left out, as batch norm cannot train on it; another order leaves out another sample.
    """

    def __init__(self, num_samples: int, batch_size: int, seed: int, epoch: int, start: int = 0) -> None:
        self.num_samples, self.batch_size, self.seed, self.epoch, self.start = (
            num_samples,
            batch_size,
            seed,
            epoch,
            start,
        )

    def __len__(self) -> int:
        """Batches left from ``start`` on."""
        full, rest = divmod(self.num_samples, self.batch_size)
        return full + (rest > 1) - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Lists of keys."""
        order = generator(self.seed, "order", self.epoch).permutation(self.num_samples)
        for step in range(self.start, self.start + len(self)):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield [(self.epoch, int(i)) for i in rows]
