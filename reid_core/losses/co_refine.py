"""CORE: each network learns from the other's hard and soft prediction."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from reid_core import ops
from reid_core.losses._arguments import at_least_float32, check_alike


def co_refine_loss(
    logits: Tensor,
    peer_logits: Tensor,
    soft_weight: float = 1.0,
    agree_weight: float = 1.0,
    disagree_weight: float = 1.0,
    *,
    backend: str = "auto",
) -> Tensor:
    """``w * CE(logits, argmax peer) + soft_weight * H(softmax peer, softmax logits)``, one value a sample.

    ``w`` is ``agree_weight`` where both networks predict the same class and ``disagree_weight`` elsewhere;
    selective consistency is ``disagree_weight = 0``. The given label is not used.

    Args:
        logits: (B, C) float, before softmax.
        peer_logits: (B, C) of the same type, the other network's, detached: it only teaches.
        soft_weight: weight of the soft term (mu), at least 0.
        agree_weight, disagree_weight: weights of the hard term, at least 0.
        backend: ``native`` (compiled, one pass over the logits), ``torch`` (the definition below), or ``auto``:
            ``native`` where it was built.

    Returns:
        (B,) float32, float64 for float64 logits. The caller takes the mean over all B samples, also when some weights
        are 0. The soft term is a cross-entropy: at least the peer's entropy, not 0, where both agree exactly. Ties of
        the largest logit go to the lowest class. A row with NaN has the loss NaN.

    Raises:
        ValueError: shapes or devices differ, there is no class, the peer requires a gradient, a weight is negative, or
            the backend is unknown.
        TypeError: logits are not of one floating point type.
        RuntimeError: ``native`` was asked for and is missing; the message says why.

    Reference:
        M. Ye et al., "Collaborative Refining for Person Re-Identification With Label Noise",
        IEEE Transactions on Image Processing 31, 2022, co-refining and selective consistency.

    Differs from the authors' code:
        the hard term is masked a sample at a time; theirs is averaged before the mask, which scales the
        whole batch's loss, disagreeing samples included, by the agreement rate.
    """
    check_alike("logits", logits, "peer_logits", peer_logits)
    if peer_logits.requires_grad:
        raise ValueError(
            "peer_logits require a gradient, but the peer only teaches: pass peer_logits.detach(), or let both learn "
            "with co_refine_pair_loss"
        )
    _check_weights(soft_weight, agree_weight, disagree_weight)
    if ops.use_native(logits.device.type, backend):
        return ops.co_refine(logits, peer_logits, (soft_weight, agree_weight, disagree_weight))
    dtype = at_least_float32(logits)
    peer_probs = functional.softmax(peer_logits, dim=1, dtype=dtype)
    log_probs = functional.log_softmax(logits, dim=1, dtype=dtype)
    taught = peer_logits.argmax(dim=1)
    agree = (logits.detach().argmax(dim=1) == taught).to(dtype)
    hard = functional.nll_loss(log_probs, taught, reduction="none")
    # A class the peer gives probability 0 contributes 0 even where this network's log-probability is -inf.
    soft = -(peer_probs * log_probs.masked_fill(peer_probs == 0, 0.0)).sum(dim=1)
    return (agree_weight * agree + disagree_weight * (1 - agree)) * hard + soft_weight * soft


def co_refine_pair_loss(
    logits_a: Tensor,
    logits_b: Tensor,
    soft_weight: float = 1.0,
    agree_weight: float = 1.0,
    disagree_weight: float = 1.0,
    *,
    reduction: str = "none",
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """``co_refine_loss`` of each network with the other, detached here, as its teacher.

    Args:
        logits_a, logits_b: (B, C) float of one type, before softmax.
        soft_weight, agree_weight, disagree_weight: at least 0.
        reduction: ``none``, or ``mean`` over the samples: with few classes that saves a third of the time.
        backend: as in ``co_refine_loss``; ``native`` reads both networks' logits once.

    Returns:
        Two of (B,), as ``co_refine_loss`` gives them, or their means, (): the loss of the first network, whose gradient
        reaches ``logits_a`` alone, and of the second.

    Raises:
        ValueError: as ``co_refine_loss``, or another reduction.
        TypeError, RuntimeError: as ``co_refine_loss``.
    """
    check_alike("logits_a", logits_a, "logits_b", logits_b)
    _check_weights(soft_weight, agree_weight, disagree_weight)
    if reduction not in ("none", "mean"):
        raise ValueError(f"reduction must be none or mean, got {reduction!r}")
    weights = soft_weight, agree_weight, disagree_weight
    if ops.use_native(logits_a.device.type, backend):
        return ops.co_refine_pair(logits_a, logits_b, weights, mean=reduction == "mean")
    losses = (
        co_refine_loss(logits_a, logits_b.detach(), *weights, backend="torch"),
        co_refine_loss(logits_b, logits_a.detach(), *weights, backend="torch"),
    )
    return (losses[0].mean(), losses[1].mean()) if reduction == "mean" else losses


def _check_weights(soft_weight: float, agree_weight: float, disagree_weight: float) -> None:
    for name, weight in (("soft", soft_weight), ("agree", agree_weight), ("disagree", disagree_weight)):
        if not weight >= 0.0:
            raise ValueError(f"{name}_weight must be at least 0, got {weight}")
