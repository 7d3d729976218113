"""Co-refining of two networks in one pass over their logits, forward and backward.

The definition is ``reid_core.losses.co_refine``, which checks the arguments and calls this where it is compiled.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reid_core.ops import _shapes
from reid_core.ops._library import refuse_second_derivative

Weights = tuple[float, float, float]
"""``soft_weight``, ``agree_weight``, ``disagree_weight``."""

_Shared = dict[int, tuple[Tensor, Tensor]]
"""Of a network that has not gone backward yet: its gradient, and the gradient of its loss for which that was computed."""


def co_refine_pair(a: Tensor, b: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
    """Loss of network a with b as its teacher, and of b with a, (B,) each; both are read once.

    Each loss has a gradient for its own network alone, and a backward of its own: networks are updated one after the
    other. Of size (B, C) nothing is kept but the logits themselves.

    Args:
        a, b: (B, C) float32, float64, bfloat16 or float16, on the CPU or a GPU; any strides (where classes are not
            neighbours a copy is made).
        weights: at least 0.

    Raises:
        RuntimeError: shapes, types or devices that do not fit, no class, or a negative weight; or a second derivative.
    """
    fixed_a, fixed_b = a.detach(), b.detach()
    loss_a, loss_b, statistics = torch.ops.reid_core.co_refine_pair.default(fixed_a, fixed_b, *weights)
    shared: _Shared | None = {}
    if not (a.requires_grad and b.requires_grad and a.is_cpu) or torch.compiler.is_compiling():
        shared = None
    return (
        _Learn.apply(a, fixed_b, loss_a, statistics, (0, *weights), shared),
        _Learn.apply(b, fixed_a, loss_b, statistics, (1, *weights), shared),
    )


def co_refine(logits: Tensor, peer_logits: Tensor, weights: Weights) -> Tensor:
    """Loss of one network, (B,); the peer only teaches. Arguments as those of ``co_refine_pair``."""
    loss, statistics = torch.ops.reid_core.co_refine.default(logits.detach(), peer_logits, *weights)
    learnt: Tensor = _Learn.apply(logits, peer_logits, loss, statistics, (0, *weights), None)
    return learnt


class _Learn(torch.autograd.Function):
    """Gives a loss that is known already its gradient.

    Args:
        constants: the network's place in the statistics, and the weights.
        shared: what both losses of a pair hold. Their gradients need the same exponentials, and each loss is most often
            averaged over the batch, so that both have the same gradient themselves. The first to go backward computes for
            the other too, which looks whether that is so.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        peer_logits: Tensor,
        loss: Tensor,
        statistics: Tensor,
        constants: tuple[int, float, float, float],
        shared: _Shared | None,
    ) -> Tensor:
        ctx.save_for_backward(logits, peer_logits, statistics)
        ctx.constants, ctx.shared = constants, shared
        return loss.view_as(loss)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        refuse_second_derivative("co_refine")
        logits, peer_logits, statistics = ctx.saved_tensors
        learner, *weights = ctx.constants
        if ctx.shared is None:
            gradient = torch.ops.reid_core.co_refine_backward.default(
                grad, logits, peer_logits, statistics, learner, *weights
            )
            return gradient, None, None, None, None, None
        for_grad, gradient = ctx.shared.pop(learner, (None, None))
        if for_grad is None or not torch.equal(for_grad, grad):
            pair = (logits, peer_logits) if learner == 0 else (peer_logits, logits)
            both = torch.ops.reid_core.co_refine_pair_backward.default(grad, *pair, statistics, *weights)
            gradient, ctx.shared[1 - learner] = both[learner], (grad.clone(), both[1 - learner])
        return gradient, None, None, None, None, None


def _statistics(logits: Tensor) -> Tensor:
    return logits.new_empty((2, len(logits), 3), dtype=torch.float64)


SHAPES = {
    "co_refine_pair": lambda a, b, *weights: (_shapes.loss_of(a), _shapes.loss_of(a), _statistics(a)),
    "co_refine": lambda logits, peer_logits, *weights: (_shapes.loss_of(logits), _statistics(logits)),
    "co_refine_backward": _shapes.gradient,
    "co_refine_pair_backward": lambda grad, a, *rest: (_shapes.gradient(grad, a), _shapes.gradient(grad, a)),
}
"""What the compiler needs to know of each operation."""
