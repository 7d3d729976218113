"""Losses and evidence of what networks gave: of logits, or in chunks of classes where there are too many to make them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from reid_core.losses.balanced_softmax import balanced_softmax_loss
from reid_core.losses.co_refine import co_refine_pair_loss
from reid_core.losses.linear_co_refine import linear_co_refine_pair_loss
from reid_core.losses.linear_cross_entropy import (
    linear_balanced_softmax_loss,
    linear_cross_entropy,
    linear_evidence,
    linear_label_refine_loss,
)
from reid_core.losses.self_refine import label_refine_loss
from reid_core.losses.smoothed_cross_entropy import smoothed_cross_entropy
from reid_core.types import NetOutput


def rows_of(output: NetOutput, mask: Tensor) -> NetOutput:
    """What the network said of the images where ``mask``, (B,) bool, is True."""
    made = None if output.made_logits is None else output.made_logits[mask]
    classifier = output.classifier
    if classifier is not None:
        classifier = classifier._replace(features=classifier.features[mask])
    return NetOutput(made, output.embedding[mask], classifier)


def cross_entropy(output: NetOutput, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """(B,) cross-entropy with the labels, ``smoothing`` of each spread over all classes."""
    if output.classifier is not None:
        return linear_cross_entropy(*output.classifier, labels, smoothing)
    return smoothed_cross_entropy(output.logits, labels, smoothing)


def balanced(output: NetOutput, labels: Tensor, counts: Tensor, tau: float, smoothing: float) -> Tensor:
    """(B,) ``balanced_softmax_loss``."""
    if output.classifier is not None:
        return linear_balanced_softmax_loss(*output.classifier, labels, counts, tau, smoothing)
    return balanced_softmax_loss(output.logits, labels, counts, tau, smoothing)


def label_refine(output: NetOutput, labels: Tensor, confidence: float) -> Tensor:
    """(B,) ``label_refine_loss``."""
    if output.classifier is not None:
        return linear_label_refine_loss(*output.classifier, labels, confidence)
    return label_refine_loss(output.logits, labels, confidence)


def co_refine_pair(outputs: Sequence[NetOutput], soft: float, agree: float, disagree: float) -> tuple[Tensor, Tensor]:
    """The (B,) losses of ``co_refine_pair_loss``."""
    first, second = outputs
    if first.classifier is not None and second.classifier is not None:
        return linear_co_refine_pair_loss(*first.classifier, *second.classifier, soft, agree, disagree)
    return co_refine_pair_loss(first.logits, second.logits, soft, agree, disagree)


def evidence(outputs: Sequence[NetOutput], labels: Tensor) -> dict[str, Tensor]:
    """Records that all methods give: ``given_loss``, ``prediction`` and its probability ``confidence``, (K, B) each."""
    with torch.no_grad():
        found = [_evidence(output, labels) for output in outputs]
    names = "given_loss", "prediction", "confidence"
    return {name: torch.stack(values) for name, values in zip(names, zip(*found))}


def _evidence(output: NetOutput, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if output.classifier is not None:
        return linear_evidence(*output.classifier, labels)
    logits = output.logits.float()
    # The prediction is of the logits: probabilities may be equal where logits are not, and losses look at logits.
    confidence = logits.softmax(dim=1).amax(dim=1)
    return functional.cross_entropy(logits, labels, reduction="none"), logits.argmax(dim=1), confidence
