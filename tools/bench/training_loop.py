"""What the trainer costs beside its networks: whole training steps against a bare loop over the same networks.

The bare loop makes the forward passes, the cross-entropy, the gradients and the updates, and nothing else. Both see the
same batches, made beforehand, in turns; processor time is measured, so that waiting counts for nothing.

Usage: python tools/bench/training_loop.py [--arch resnet10t] [--image_size 64 64] [--batchsize 32] [--steps 20] [--rounds 7]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from torch.nn import functional

from reid_core.config import TrainConfig
from reid_core.data._dataset import TrainImages, train_loader
from reid_core.engine.learner import build_learner
from reid_core.engine.phases import PhaseWalk
from reid_core.engine.resolve import resolve
from reid_core.engine.sizes import ImageSizes
from reid_core.engine.trainer import Trainer, TrainerOptions
from reid_core.methods.baseline import Baseline
from reid_core.models._network import Network, build_network
from reid_core.types import Phase, Sample

CLASSES = 86
CPU = torch.device("cpu")


class Made(TrainImages):
    """Images made beforehand: reading and augmenting them is the loader's work, not the loop's."""

    def __init__(self, count: int, size: tuple[int, int]) -> None:
        labels = np.arange(count) % CLASSES
        samples = [Sample(str(i), int(label), 0) for i, label in enumerate(labels)]
        super().__init__(Path(), samples, labels, lambda image: torch.zeros(0), 1)
        self.images = torch.randn(count, 3, *size)

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, int, int, torch.Tensor]:
        """The image of a key."""
        return key[1], int(self.labels[key[1]]), 0, self.images[key[1]]


class Silence:
    """Events that nobody hears."""

    def step(self, epoch: int, step: int, steps: int, losses: Sequence[float | None]) -> None:
        """Nothing."""

    def epoch(self, line: dict[str, Any], records: Any) -> Sequence[str]:
        """Nothing."""
        return ()

    def save(self, also: Sequence[str]) -> None:
        """Nothing."""

    def stop_requested(self) -> int | None:
        """Never."""
        return None


def main() -> None:
    """Print the medians and the trainer's own share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet10t")
    parser.add_argument("--image_size", type=int, nargs=2, default=(64, 64))
    parser.add_argument("--batchsize", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20, help="steps a round")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    size = (args.image_size[0], args.image_size[1])
    config = resolve(TrainConfig(image_size=size, batchsize=args.batchsize, save_minutes=0.0))
    data = Made(args.steps * args.batchsize, size)

    def network() -> Network:
        built = build_network(args.arch, CLASSES, neck="fc512", neck_dim=256, image_size=size)
        return built.to(memory_format=torch.channels_last)

    # An epoch is a round, and one more for warming up; measuring after it is left out.
    phase = Phase("baseline", Baseline(), args.rounds + 2, lambda epoch, local: 1.0)
    trainer = Trainer(
        [build_learner(network(), config, CPU)],
        PhaseWalk([phase]),
        data,
        CLASSES,
        TrainerOptions(ImageSizes(size, args.batchsize), lambda new: data.transform, config.lr or 0.01, 1),
        Silence(),
        lambda networks, new: {},
        lambda epoch: False,
    )
    bare_network, step = network(), bare_step(config)
    batches = [
        (batch.images["weak"].contiguous(memory_format=torch.channels_last), batch.labels)
        for batch in train_loader(data, args.batchsize, 0, 0, 0)
    ]
    rounds = []
    for turn in range(args.rounds + 1):
        start = time.process_time()
        step(bare_network, batches)
        middle = time.process_time()
        trainer._train_epoch()
        trainer._close_epoch()
        if turn:
            rounds.append((middle - start, time.process_time() - middle))
    bare, whole = np.median(rounds, axis=0) / args.steps
    shares = [(b - a) / b for a, b in rounds]
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.arch}, {args.batchsize} images of {size}"
    )
    print(
        f"bare {1000 * bare:.1f} ms, trainer {1000 * whole:.1f} ms of processor time a step; the trainer's own share: "
        f"{100 * float(np.median(shares)):.1f} % (median of {args.rounds} rounds of {args.steps} steps, "
        f"{100 * min(shares):.1f} to {100 * max(shares):.1f} %)"
    )


def bare_step(config: TrainConfig) -> Callable[[Network, list[tuple[torch.Tensor, torch.Tensor]]], None]:
    """A loop over batches with no trainer: the least that training can be."""
    optimizers: dict[int, torch.optim.Optimizer] = {}

    def run(network: Network, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        optimizer = optimizers.setdefault(id(network), build_learner(network, config, CPU).optimizer)
        network.train()
        for images, labels in batches:
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(network(images).logits, labels).backward()
            optimizer.step()

    return run


if __name__ == "__main__":
    main()
