"""CORE's loss of both networks straight from embeddings and classifiers: logits never exist all at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from reid_core.losses._linear import Chunk, Classifier, linear_loss


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
) -> tuple[Tensor, Tensor]:
    """``co_refine_pair_loss`` of ``functional.linear(embeddings, weight, bias)`` without ever holding (B, C).

    Args:
        embeddings_a, embeddings_b: (B, D) float, what each network's classifier sees; D may differ.
        weight_a, weight_b: (C, D) of the same dtype. bias_a, bias_b: (C,) or None.
        soft_weight, agree_weight, disagree_weight: as in ``co_refine_loss``.
        chunk: how many classes at a time; None: as many as keep a chunk's logits within the cache. The result does
            not depend on it but for rounding.

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
    pair = [Classifier(embeddings_a, weight_a, bias_a), Classifier(embeddings_b, weight_b, bias_b)]
    loss_a, loss_b = linear_loss(_Pair(soft_weight, agree_weight, disagree_weight), pair, chunk)
    return loss_a, loss_b


class _Summary(NamedTuple):
    """What is known of both networks' rows over the classes so far: (2, B) float64 each, network by network.

    Attributes:
        largest: the largest logit. place: its class, the lowest one of several.
        log_sum: logarithm of the sum of exponentials relative to ``largest``.
        at_peer: this network's logit of the class that is the other's ``place``.
        soft: cross-entropy of the other's probabilities with this network's, both over these classes alone, without the
            classes that this network rules out (logit -inf).
        ruled_out: the other's largest logit over classes that this network rules out; -inf without one.
    """

    largest: Tensor
    place: Tensor
    log_sum: Tensor
    at_peer: Tensor
    soft: Tensor
    ruled_out: Tensor


def _summarize(chunk: Chunk) -> _Summary:
    first, logits = chunk
    tops = [z.max(dim=1) for z in logits]
    bases = [top.values.masked_fill(top.values == -torch.inf, 0.0) for top in tops]
    exps = [(z - base[:, None]).exp_() for z, base in zip(logits, bases)]
    sums = [e.sum(dim=1) for e in exps]
    soft, ruled_out = [], []
    for z, base, peer, peer_exps, peer_sum in zip(logits, bases, logits[::-1], exps[::-1], sums[::-1]):
        none = z == -torch.inf
        below = (base[:, None] - z).masked_fill_(none, 0.0).mul_(peer_exps).sum(dim=1)
        soft.append(below / peer_sum.masked_fill(peer_sum == 0, 1.0))
        ruled_out.append(peer.masked_fill(~none, -torch.inf).amax(dim=1))
    log_sum = torch.stack(sums).double().log()
    return _Summary(
        torch.stack([top.values for top in tops]).double(),
        torch.stack([top.indices for top in tops]).double() + first,
        log_sum,
        torch.stack([z.gather(1, top.indices[:, None])[:, 0] for z, top in zip(logits, tops[::-1])]).double(),
        torch.stack(soft).double() + log_sum,
        torch.stack(ruled_out).double(),
    )


def _merge(parts: Sequence[_Summary]) -> _Summary:
    """The summary of all classes from those of some and of the rest.

    Cross-entropy of all = sum over parts of the peer's probability of the part, times the cross-entropy within the part plus
    what the part's own probability lacks: log-sum of all less log-sum of the part. No term is negative, so none cancels.
    """
    largest, place, log_sum, at_peer, soft, ruled_out = (torch.stack(values) for values in zip(*parts))
    best = largest.argmax(dim=0, keepdim=True)  # the first of the largest, or the first NaN
    top = largest.gather(0, best)
    empty = largest == -torch.inf
    share = (largest - top + log_sum).exp().masked_fill(empty, 0.0)
    total = share.sum(dim=0)
    lack = (top - largest) + (total.log() - log_sum)
    peer_share = (share / total.masked_fill(total == 0, 1.0)).flip(1)
    return _Summary(
        top[0],
        place.gather(0, best)[0],
        total.log(),
        at_peer.gather(0, best.flip(1))[0],
        (peer_share * (soft + lack).masked_fill(empty, 0.0)).sum(dim=0),
        ruled_out.amax(dim=0),
    )


@dataclass(frozen=True)
class _Pair:
    """``ChunkedLoss`` of both networks. Statistics: largest logit, log of the sum, prediction of each, (B, 6)."""

    soft_weight: float
    agree_weight: float
    disagree_weight: float

    def sweep(self, chunks: Iterator[Chunk]) -> tuple[list[Tensor], Tensor]:
        chunk = next(chunks)
        dtype = chunk[1][0].dtype
        known = _summarize(chunk)
        for chunk in chunks:
            known = _merge([known, _summarize(chunk)])
        hard = known.log_sum + (known.largest - known.at_peer)
        # A class that the other gives probability 0 (in the logits' precision) contributes 0, whatever this network says.
        ruled_out = (known.ruled_out - (known.largest + known.log_sum).flip(0)).to(dtype).exp() > 0
        soft = known.soft.masked_fill(ruled_out, torch.inf)
        losses = self.hard_weight(known.place) * hard + self.soft_weight * soft
        losses = losses.masked_fill((known.largest == -torch.inf).any(dim=0), torch.nan).to(dtype)
        statistics = torch.stack([known.largest, known.log_sum, known.place], dim=2)
        return list(losses.unbind()), statistics.transpose(0, 1).flatten(1)

    def hard_weight(self, places: Tensor) -> Tensor:
        """(B,) weights of the hard term, from the (2, B) predictions."""
        agree = (places[0] == places[1]).to(places.dtype)
        return self.agree_weight * agree + self.disagree_weight * (1 - agree)

    def gradients(self, chunk: Chunk, statistics: Tensor, grad_losses: Sequence[Tensor | None]) -> list[Tensor]:
        """``grad * (weight * (p - onehot(peer's prediction)) + soft_weight * (p - p of the peer))``."""
        first, logits = chunk
        dtype = logits[0].dtype
        largest, log_sum, places = statistics.unflatten(1, (2, 3)).unbind(dim=2)
        weight = self.hard_weight(places.t())
        probs = [
            z.sub_(top[:, None]).exp_().mul_(scale[:, None])
            for z, top, scale in zip(logits, largest.to(dtype).unbind(1), (-log_sum).exp().to(dtype).unbind(1))
        ]
        grads = []
        for k, grad in enumerate(grad_losses):
            if grad is None:
                grads.append(torch.zeros_like(probs[k]))
                continue
            own, soft, hard = ((grad * value).to(dtype)[:, None] for value in (weight + self.soft_weight, self.soft_weight, weight))
            column = places[:, 1 - k, None].long() - first
            here = (column >= 0) & (column < probs[k].shape[1])
            grads.append((probs[k] * own).addcmul_(probs[1 - k], soft, value=-1))
            grads[k].scatter_add_(1, column.clamp(0, probs[k].shape[1] - 1), (-hard).masked_fill(~here, 0.0))
        return grads
