"""Cross-entropy with a distribution over the classes in the place of a label."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from reid_core import ops
from reid_core.losses._arguments import at_least_float32, check_logits


def soft_target_cross_entropy(logits: Tensor, targets: Tensor, *, backend: str = "auto") -> Tensor:
    """``-sum over classes c of targets[c] * log softmax(logits)[c]``, one value a sample.

    Args:
        logits: (B, C) float, before softmax.
        targets: (B, C) float, at least 0, constant. Rows usually sum to 1; nothing is divided by their sum.
        backend: ``native`` (compiled), ``torch`` (the definition below), or ``auto``: ``native`` where it was built.

    Returns:
        (B,) float32, float64 for float64 logits. A class with target 0 contributes 0 even where its logit is -inf. The
        least value is the entropy of the targets, not 0. A row with NaN has the loss NaN.

    Raises:
        ValueError: shapes or devices differ, there is no class, or the targets require a gradient.
        TypeError: logits or targets are not floating point numbers.
        RuntimeError: ``native`` was asked for and is missing; the message says why.
    """
    check_logits(logits)
    if targets.shape != logits.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} must agree in shape")
    if not targets.is_floating_point():
        raise TypeError(f"targets must be probabilities, got {targets.dtype}; labels go to smoothed_cross_entropy")
    if targets.device != logits.device:
        raise ValueError(f"targets are on {targets.device}, logits on {logits.device}")
    if targets.requires_grad:
        raise ValueError("targets require a gradient, but are constant here: pass targets.detach()")
    dtype = at_least_float32(logits)
    if ops.use_native(logits.device.type, backend):
        targets = targets if targets.dtype == logits.dtype else targets.to(dtype)
        return ops.soft_target_cross_entropy(logits, targets)
    log_probs = functional.log_softmax(logits, dim=1, dtype=dtype)
    targets = targets.to(dtype)
    return -(targets * log_probs.masked_fill(targets == 0, 0.0)).sum(dim=1)
