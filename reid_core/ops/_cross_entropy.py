"""Cross-entropy with given labels, own predictions and all classes in one pass over the logits, forward and backward.

The definitions are ``reid_core.losses.self_refine``, ``smoothed_cross_entropy`` and ``balanced_softmax``, which check the
arguments and call this where it is compiled.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reid_core.ops import _shapes
from reid_core.ops._library import refuse_second_derivative


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    given_weight: float,
    own_weight: float,
    smoothing: float = 0.0,
    shift: Tensor | None = None,
) -> Tensor:
    """``(1 - s) * (given_weight * CE(z, label) + own_weight * CE(z, argmax z)) + s * mean over classes of CE(z, class)``.

    Here ``z = logits + shift`` and ``s = smoothing``. Of size (B, C) nothing is kept but the logits themselves.

    Args:
        logits: (B, C) float32, float64, bfloat16 or float16, on the CPU or a GPU; any strides (where classes are not
            neighbours a copy is made).
        labels: (B,) int64 in [0, C).
        given_weight, own_weight, smoothing: at least 0.
        shift: (C,) of the type of the result, constant; or None.

    Returns:
        (B,) float32, float64 for float64 logits; deterministic.

    Raises:
        RuntimeError: shapes, types or devices that do not fit, no class, a negative weight, or, on the CPU, a label outside
            [0, C); or a second derivative.
    """
    loss: Tensor = _CrossEntropy.apply(logits, labels, shift, (given_weight, own_weight, smoothing))
    return loss


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, shift: Tensor | None, weights: tuple[float, float, float]
    ) -> Tensor:
        loss, statistics = torch.ops.reid_core.cross_entropy.default(logits, labels, shift, *weights)
        ctx.save_for_backward(logits, labels, shift, statistics)
        ctx.weights = weights
        return loss  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        refuse_second_derivative("cross_entropy")
        gradient = torch.ops.reid_core.cross_entropy_backward.default(grad, *ctx.saved_tensors, *ctx.weights)
        return gradient, None, None, None


SHAPES = {"cross_entropy": _shapes.loss_and_statistics, "cross_entropy_backward": _shapes.gradient}
"""What the compiler needs to know of each operation."""
