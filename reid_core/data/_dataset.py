"""Samples become tensors. The augmentation of a sample is a function of (seed, epoch, sample index)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reid_core.data._images import load_image
from reid_core.data._samplers import EpochBatches
from reid_core.data._transforms import Transform
from reid_core.randomness import stream_seed
from reid_core.types import Batch, Sample


class TrainImages(Dataset[tuple[int, int, int, Tensor]]):
    """Training samples by ``(epoch, index)``: index, given label, camera and the augmented image."""

    def __init__(
        self, root: Path, samples: Sequence[Sample], labels: NDArray[np.int64], transform: Transform, seed: int
    ) -> None:
        self.root, self.samples, self.labels, self.transform, self.seed = root, samples, labels, transform, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, int, int, Tensor]:
        """One augmented sample; torch's own generator is left as it was."""
        epoch, index = key
        sample = self.samples[index]
        image = load_image(self.root / sample.path)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(self.seed, "augment", epoch, index))
            return index, int(self.labels[index]), sample.camid, self.transform(image)


class EvalImages(Dataset[tuple[int, Tensor]]):
    """Samples in their order, by position: position and image."""

    def __init__(self, root: Path, samples: Sequence[Sample], transform: Transform) -> None:
        self.root, self.samples, self.transform = root, samples, transform

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[int, Tensor]:
        """One image."""
        return index, self.transform(load_image(self.root / self.samples[index].path))


def _collate(rows: list[tuple[int, int, int, Tensor]]) -> Batch:
    index, labels, camids, images = zip(*rows)
    return Batch(torch.tensor(index), torch.tensor(labels), torch.tensor(camids), {"weak": torch.stack(images)})


def train_loader(
    dataset: TrainImages, batch_size: int, epoch: int, start: int, workers: int, pin_memory: bool = False
) -> DataLoader[Batch]:
    """The batches of ``epoch`` from step ``start`` on: the same for any number of workers."""
    batches = EpochBatches(len(dataset.samples), batch_size, dataset.seed, epoch, start)
    return DataLoader(dataset, batch_sampler=batches, num_workers=workers, collate_fn=_collate, pin_memory=pin_memory)  # type: ignore[arg-type]


def eval_loader(dataset: EvalImages, batch_size: int, workers: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """All samples in order, in batches of (positions, images)."""
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=batch_size, num_workers=workers)
    return loader
