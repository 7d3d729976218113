"""Classifier and loss in chunks of classes: logits are made a chunk at a time, once forward and once backward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from reid_core.types import Classifier

CHUNK_LOGITS = 1 << 19
"""Logits of one network that a chunk holds unless the caller says otherwise: 2 MiB in float32, in the processor's cache."""

LEAST_CHUNK = 256
"""Classes of a chunk at least, however many images there are: products of fewer columns are slow."""

Chunk = tuple[int, list[Tensor]]
"""The first class, and the (B, n) logits of every network in float32 or better."""


class ChunkedLoss(Protocol):
    """A loss of K networks over rows of logits that can be worked out a chunk of classes at a time."""

    def sweep(self, chunks: Iterator[Chunk]) -> tuple[list[Tensor], Tensor]:
        """The losses, (B,) each, and (K, B, 3) statistics: all that a gradient of any chunk needs to know of the others."""

    def gradients(self, chunk: Chunk, statistics: Tensor, grad_losses: Sequence[Tensor | None]) -> list[Tensor]:
        """Gradients of the chunk's logits; the logits are not needed any more. None among ``grad_losses`` is zero."""


def linear_loss(loss: ChunkedLoss, classifiers: Sequence[Classifier], chunk: int | None) -> list[Tensor]:
    """The (B,) loss of each network, with gradients for embeddings, weights and biases; (B, C) never exists.

    Raises:
        ValueError: shapes or devices that do not fit, no class, ``chunk`` below 1. TypeError: types that differ.
    """
    tensors = [tensor for classifier in classifiers for tensor in classifier]
    return list(_apply(loss, _chunk_size(classifiers, chunk), *tensors))


