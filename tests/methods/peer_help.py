"""Batches and drop rates for tests of methods in which networks pick samples for each other."""

import torch

from reid_core.methods._drop_rate import DropRate
from reid_core.types import Batch, NetOutput


def fixed(rate):
    """A drop rate that is this one now, without a ramp."""
    drop = DropRate(rate, 1)
    drop.start_epoch()
    drop.start_epoch()
    assert drop.now == rate
    return drop


def batch_of(labels):
    rows = torch.arange(len(labels))
    return Batch(rows, torch.as_tensor(labels), torch.zeros(len(labels), dtype=torch.long), {})


def step(method, pair, labels):
    """One step on a pair of (B, C) logits."""
    return method.step([NetOutput(logits, logits) for logits in pair], batch_of(labels))


def random_pair(rows=24, classes=4, seed=0):
    """Logits of two networks that predict about half the batch alike, and given labels."""
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, rows, classes, generator=generator)
    b[::2] += 3 * a[::2]
    labels = torch.randint(classes, (rows,), generator=generator)
    agreed = (a.argmax(1) == b.argmax(1)).sum().item()
    assert 4 < agreed < rows - 4
    return (a, b), labels
