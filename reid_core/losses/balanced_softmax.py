"""Balanced softmax: frequent classes need larger logits to be believed."""

from __future__ import annotations

import torch
from torch import Tensor

from reid_core import ops
from reid_core.losses._arguments import at_least_float32, check_labels, check_logits, check_share
from reid_core.losses.smoothed_cross_entropy import smoothed_cross_entropy

NO_SAMPLE = 1e-12
"""Stands for the count of a class that has no sample, so that its logarithm is finite."""


def balanced_softmax_loss(
    logits: Tensor,
    labels: Tensor,
    class_counts: Tensor,
    tau: float = 1.0,
    smoothing: float = 0.0,
    *,
    backend: str = "auto",
) -> Tensor:
    """``smoothed_cross_entropy(logits + tau * log class_counts, labels, smoothing)``, one value a sample.

    In training alone: a prediction is the largest of the logits themselves.

    Args:
        logits: (B, C) float, before softmax.
        labels: (B,) int64 in [0, C).
        class_counts: (C,) training images of each given label, in label order. Their scale does not matter. A class
            without any counts 1e-12; whoever counts may want to warn of it.
        tau: strength of the prior, at least 0: at 0 the counts play no part.
        smoothing: as in ``smoothed_cross_entropy``, of the shifted logits.
        backend: ``native`` (compiled), ``torch`` (the definition below), or ``auto``: ``native`` where it was built.

    Returns:
        (B,) float32, float64 for float64 logits. A row with NaN has the loss NaN.

    Raises:
        ValueError: ``smoothing`` lies outside [0, 1], ``tau`` is negative or not finite, shapes or devices do not fit,
            or, on the CPU, a label lies outside [0, C) or a count is negative or not finite.
        TypeError: logits are not floating point numbers, or labels not int64.
        RuntimeError: ``native`` was asked for and is missing; the message says why.

    Reference:
        J. Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020, eq. 4.
    """
    check_share("smoothing", smoothing)
    check_logits(logits)
    check_labels(logits, labels)
    shift = prior_shift(logits, class_counts, tau)
    if ops.use_native(logits.device.type, backend):
        return ops.cross_entropy(logits, labels, 1.0, 0.0, smoothing, shift)
    return smoothed_cross_entropy(logits.to(shift.dtype) + shift, labels, smoothing, backend="torch")


def prior_shift(logits: Tensor, class_counts: Tensor, tau: float) -> Tensor:
    """``tau * log class_counts``, (C,), in the type the loss of these logits is computed in."""
    classes = logits.shape[1]
    if class_counts.shape != (classes,):
        raise ValueError(f"class_counts must be ({classes},), one a class, got {tuple(class_counts.shape)}")
    if class_counts.device != logits.device:
        raise ValueError(f"class_counts are on {class_counts.device}, logits on {logits.device}")
    if not 0.0 <= tau < float("inf"):
        raise ValueError(f"tau must be finite and at least 0, got {tau}")
    counts = class_counts.detach().to(at_least_float32(logits))
    if counts.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = ~(counts >= 0) | counts.isinf()
        if wrong.any():
            label = int(wrong.to(torch.uint8).argmax())
            raise ValueError(f"class_counts must be finite and at least 0, got {float(counts[label])} at class {label}")
    return tau * counts.where(counts > 0, NO_SAMPLE).log()
