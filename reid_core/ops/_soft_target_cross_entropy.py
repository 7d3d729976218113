"""Cross-entropy with a distribution as the target in one pass over the logits, forward and backward.

The definition is ``reid_core.losses.soft_target_cross_entropy``, which checks the arguments and calls this where it is
compiled.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reid_core.ops import _shapes
from reid_core.ops._library import refuse_second_derivative


def soft_target_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """``-sum over classes of targets * log softmax(logits)``, (B,), deterministic.

    Args:
        logits: (B, C) float32, float64, bfloat16 or float16, on the CPU or a GPU; any strides (where classes are not
            neighbours a copy is made).
        targets: (B, C) of the type of the logits or of the result (float32, float64 for float64 logits), constant.

    Raises:
        RuntimeError: shapes, types or devices that do not fit, or no class; or a second derivative.
    """
    loss: Tensor = _SoftTarget.apply(logits, targets)
    return loss


class _SoftTarget(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        loss, statistics = torch.ops.reid_core.soft_target_cross_entropy.default(logits, targets)
        ctx.save_for_backward(logits, targets, statistics)
        return loss  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        refuse_second_derivative("soft_target_cross_entropy")
        return torch.ops.reid_core.soft_target_cross_entropy_backward.default(grad, *ctx.saved_tensors), None


SHAPES = {
    "soft_target_cross_entropy": _shapes.loss_and_statistics,
    "soft_target_cross_entropy_backward": _shapes.gradient,
}
"""What the compiler needs to know of each operation."""