def _chunk_size(classifiers: Sequence[Classifier], chunk: int | None) -> int:
    check_classifiers(classifiers)
    if chunk is None:
        return max(LEAST_CHUNK, CHUNK_LOGITS // max(1, len(classifiers[0].features)))
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 class, got {chunk}")
    return chunk


def stand_in(classifier: Classifier) -> Tensor:
    """What has shape, type and device of the logits and takes no memory, for checks that ask for logits."""
    check_classifiers([classifier])
    return classifier.features.new_empty(()).expand(len(classifier.features), len(classifier.weight))


def linear_statistics(
    loss: ChunkedLoss, classifiers: Sequence[Classifier], chunk: int | None
) -> tuple[list[Tensor], Tensor]:
    """Losses and (K, B, 3) statistics without gradients, in one sweep."""
    with torch.no_grad():
        dtype = _product_dtype(classifiers[0].features)
        return loss.sweep(_chunks(classifiers, _chunk_size(classifiers, chunk), dtype))


class _LinearLoss(torch.autograd.Function):
    """Forward keeps statistics of each row; backward makes each chunk's logits again, and of them its gradient."""

    @staticmethod
    def forward(ctx: Any, loss: ChunkedLoss, chunk: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.loss, ctx.chunk, ctx.dtype = loss, chunk, _product_dtype(tensors[0])
        losses, statistics = loss.sweep(_chunks(_grouped(tensors), chunk, ctx.dtype))
        ctx.save_for_backward(statistics, *tensors)
        return tuple(losses)

    @staticmethod
    def backward(ctx: Any, *grad_losses: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "a loss in chunks of classes has no second derivative (create_graph=True asks for one); take the plain form "
                "on functional.linear(embeddings, weight, bias) for that"
            )
        statistics, *tensors = ctx.saved_tensors
        classifiers = _grouped(tensors)
        needed = ctx.needs_input_grad[2:]
        grads: list[Tensor | None] = [
            _empty_gradient(tensor, i % 3) if need and grad_losses[i // 3] is not None else None
            for i, (tensor, need) in enumerate(zip(tensors, needed))
        ]
        if any(grad is not None for grad in grads):
            for first, logits in _chunks(classifiers, ctx.chunk, ctx.dtype):
                grad_logits = ctx.loss.gradients((first, logits), statistics, grad_losses)
                for k, classifier in enumerate(classifiers):
                    _add_gradients(classifier, grads[3 * k : 3 * k + 3], grad_logits[k].to(ctx.dtype), first)
        return None, None, *(grad if grad is None else grad.to(tensor.dtype) for grad, tensor in zip(grads, tensors))


_apply = torch.compiler.disable(_LinearLoss.apply)  # type: ignore[no-untyped-call]  # it would write out every chunk


def _grouped(tensors: Sequence[Tensor]) -> list[Classifier]:
    return [Classifier(*tensors[i : i + 3]) for i in range(0, len(tensors), 3)]


def _product_dtype(embeddings: Tensor) -> torch.dtype:
    """What ``functional.linear`` would multiply in: the tensors' own dtype, or autocast's."""
    device = embeddings.device.type
    if torch.is_autocast_enabled(device) and embeddings.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return embeddings.dtype


def _chunks(classifiers: Sequence[Classifier], chunk: int, dtype: torch.dtype) -> Iterator[Chunk]:
    """Logits of each chunk, in its product's dtype first and then in float32 or better, as the losses take them."""
    embeddings = [classifier.features.to(dtype) for classifier in classifiers]
    better = torch.promote_types(dtype, torch.float32)
    for first in range(0, len(classifiers[0].weight), chunk):
        part = slice(first, first + chunk)
        logits = []
        with torch.autocast(embeddings[0].device.type, enabled=False):
            for inputs, (_, weight, bias) in zip(embeddings, classifiers):
                shift = None if bias is None else bias[part].to(dtype)
                logits.append(functional.linear(inputs, weight[part].to(dtype), shift).to(better))
        yield first, logits


def _empty_gradient(tensor: Tensor, place: int) -> Tensor:
    """Room for a gradient. That of the embeddings is a sum over all chunks: in float64, from 0."""
    if place == 0:
        return torch.zeros_like(tensor, dtype=torch.float64, memory_format=torch.contiguous_format)
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def _add_gradients(classifier: Classifier, grads: Sequence[Tensor | None], grad_logits: Tensor, first: int) -> None:
    """What a chunk's (B, n) gradient says of embeddings, weight and bias."""
    part = slice(first, first + grad_logits.shape[1])
    embeddings, weight, bias = grads
    with torch.autocast(grad_logits.device.type, enabled=False):
        if embeddings is not None:
            embeddings += grad_logits @ classifier.weight[part].to(grad_logits.dtype)
        if weight is not None:
            inputs = classifier.features.to(grad_logits.dtype)
            if weight.dtype == inputs.dtype:
                torch.mm(grad_logits.t(), inputs, out=weight[part])  # straight to where it belongs
            else:
                weight[part] = grad_logits.t() @ inputs
    if bias is not None:
        bias[part] = grad_logits.sum(dim=0)


def check_classifiers(classifiers: Sequence[Classifier]) -> None:
    """Raise unless all fit together: embeddings (B, D), weight (C, D), bias (C,) or None, of one type on one device."""
    first = classifiers[0].features
    autocast = first.dtype != torch.float64 and torch.is_autocast_enabled(first.device.type)
    for embeddings, weight, bias in classifiers:
        shapes = f"embeddings {tuple(embeddings.shape)}, weight {tuple(weight.shape)}"
        if embeddings.dim() != 2 or weight.dim() != 2 or embeddings.shape[1] != weight.shape[1]:
            raise ValueError(f"embeddings must be (B, D) and the weight (C, D), got {shapes}")
        if len(weight) == 0:
            raise ValueError(f"there must be at least one class, got {shapes}")
        if bias is not None and bias.shape != weight.shape[:1]:
            raise ValueError(f"the bias must be ({len(weight)},), one a class, got {tuple(bias.shape)} for {shapes}")
        if (len(embeddings), len(weight)) != (len(first), len(classifiers[0].weight)):
            raise ValueError(
                f"networks must agree in images and classes: {len(first)} and {len(classifiers[0].weight)} in the first, "
                f"{len(embeddings)} and {len(weight)} in the second"
            )
        for name, tensor in (("embeddings", embeddings), ("the weight", weight), ("the bias", bias)):
            if tensor is None:
                continue
            if not tensor.is_floating_point():
                raise TypeError(f"{name} must be floating point numbers, got {tensor.dtype}")
            if tensor.dtype != first.dtype and not (autocast and tensor.dtype != torch.float64):
                raise TypeError(f"{name} ({tensor.dtype}) and embeddings ({first.dtype}) must agree in type")
            if tensor.device != first.device:
                raise ValueError(
                    f"{name} (on {tensor.device}) and embeddings (on {first.device}) must be on one device"
                )
