"""Losses and predictions of two networks, from which they choose each other's samples.

The definition is in ``reid_core.losses.peer_selection``, which checks the arguments and calls this where it is compiled.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reid_core.ops import _shapes


def peer_statistics(a: Tensor, b: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy with the given labels, (2, B), and classes of the largest logits, (2, B) int64; no gradient.

    Args:
        a, b: (B, C) float32, float64, bfloat16 or float16, on the CPU or a GPU; any strides.
        labels: (B,) int64 in [0, C).

    Raises:
        RuntimeError: shapes, types or devices that do not fit, no class, or, on the CPU, a label outside [0, C).
    """
    losses, predictions = torch.ops.reid_core.peer_statistics.default(a.detach(), b.detach(), labels)
    return losses, predictions


def _shape(a: Tensor, b: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    loss = _shapes.loss_of(a)
    return loss.new_empty((2, len(a))), a.new_empty((2, len(a)), dtype=torch.int64)


SHAPES = {"peer_statistics": _shape}
"""What the compiler needs to know of the operation."""
