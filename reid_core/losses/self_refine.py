"""SELF: the network's own hard prediction gradually replaces the given label."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from reid_core import ops
from reid_core.losses._arguments import at_least_float32, check_labels, check_logits, check_share


def label_refine_loss(logits: Tensor, labels: Tensor, confidence: float, *, backend: str = "auto") -> Tensor:
    """``(1 - confidence) * CE(logits, labels) + confidence * CE(logits, argmax logits)``, one value a sample.

    Args:
        logits: (B, C) float, before softmax.
        labels: (B,) int64 in [0, C), the given labels.
        confidence: the weight of the network's own prediction (lambda), in [0, 1].
        backend: ``native`` (compiled), ``torch`` (the definition below), or ``auto``: ``native`` where it was built.

    Returns:
        (B,) float32, float64 for float64 logits. The prediction carries no gradient, its log-probability does. Ties of
        the largest logit go to the lowest class. A row with NaN has the loss NaN.

    Raises:
        ValueError: ``confidence`` lies outside [0, 1], shapes or devices do not fit, or, on the CPU, a label lies
            outside [0, C).
        TypeError: logits are not floating point numbers, or labels not int64.
        RuntimeError: ``native`` was asked for and is missing; the message says why.

    Reference:
        M. Ye et al., "Collaborative Refining for Person Re-Identification With Label Noise",
        IEEE Transactions on Image Processing 31, 2022, eq. for progressive self label refining.
    """
    check_share("confidence", confidence)
    check_logits(logits)
    check_labels(logits, labels)
    if ops.use_native(logits.device.type, backend):
        return ops.cross_entropy(logits, labels, 1.0 - confidence, confidence)
    log_probs = functional.log_softmax(logits, dim=1, dtype=at_least_float32(logits))
    own = functional.nll_loss(log_probs, logits.detach().argmax(dim=1), reduction="none")
    if confidence == 1.0:  # 0 times a loss that may be infinite would be NaN
        return own
    return (1.0 - confidence) * functional.nll_loss(log_probs, labels, reduction="none") + confidence * own
