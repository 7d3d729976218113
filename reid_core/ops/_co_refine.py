"""Co-refining of two networks in one pass over their logits, forward and backward.

The definition is ``reid_core.losses.co_refine``, which checks the arguments and calls this where it is compiled.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from reid_core.ops import _shapes
from reid_core.ops._kept_memory import empty_like
from reid_core.ops._library import refuse_second_derivative

Weights = tuple[float, float, float]
"""``soft_weight``, ``agree_weight``, ``disagree_weight``."""


def co_refine_pair(a: Tensor, b: Tensor, weights: Weights, mean: bool = False) -> tuple[Tensor, Tensor]:
    """Loss of network a with b as its teacher, and of b with a, (B,) each or the mean of each; both are read once.

    Each loss has a gradient for its own network alone, and may go backward with the other or by itself. Of size (B, C)
    nothing is kept but the logits themselves and, where both networks learn on the CPU, the gradients to be.

    Args:
        a, b: (B, C) float32, float64, bfloat16 or float16, on the CPU or a GPU; any strides (where classes are not
            neighbours a copy is made).
        weights: at least 0.
        mean: the means of the losses, without dimensions: at 32 x 751 torch's means, forward and backward, would take half
            as long again.

    Raises:
        RuntimeError: shapes, types or devices that do not fit, no class, or a negative weight; or a second derivative.
    """
    if (
        a.requires_grad
        and b.requires_grad
        and torch.is_grad_enabled()
        and a.is_cpu
        and not torch.compiler.is_compiling()
    ):
        both: tuple[Tensor, Tensor] = _LearnBoth.apply(a, b, weights, mean)
        return both
    fixed_a, fixed_b = a.detach(), b.detach()
    loss_a, loss_b, statistics = torch.ops.reid_core.co_refine_pair.default(fixed_a, fixed_b, *weights)
    losses = (
        _Learn.apply(a, fixed_b, loss_a, statistics, (0, *weights)),
        _Learn.apply(b, fixed_a, loss_b, statistics, (1, *weights)),
    )
    return (losses[0].mean(), losses[1].mean()) if mean else losses


def co_refine(logits: Tensor, peer_logits: Tensor, weights: Weights) -> Tensor:
    """Loss of one network, (B,); the peer only teaches. Arguments as those of ``co_refine_pair``."""
    loss, statistics = torch.ops.reid_core.co_refine.default(logits.detach(), peer_logits, *weights)
    learnt: Tensor = _Learn.apply(logits, peer_logits, loss, statistics, (0, *weights))
    return learnt


class _LearnBoth(torch.autograd.Function):
    """Both losses on the CPU, and the gradients of their means, which most often follow: an exponential is computed once
    and logits are read once, forward and backward together. Whatever else follows gets its gradient all the same."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, weights: Weights, mean: bool) -> tuple[Tensor, Tensor]:
        gradients = [empty_like(a), empty_like(b)]
        loss_a, loss_b, mean_a, mean_b, statistics = torch.ops.reid_core.co_refine_pair_gradients.default(
            a, b, *gradients, *weights
        )
        ctx.set_materialize_grads(False)
        # Not saved the usual way: each loss may go backward on its own, and the first must not take these from the second.
        ctx.gradients, ctx.learnt = gradients, (a, b, statistics, weights)
        ctx.versions = a._version, b._version
        return (mean_a, mean_b) if mean else (loss_a, loss_b)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, Tensor | None, None, None]:
        refuse_second_derivative("co_refine")
        return (*(None if grad is None else _gradient(ctx, k, grad) for k, grad in enumerate(grads)), None, None)  # type: ignore[return-value]


def _gradient(ctx: Any, learner: int, grad: Tensor) -> Tensor:
    """The gradient of network ``learner``: that of the mean, scaled if need be, or computed anew.

    ``grad`` is that of the losses, (B,), or of their mean, ().
    """
    gradient, ctx.gradients[learner] = ctx.gradients[learner], None  # handed on, so that no copy is made
    if gradient is not None:
        scale = torch.ops.reid_core.mean_scale.default(grad) if grad.dim() else grad.item()
        if scale == 1.0:
            return gradient  # type: ignore[no-any-return]
        if math.isfinite(scale) and gradient.dtype == grad.dtype:  # a 16-bit one is rounded already
            return gradient.mul_(scale)  # type: ignore[no-any-return]
    a, b, statistics, weights = ctx.learnt
    if (a._version, b._version) != ctx.versions:
        raise RuntimeError(
            "logits that co_refine needs for its gradient were changed in place after the loss was computed"
        )
    own, peer = (a, b) if learner == 0 else (b, a)
    if not grad.dim():
        grad = (grad / len(a)).expand(len(a))
    made: Tensor = torch.ops.reid_core.co_refine_backward.default(grad, own, peer, statistics, learner, *weights)
    return made


class _Learn(torch.autograd.Function):
    """Gives a loss that is known already its gradient; ``constants``: the network's place in the statistics, and the weights."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        peer_logits: Tensor,
        loss: Tensor,
        statistics: Tensor,
        constants: tuple[int, float, float, float],
    ) -> Tensor:
        ctx.save_for_backward(logits, peer_logits, statistics)
        ctx.constants = constants
        return loss.view_as(loss)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        refuse_second_derivative("co_refine")
        logits, peer_logits, statistics = ctx.saved_tensors
        learner, *weights = ctx.constants
        gradient = torch.ops.reid_core.co_refine_backward.default(
            grad, logits, peer_logits, statistics, learner, *weights
        )
        return gradient, None, None, None, None


def _statistics(logits: Tensor) -> Tensor:
    return logits.new_empty((2, len(logits), 3), dtype=torch.float64)


SHAPES = {
    "co_refine_pair": lambda a, b, *weights: (_shapes.loss_of(a), _shapes.loss_of(a), _statistics(a)),
    "co_refine": lambda logits, peer_logits, *weights: (_shapes.loss_of(logits), _statistics(logits)),
    "co_refine_backward": _shapes.gradient,
    "co_refine_pair_gradients": lambda a, *rest: (
        *(_shapes.loss_of(a), _shapes.loss_of(a)),
        *(_shapes.loss_of(a).new_empty(()), _shapes.loss_of(a).new_empty(())),
        _statistics(a),
    ),
}
"""What the compiler needs to know of each operation."""
