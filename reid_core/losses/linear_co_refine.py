"""CORE's loss of both networks straight from embeddings and classifiers: logits never exist all at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from reid_core.losses._linear import Chunk, linear_loss
from reid_core.losses._partial_softmax import Top, add_at, merge_tops, statistics_of, top_of
from reid_core.ops import use_native
from reid_core.types import Classifier


def linear_co_refine_pair_loss(
    embeddings_a: Tensor,
    weight_a: Tensor,
    bias_a: Tensor | None,
    embeddings_b: Tensor,
    weight_b: Tensor,
    bias_b: Tensor | None,
    soft_weight: float = 1.0,
    agree_weight: float = 1.0,
    disagree_weight: float = 1.0,
    *,
    chunk: int | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """``co_refine_pair_loss`` of ``functional.linear(embeddings, weight, bias)`` without ever holding (B, C).

    Args:
        embeddings_a, embeddings_b: (B, D) float, what each network's classifier sees; D may differ.
        weight_a, weight_b: (C, D) of the same dtype. bias_a, bias_b: (C,) or None.
        soft_weight, agree_weight, disagree_weight: as in ``co_refine_loss``.
        chunk: how many classes at a time; None: as many as keep a chunk's logits within the cache. The result does
            not depend on it but for rounding.
        backend: what works on a chunk's logits: ``auto``, ``native`` or ``torch``, as in ``co_refine_pair_loss``.

    Returns:
        The (B,) losses of both networks, in float32 or better; each has gradients for its own embeddings, weight and
        bias alone. Backward makes the logits a second time: 4 products where the plain form has 3. Under autocast
        products are made in its dtype. There is no second derivative.

    Raises:
        ValueError: shapes that do not fit, no class, a negative weight, ``chunk`` below 1.
        TypeError: dtypes or devices that differ.

    Reference:
        M. Ye et al., "Collaborative Refining for Person Re-Identification With Label Noise",
        IEEE Transactions on Image Processing 31, 2022.
    """
    for name, value in (("soft", soft_weight), ("agree", agree_weight), ("disagree", disagree_weight)):
        if not value >= 0.0:
            raise ValueError(f"{name}_weight must be at least 0, got {value}")
    native = use_native(embeddings_a.device.type, backend)
    pair = [Classifier(embeddings_a, weight_a, bias_a), Classifier(embeddings_b, weight_b, bias_b)]
    loss_a, loss_b = linear_loss(_Pair(soft_weight, agree_weight, disagree_weight, native), pair, chunk)
    return loss_a, loss_b


class _Summary(NamedTuple):
    """What is known of both networks' rows over the classes so far: (2, B) float64 each, network by network.

    Attributes:
        top: largest logit, its class, log of the sum of exponentials.
        at_peer: this network's logit of the class that is the other's prediction.
        soft: cross-entropy of the other's probabilities with this network's, both over these classes alone, without the
            classes that this network rules out (logit -inf).
        ruled_out: the other's largest logit over classes that this network rules out; -inf without one.
    """

    top: Top
    at_peer: Tensor
    soft: Tensor
    ruled_out: Tensor


def _summarize(chunk: Chunk) -> _Summary:
    first, logits = chunk
    top, exps, bases = top_of(first, logits)
    soft, ruled_out, at_peer = [], [], []
    for k, (z, peer, peer_exps) in enumerate(zip(logits, logits[::-1], exps[::-1])):
        none = z == -torch.inf
        below = (bases[k][:, None] - z).masked_fill_(none, 0.0).mul_(peer_exps).sum(dim=1)
        peer_sum = peer_exps.sum(dim=1)
        soft.append(below / peer_sum.masked_fill(peer_sum == 0, 1.0))
        ruled_out.append(peer.masked_fill(~none, -torch.inf).amax(dim=1))
        at_peer.append(z.gather(1, top.place[1 - k, :, None].long() - first)[:, 0])
    at, within, ruled = (torch.stack(values).double() for values in (at_peer, soft, ruled_out))
    return _Summary(top, at, within + top.log_sum, ruled)


def _summarize_native(chunk: Chunk) -> _Summary:
    """The same by the compiled op, which gives the cross-entropies unless one is infinite or NaN."""
    first, logits = chunk
    *soft, statistics = torch.ops.reid_core.co_refine_pair(*logits, 1.0, 0.0, 0.0)
    within = torch.stack(soft).double()
    if not bool(within.isfinite().all()):
        return _summarize(chunk)
    largest, log_sum, place = statistics.unbind(dim=2)
    at_peer = torch.stack([z.gather(1, place[1 - k, :, None].long())[:, 0] for k, z in enumerate(logits)])
    return _Summary(
        Top(largest, place + first, log_sum), at_peer.double(), within, torch.full_like(largest, -torch.inf)
    )


def _merge(parts: Sequence[_Summary]) -> _Summary:
    """The summary of all classes from those of some and of the rest.

    The cross-entropy of all is a sum over the parts: the other network's probability of the part, times the cross-entropy
    within the part plus what this network's part lacks.
    """
    tops, at_peer, soft, ruled_out = zip(*parts)
    merged = merge_tops(tops)
    within = torch.stack(soft).masked_fill(torch.stack([top.largest for top in tops]) == -torch.inf, 0.0)
    return _Summary(
        merged.top,
        torch.stack(at_peer).gather(0, merged.best.flip(1))[0],
        (merged.share.flip(1) * (within + merged.lack)).sum(dim=0),
        torch.stack(ruled_out).amax(dim=0),
    )


@dataclass(frozen=True)
class _Pair:
    """``ChunkedLoss`` of both networks."""

    soft_weight: float
    agree_weight: float
    disagree_weight: float
    native: bool

    def sweep(self, chunks: Iterator[Chunk]) -> tuple[list[Tensor], Tensor]:
        chunk = next(chunks)
        dtype = chunk[1][0].dtype
        summarize = _summarize_native if self.native else _summarize
        known = summarize(chunk)
        for chunk in chunks:
            known = _merge([known, summarize(chunk)])
        largest, places, log_sum = known.top
        hard = log_sum + (largest - known.at_peer)
        # A class that the other gives probability 0 (in the logits' precision) contributes 0, whatever this network says.
        impossible = (known.ruled_out - (largest + log_sum).flip(0)).to(dtype).exp() > 0
        soft = known.soft.masked_fill(impossible, torch.inf)
        losses = self.hard_weight(places) * hard + self.soft_weight * soft
        losses = losses.masked_fill((largest == -torch.inf).any(dim=0), torch.nan).to(dtype)
        return list(losses.unbind()), statistics_of(known.top)

    def hard_weight(self, places: Tensor) -> Tensor:
        """(B,) weights of the hard term, from the (2, B) predictions."""
        agree = (places[0] == places[1]).to(places.dtype)
        return self.agree_weight * agree + self.disagree_weight * (1 - agree)

    def gradients(self, chunk: Chunk, statistics: Tensor, grad_losses: Sequence[Tensor | None]) -> list[Tensor]:
        """``grad * (weight * (p - onehot(peer's prediction)) + soft_weight * (p - p of the peer))``."""
        first, logits = chunk
        dtype = logits[0].dtype
        if self.native:
            return self._native_gradients(chunk, statistics, grad_losses)
        largest, log_sum, places = statistics.unbind(dim=2)
        hard_weight = self.hard_weight(places)
        probs = [
            z.sub_(top[:, None]).exp_().mul_(scale[:, None])
            for z, top, scale in zip(logits, largest.to(dtype), (-log_sum).exp().to(dtype))
        ]
        found = []
        for k, grad in enumerate(grad_losses):
            if grad is None:
                found.append(torch.zeros_like(probs[k]))
                continue
            own, soft = (grad * (hard_weight + self.soft_weight)).to(dtype), (grad * self.soft_weight).to(dtype)
            found.append((probs[k] * own[:, None]).addcmul_(probs[1 - k], soft[:, None], value=-1))
            add_at(found[k], places[1 - k].long() - first, -grad * hard_weight)
        return found

    def _native_gradients(self, chunk: Chunk, statistics: Tensor, grad_losses: Sequence[Tensor | None]) -> list[Tensor]:
        first, (a, b) = chunk
        places = statistics[..., 2]
        inside = (places >= first) & (places < first + a.shape[1])
        # Of the classes elsewhere the op must only know which are the same: negative numbers, one for each.
        named = torch.where(inside, places - first, -1 - places)
        here = torch.stack([statistics[..., 0], statistics[..., 1], named], dim=2)
        weights = self.soft_weight, self.agree_weight, self.disagree_weight
        backward = torch.ops.reid_core.co_refine_backward
        return [
            torch.zeros_like(a) if grad is None else backward(grad, own, peer, here, k, *weights)
            for k, (grad, own, peer) in enumerate(zip(grad_losses, (a, b), (b, a)))
        ]
