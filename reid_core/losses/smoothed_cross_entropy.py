"""Cross-entropy with a share of the label spread over all classes."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from reid_core import ops
from reid_core.losses._arguments import at_least_float32, check_labels, check_logits, check_share


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0, *, backend: str = "auto") -> Tensor:
    """``(1 - smoothing) * CE(logits, labels) + smoothing * mean over classes c of CE(logits, c)``, one value a sample.

    Args:
        logits: (B, C) float, before softmax.
        labels: (B,) int64 in [0, C).
        smoothing: the share that all classes have in common, the label's own among them, in [0, 1].
        backend: ``native`` (compiled), ``torch`` (the definition below), or ``auto``: ``native`` where it was built.

    Returns:
        (B,) float32, float64 for float64 logits: what PyTorch's ``label_smoothing`` gives. With a share above 0 a class
        whose logit is -inf makes the loss infinite. A row with NaN has the loss NaN.

    Raises:
        ValueError: ``smoothing`` lies outside [0, 1], shapes or devices do not fit, or, on the CPU, a label lies
            outside [0, C).
        TypeError: logits are not floating point numbers, or labels not int64.
        RuntimeError: ``native`` was asked for and is missing; the message says why.

    Reference:
        C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, section 7.
    """
    check_share("smoothing", smoothing)
    check_logits(logits)
    check_labels(logits, labels)
    if ops.use_native(logits.device.type, backend):
        return ops.cross_entropy(logits, labels, 1.0, 0.0, smoothing)
    log_probs = functional.log_softmax(logits, dim=1, dtype=at_least_float32(logits))
    given = functional.nll_loss(log_probs, labels, reduction="none")
    if smoothing == 0.0:
        return given
    return (1.0 - smoothing) * given - smoothing * log_probs.mean(dim=1)
