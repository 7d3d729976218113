"""SELF: the network's own hard prediction gradually replaces the given label."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def label_refine_loss(logits: Tensor, labels: Tensor, confidence: float) -> Tensor:
    """``(1 - confidence) * CE(logits, labels) + confidence * CE(logits, argmax logits)``, one value a sample.

    Args:
        logits: (B, C) float, before softmax.
        labels: (B,) int64 in [0, C), the given labels.
        confidence: the weight of the network's own prediction (lambda), in [0, 1].

    Returns:
        (B,) float32 or better. The prediction carries no gradient, its log-probability does. Ties of the
        largest logit go to the lowest class.

    Raises:
        ValueError: ``confidence`` lies outside [0, 1].

    Reference:
        M. Ye et al., "Collaborative Refining for Person Re-Identification With Label Noise",
        IEEE Transactions on Image Processing 31, 2022, eq. for progressive self label refining.
    """
    if not 0.0 <= confidence <= 1.0:
        raise ValueError(f"confidence must lie in [0, 1], got {confidence}")
    log_probs = functional.log_softmax(logits, dim=1, dtype=at_least_float32(logits))
    prediction = log_probs.detach().argmax(dim=1)
    given = functional.nll_loss(log_probs, labels, reduction="none")
    own = functional.nll_loss(log_probs, prediction, reduction="none")
    return (1.0 - confidence) * given + confidence * own


def at_least_float32(logits: Tensor) -> torch.dtype:
    """Softmax and logarithms of half precision logits are computed in float32."""
    return torch.promote_types(logits.dtype, torch.float32)
