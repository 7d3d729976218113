"""Losses of one network straight from embeddings and classifier: logits never exist all at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from reid_core.losses._linear import Chunk, Classifier, linear_loss
from reid_core.losses._partial_softmax import Top, merge_tops, top_of


def linear_cross_entropy(
    embeddings: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    smoothing: float = 0.0,
    *,
    chunk: int | None = None,
) -> Tensor:
    """``smoothed_cross_entropy`` of ``functional.linear(embeddings, weight, bias)`` without ever holding (B, C).

    Args:
        embeddings: (B, D) float. weight: (C, D) of the same dtype. bias: (C,) or None.
        labels: (B,) int64 in [0, C).
        smoothing: the share of the target that is spread over all classes, in [0, 1].
        chunk: how many classes at a time; None: as many as keep a chunk's logits within the cache.

    Returns:
        (B,) float32 or better, with gradients for embeddings, weight and bias; there is no second derivative. Under
        autocast the product is made in its dtype.

    Raises:
        ValueError: shapes that do not fit, a label or ``smoothing`` out of range (labels are looked at on the CPU
            alone; elsewhere the loss is NaN), ``chunk`` below 1. TypeError: dtypes or devices that differ.
    """
    if not 0.0 <= smoothing <= 1.0:
        raise ValueError(f"smoothing must lie in [0, 1], got {smoothing}")
    _check_labels(labels, embeddings, weight)
    loss = _OneNetwork(labels, 1.0, 0.0, smoothing, len(weight))
    return linear_loss(loss, [Classifier(embeddings, weight, bias)], chunk)[0]


def linear_label_refine_loss(
    embeddings: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    confidence: float,
    *,
    chunk: int | None = None,
) -> Tensor:
    """``label_refine_loss`` of ``functional.linear(embeddings, weight, bias)`` without ever holding (B, C).

    Args:
        confidence: weight of the network's own prediction (lambda), in [0, 1]. All others as in ``linear_cross_entropy``.

    Returns:
        (B,) float32 or better, as ``linear_cross_entropy`` does.

    Raises:
        ValueError: ``confidence`` outside [0, 1], and whatever ``linear_cross_entropy`` refuses; so TypeError.

    Reference:
        M. Ye et al., "Collaborative Refining for Person Re-Identification With Label Noise",
        IEEE Transactions on Image Processing 31, 2022, eq. for progressive self label refining.
    """
    if not 0.0 <= confidence <= 1.0:
        raise ValueError(f"confidence must lie in [0, 1], got {confidence}")
    _check_labels(labels, embeddings, weight)
    loss = _OneNetwork(labels, 1.0 - confidence, confidence, 0.0, len(weight))
    return linear_loss(loss, [Classifier(embeddings, weight, bias)], chunk)[0]


def _check_labels(labels: Tensor, embeddings: Tensor, weight: Tensor) -> None:
    if labels.dtype != torch.int64:
        raise TypeError(f"labels must be int64, got {labels.dtype}")
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(f"labels {tuple(labels.shape)} must be (B,), one for each of embeddings {tuple(embeddings.shape)}")
    if labels.device != embeddings.device:
        raise TypeError(f"labels are on {labels.device}, embeddings on {embeddings.device}")
    if labels.device.type == "cpu":
        outside = ((labels < 0) | (labels >= len(weight))).nonzero()
        if len(outside):
            row = int(outside[0])
            raise ValueError(f"labels must lie in [0, {len(weight)}), got {int(labels[row])} at row {row}")


class _Summary(NamedTuple):
    """What is known of the rows over the classes so far: (1, B) float64 each.

    Attributes:
        top: largest logit, its class, log of the sum of exponentials.
        at_label: logit of the label; NaN before it is met.
        all_classes: sum over the classes so far of the cross-entropy of each, within these classes; 0 where it is not needed.
    """

    top: Top
    at_label: Tensor
    all_classes: Tensor
    classes: int


@dataclass(frozen=True)
class _OneNetwork:
    """``(1 - smoothing) * (given * CE(labels) + own * CE(prediction)) + smoothing * mean over classes of CE``.

    Statistics: largest logit, log of the sum, prediction, (B, 3).
    """

    labels: Tensor
    given: float
    own: float
    smoothing: float
    classes: int

    def _column(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        """(B, 1) places of the labels in the chunk, and whether they are there."""
        width = chunk[1][0].shape[1]
        column = self.labels[:, None] - chunk[0]
        return column.clamp(0, width - 1), (column >= 0) & (column < width)

    def _summarize(self, chunk: Chunk) -> _Summary:
        first, (logits,) = chunk
        top, _, (base,) = top_of(first, [logits])
        column, here = self._column(chunk)
        at_label = logits.gather(1, column).double().masked_fill(~here, torch.nan).t()
        spread = torch.zeros_like(top.largest)
        if self.smoothing:
            spread = (base[:, None] - logits).sum(dim=1).double()[None] + logits.shape[1] * top.log_sum
        return _Summary(top, at_label, spread, logits.shape[1])

    def _merge(self, one: _Summary, other: _Summary) -> _Summary:
        merged = merge_tops([one.top, other.top])
        at_label = torch.where(one.at_label.isnan(), other.at_label, one.at_label)
        spread = one.all_classes + other.all_classes
        if self.smoothing:
            spread = spread + one.classes * merged.lack[0] + other.classes * merged.lack[1]
        return _Summary(merged.top, at_label, spread, one.classes + other.classes)

    def sweep(self, chunks: Iterator[Chunk]) -> tuple[list[Tensor], Tensor]:
        """See ``ChunkedLoss``."""
        chunk = next(chunks)
        dtype = chunk[1][0].dtype
        known = self._summarize(chunk)
        for chunk in chunks:
            known = self._merge(known, self._summarize(chunk))
        (largest,), (place,), (log_sum,) = known.top
        loss = (1 - self.smoothing) * (
            self.given * (log_sum + (largest - known.at_label[0])) + self.own * (log_sum + (largest - largest))
        )
        if self.smoothing:
            loss = loss + self.smoothing / self.classes * known.all_classes[0]
        return [loss.to(dtype)], torch.stack([largest, log_sum, place], dim=1)

    def gradients(self, chunk: Chunk, statistics: Tensor, grad_losses: Sequence[Tensor | None]) -> list[Tensor]:
        """See ``ChunkedLoss``."""
        first, (logits,) = chunk
        dtype = logits.dtype
        (grad,) = grad_losses
        assert grad is not None
        largest, log_sum, place = statistics.unbind(dim=1)
        sharp = 1 - self.smoothing
        scale = grad * (-log_sum).exp() * (sharp * (self.given + self.own) + self.smoothing)
        grads = logits.sub_(largest.to(dtype)[:, None]).exp_().mul_(scale.to(dtype)[:, None])
        if self.smoothing:
            grads -= (grad * (self.smoothing / self.classes)).to(dtype)[:, None]
        column, here = self._column(chunk)
        grads.scatter_add_(1, column, (-sharp * self.given * grad.to(dtype))[:, None].masked_fill(~here, 0.0))
        column = place[:, None].long() - first
        here = (column >= 0) & (column < grads.shape[1])
        column = column.clamp(0, grads.shape[1] - 1)
        return [grads.scatter_add_(1, column, (-sharp * self.own * grad.to(dtype))[:, None].masked_fill(~here, 0.0))]
