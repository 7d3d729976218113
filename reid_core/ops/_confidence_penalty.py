"""Minus the entropy of predictions in one pass over the logits, forward and backward.

The definition is ``reid_core.losses.confidence_penalty``, which checks the arguments and calls this where it is compiled.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reid_core.ops import _shapes
from reid_core.ops._library import refuse_second_derivative


def confidence_penalty(logits: Tensor) -> Tensor:
    """``sum over classes of p log p``, (B,), deterministic.

    Args:
        logits: (B, C) float32, float64, bfloat16 or float16, on the CPU or a GPU; any strides (where classes are not
            neighbours a copy is made).

    Raises:
        RuntimeError: shapes or types that do not fit, or no class; or a second derivative.
    """
    loss: Tensor = _ConfidencePenalty.apply(logits)
    return loss


class _ConfidencePenalty(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        loss, statistics = torch.ops.reid_core.confidence_penalty.default(logits)
        ctx.save_for_backward(logits, statistics)
        return loss  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        refuse_second_derivative("confidence_penalty")
        return torch.ops.reid_core.confidence_penalty_backward.default(grad, *ctx.saved_tensors)  # type: ignore[no-any-return]


SHAPES = {"confidence_penalty": _shapes.loss_and_statistics, "confidence_penalty_backward": _shapes.gradient}
"""What the compiler needs to know of each operation."""
