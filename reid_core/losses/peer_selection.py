"""Peer learning: which samples two networks predict alike, and whose given label each of them finds easy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from reid_core import ops
from reid_core.losses._arguments import at_least_float32, check_alike, check_labels, check_share


@dataclass(frozen=True)
class PeerSelection:
    """What two networks make of a batch; no gradient.

    Attributes:
        predictions: (2, B) int64, each network's largest logit.
        agreement: (B,) bool, where both predict the same class. The given label plays no part.
        losses: (2, B) float32, float64 for float64 logits: cross-entropy with the given labels.
        picks: (2, B) bool. ``picks[k]`` are the samples with the smallest losses *of* network k among those agreed on;
            the *other* network learns from them.
    """

    predictions: Tensor
    agreement: Tensor
    losses: Tensor
    picks: Tensor


def peer_selection(
    logits_a: Tensor, logits_b: Tensor, labels: Tensor, drop_rate: float, *, backend: str = "auto"
) -> PeerSelection:
    """Predictions, agreement, losses and small-loss picks of both networks.

    Each network picks ``floor((1 - drop_rate) * |A| + 1e-9)`` of the samples A that both predict alike: those with its
    smallest losses, ties by place in the batch, NaN last. Where A or that number is 0, nothing is picked: such a batch
    teaches by the samples the networks disagree on, and one without those not at all. It must not teach by the samples
    that were refused.

    Args:
        logits_a, logits_b: (B, C) float of one type, before softmax.
        labels: (B,) int64 in [0, C), the given labels.
        drop_rate: the share of A that each network refuses, in [0, 1].
        backend: ``native`` (compiled), ``torch`` (the definition below), or ``auto``: ``native`` where it was built.

    Raises:
        ValueError: ``drop_rate`` lies outside [0, 1], shapes or devices do not fit, or, on the CPU, a label lies
            outside [0, C).
        TypeError: logits are not of one floating point type, or labels not int64.
        RuntimeError: ``native`` was asked for and is missing; the message says why.

    Reference:
        Z. Sun et al., "Webly Supervised Fine-Grained Recognition: Benchmark Datasets and An Approach", ICCV 2021.
    """
    check_share("drop_rate", drop_rate)
    check_alike("logits_a", logits_a, "logits_b", logits_b)
    check_labels(logits_a, labels)
    if ops.use_native(logits_a.device.type, backend):
        losses, predictions = ops.peer_statistics(logits_a, logits_b, labels)
        return select_peers(predictions, losses, drop_rate)
    pair = logits_a.detach(), logits_b.detach()
    predictions = torch.stack([logits.argmax(dim=1) for logits in pair])
    log_probs = [functional.log_softmax(logits, dim=1, dtype=at_least_float32(logits)) for logits in pair]
    losses = torch.stack([functional.nll_loss(values, labels, reduction="none") for values in log_probs])
    return select_peers(predictions, losses, drop_rate)


def select_peers(predictions: Tensor, losses: Tensor, drop_rate: float | Tensor, min_keep: int = 0) -> PeerSelection:
    """Agreement and picks from (2, B) predictions and losses; at least ``min_keep`` of those agreed on, if there are.

    ``drop_rate`` lies in [0, 1]; as a tensor, (), it is not waited for.
    """
    agreement = predictions[0] == predictions[1]
    agreed = agreement.sum().double()
    # 1e-9: (1 - 0.9) * 10 is 0.99..., one sample all the same. In tensors: a GPU is not waited for.
    kept = torch.maximum(((1.0 - drop_rate) * agreed + 1e-9).floor(), agreed.clamp(max=min_keep))
    order = losses.argsort(dim=1, stable=True)
    # Those agreed on come first, whatever the losses of the others are.
    first = (~agreement[order]).to(torch.uint8).argsort(dim=1, stable=True)
    rank = order.gather(1, first).argsort(dim=1)
    return PeerSelection(predictions, agreement, losses, rank < kept)
