"""Losses of one network straight from embeddings and classifier: logits never exist all at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from reid_core.losses._arguments import check_labels, check_share
from reid_core.losses._linear import Chunk, linear_loss, linear_statistics, stand_in
from reid_core.losses._partial_softmax import Top, add_at, merge_tops, statistics_of, top_of
from reid_core.losses.balanced_softmax import prior_shift
from reid_core.ops import use_native
from reid_core.types import Classifier


def linear_cross_entropy(
    embeddings: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    smoothing: float = 0.0,
    *,
    chunk: int | None = None,
    backend: str = "auto",
) -> Tensor:
    """``smoothed_cross_entropy`` of ``functional.linear(embeddings, weight, bias)`` without ever holding (B, C).

    Args:
        embeddings: (B, D) float. weight: (C, D) of the same dtype. bias: (C,) or None.
        labels: (B,) int64 in [0, C).
        smoothing: the share of the target that is spread over all classes, in [0, 1].
        chunk: how many classes at a time; None: as many as keep a chunk's logits within the cache.
        backend: what works on a chunk's logits: ``auto``, ``native`` or ``torch``, as in ``smoothed_cross_entropy``.

    Returns:
        (B,) float32 or better, with gradients for embeddings, weight and bias; there is no second derivative. Under
        autocast the product is made in its dtype.

    Raises:
        ValueError: shapes that do not fit, a label or ``smoothing`` out of range (labels are looked at on the CPU
            alone; elsewhere the loss is NaN), ``chunk`` below 1. TypeError: dtypes or devices that differ.
    """
    check_share("smoothing", smoothing)
    return _one_network(Classifier(embeddings, weight, bias), labels, 1.0, 0.0, smoothing, None, chunk, backend)


def linear_label_refine_loss(
    embeddings: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    confidence: float,
    *,
    chunk: int | None = None,
    backend: str = "auto",
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
    check_share("confidence", confidence)
    return _one_network(
        Classifier(embeddings, weight, bias), labels, 1.0 - confidence, confidence, 0.0, None, chunk, backend
    )


def linear_balanced_softmax_loss(
    embeddings: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    class_counts: Tensor,
    tau: float = 1.0,
    smoothing: float = 0.0,
    *,
    chunk: int | None = None,
    backend: str = "auto",
) -> Tensor:
    """``balanced_softmax_loss`` of ``functional.linear(embeddings, weight, bias)`` without ever holding (B, C).

    Args:
        class_counts, tau: as in ``balanced_softmax_loss``. All others as in ``linear_cross_entropy``.

    Returns:
        (B,) float32 or better, as ``linear_cross_entropy`` does.

    Raises:
        ValueError, TypeError: what ``balanced_softmax_loss`` and ``linear_cross_entropy`` refuse.

    Reference:
        J. Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020, eq. 4.
    """
    check_share("smoothing", smoothing)
    classifier = Classifier(embeddings, weight, bias)
    shift = prior_shift(stand_in(classifier), class_counts, tau)
    return _one_network(classifier, labels, 1.0, 0.0, smoothing, shift, chunk, backend)


def linear_evidence(
    embeddings: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, *, chunk: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """What is recorded of each image, without gradients and in one sweep over the classes.

    Args:
        embeddings, weight, bias, labels, chunk: as in ``linear_cross_entropy``.

    Returns:
        Cross-entropy with the labels, (B,) float32 or better; the prediction, (B,) int64, of ties the lowest class; and its
        probability, of the type of the first.

    Raises:
        ValueError, TypeError: as ``linear_cross_entropy``.
    """
    classifier = Classifier(embeddings, weight, bias)
    check_labels(stand_in(classifier), labels)
    loss = _CrossEntropy(labels, 1.0, 0.0, 0.0, None, len(weight), use_native(labels.device.type))
    (given,), statistics = linear_statistics(loss, [classifier], chunk)
    _, log_sum, place = statistics[0].unbind(dim=1)
    return given, place.long(), (-log_sum).exp().to(given.dtype)


def _one_network(
    classifier: Classifier,
    labels: Tensor,
    given_weight: float,
    own_weight: float,
    smoothing: float,
    shift: Tensor | None,
    chunk: int | None,
    backend: str,
) -> Tensor:
    check_labels(stand_in(classifier), labels)
    native = use_native(labels.device.type, backend)
    loss = _CrossEntropy(labels, given_weight, own_weight, smoothing, shift, len(classifier.weight), native)
    return linear_loss(loss, [classifier], chunk)[0]


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
class _CrossEntropy:
    """``ChunkedLoss`` of logits z + shift with given labels, own prediction and all classes alike:
    ``(1 - smoothing) * (given_weight * CE(labels) + own_weight * CE(prediction)) + smoothing * mean over classes of CE``.
    """

    labels: Tensor
    given_weight: float
    own_weight: float
    smoothing: float
    shift: Tensor | None
    classes: int
    native: bool

    def sweep(self, chunks: Iterator[Chunk]) -> tuple[list[Tensor], Tensor]:
        """See ``ChunkedLoss``."""
        chunk = next(chunks)
        dtype = chunk[1][0].dtype
        known = self._summarize(chunk)
        for chunk in chunks:
            known = self._merge(known, self._summarize(chunk))
        largest, _, log_sum = known.top
        labelled = log_sum + (largest - known.at_label)
        loss = (1 - self.smoothing) * (self.given_weight * labelled + self.own_weight * log_sum)
        if self.smoothing:
            loss = loss + self.smoothing / self.classes * known.all_classes
        loss = loss.masked_fill(largest == -torch.inf, torch.nan)
        return [loss[0].to(dtype)], statistics_of(known.top)

    def gradients(self, chunk: Chunk, statistics: Tensor, grad_losses: Sequence[Tensor | None]) -> list[Tensor]:
        """``grad * (all * p - given * onehot(label) - own * onehot(prediction) - smoothing / C)``."""
        first, (logits,) = self._shifted(chunk)
        dtype = logits.dtype
        largest, log_sum, place = statistics[0].unbind(dim=1)
        grad = torch.zeros_like(largest) if grad_losses[0] is None else grad_losses[0].double()
        given, own = (1 - self.smoothing) * self.given_weight, (1 - self.smoothing) * self.own_weight
        grad_all = grad * (given + own + self.smoothing)
        if self.native:
            no_class = torch.stack([largest, log_sum, torch.full_like(place, -1.0)], dim=1)
            found = torch.ops.reid_core.cross_entropy_backward(
                grad_all.to(dtype), logits, torch.zeros_like(self.labels), None, no_class, 0.0, 1.0, 0.0
            )
        else:
            scale = grad_all * (-log_sum).exp()
            found = logits.sub_(largest.to(dtype)[:, None]).exp_().mul_(scale.to(dtype)[:, None])
        if self.smoothing:
            found -= (grad * (self.smoothing / self.classes)).to(dtype)[:, None]
        add_at(found, self.labels - first, -given * grad)
        add_at(found, place.long() - first, -own * grad)
        return [found]

    def _shifted(self, chunk: Chunk) -> Chunk:
        """With the shift, in float64: a large logit with its shift has more digits than float32."""
        first, (logits,) = chunk
        if self.shift is None:
            return chunk
        return first, [logits.double() + self.shift[first : first + logits.shape[1]]]

    def _summarize(self, chunk: Chunk) -> _Summary:
        first, (logits,) = self._shifted(chunk)
        width = logits.shape[1]
        top, all_classes = self._top_native(first, logits) if self.native else self._top(first, logits)
        column = self.labels[:, None] - first
        here = (column >= 0) & (column < width)
        at_label = logits.gather(1, column.clamp(0, width - 1)).double().masked_fill(~here, torch.nan).t()
        return _Summary(top, at_label, all_classes, width)

    def _top(self, first: int, logits: Tensor) -> tuple[Top, Tensor]:
        """The chunk's ``Top``, and the sum over its classes of the cross-entropy of each."""
        top, _, (base,) = top_of(first, [logits])
        if not self.smoothing:
            return top, torch.zeros_like(top.largest)
        own = top.log_sum.masked_fill(top.largest == -torch.inf, 0.0)
        return top, (base[:, None] - logits).sum(dim=1).double() + logits.shape[1] * own

    def _top_native(self, first: int, logits: Tensor) -> tuple[Top, Tensor]:
        """The same by the compiled op, which gives the mean of those cross-entropies unless one is infinite or NaN."""
        smoothing = 1.0 if self.smoothing else 0.0
        mean, statistics = torch.ops.reid_core.cross_entropy(
            logits, torch.zeros_like(self.labels), None, 0.0, 1.0, smoothing
        )
        if self.smoothing and not bool(mean.isfinite().all()):
            return self._top(first, logits)
        largest, log_sum, place = statistics.t()[:, None].unbind()
        return Top(largest, place + first, log_sum), mean.double()[None] * logits.shape[1]

    def _merge(self, known: _Summary, new: _Summary) -> _Summary:
        merged = merge_tops([known.top, new.top])
        at_label = torch.where(known.at_label.isnan(), new.at_label, known.at_label)
        all_classes = known.all_classes + new.all_classes
        if self.smoothing:
            all_classes = all_classes + known.classes * merged.lack[0] + new.classes * merged.lack[1]
        return _Summary(merged.top, at_label, all_classes, known.classes + new.classes)
