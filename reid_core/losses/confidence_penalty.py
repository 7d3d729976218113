"""A penalty on confident predictions, which delays the fitting of wrong labels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from reid_core import ops
from reid_core.losses._arguments import at_least_float32, check_logits


def confidence_penalty(logits: Tensor, *, backend: str = "auto") -> Tensor:
    """``sum over classes of p log p`` with ``p = softmax(logits)``: minus the entropy, one value a sample.

    Args:
        logits: (B, C) float, before softmax.
        backend: ``native`` (compiled), ``torch`` (the definition below), or ``auto``: ``native`` where it was built.

    Returns:
        (B,) float32, float64 for float64 logits, in [-log C, 0]: -log C where all classes are equally likely, 0 where
        one is certain. A class of probability 0 contributes 0. A row with NaN has the value NaN.

    Raises:
        ValueError: logits are not (B, C), or there is no class. TypeError: they are not floating point numbers.
        RuntimeError: ``native`` was asked for and is missing; the message says why.

    Reference:
        G. Pereyra et al., "Regularizing Neural Networks by Penalizing Confident Output Distributions", ICLR 2017
        workshop; the warm-up of the robust network in asymmetric co-training.

    Differs from the authors' code of asymmetric co-training:
        it limits the logits, not the probabilities, to 1e-12 from below, which makes every negative logit 0 and takes
        its gradient away.
    """
    check_logits(logits)
    if ops.use_native(logits.device.type, backend):
        return ops.confidence_penalty(logits)
    log_probs = functional.log_softmax(logits, dim=1, dtype=at_least_float32(logits))
    # 0 * -inf is NaN, in the value and in the gradient; a finite stand-in is multiplied by probability 0.
    return (log_probs.exp() * log_probs.masked_fill(log_probs.isneginf(), 0.0)).sum(dim=1)
