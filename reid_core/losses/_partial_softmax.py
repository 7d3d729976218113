"""A softmax over classes that come in parts: what is kept of each part, and how parts become one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Top(NamedTuple):
    """Of K networks' rows over some classes, (K, B) float64 each.

    Attributes:
        largest: the largest logit. place: its class, the lowest one of several.
        log_sum: logarithm of the sum of exponentials relative to ``largest``; kept apart, as their sum would lose digits.
    """

    largest: Tensor
    place: Tensor
    log_sum: Tensor


class Merged(NamedTuple):
    """Parts become one.

    Attributes:
        top: of all classes.
        best: (1, K, B) int64, the part in which ``top.place`` lies.
        share: (P, K, B), the probability that each part has; 0 where all its logits are -inf.
        lack: (P, K, B), how much larger the log-sum of all is than the part's own; 0 where that is -inf. Never negative
            but for rounding: cross-entropies within a part need only be added to it, and nothing cancels.
    """

    top: Top
    best: Tensor
    share: Tensor
    lack: Tensor


def top_of(first: int, logits: Sequence[Tensor]) -> tuple[Top, list[Tensor], list[Tensor]]:
    """``Top`` of (B, n) logits of classes from ``first`` on, and of each network the exponentials and their base, (B,)."""
    tops = [z.max(dim=1) for z in logits]
    bases = [top.values.masked_fill(top.values == -torch.inf, 0.0) for top in tops]
    exps = [(z - base[:, None]).exp_() for z, base in zip(logits, bases)]
    sums = torch.stack([e.sum(dim=1) for e in exps]).double()
    largest = torch.stack([top.values for top in tops]).double()
    place = torch.stack([top.indices for top in tops]).double() + first
    return Top(largest, place, sums.log()), exps, bases


def merge_tops(tops: Sequence[Top]) -> Merged:
    """One ``Top`` from those of parts, in the order of their classes."""
    largest, place, log_sum = (torch.stack(values) for values in zip(*tops))
    best = largest.argmax(dim=0, keepdim=True)  # the first of the largest, or the first NaN
    top = largest.gather(0, best)
    empty = largest == -torch.inf
    parts = (largest - top + log_sum).exp().masked_fill(empty, 0.0)
    total = parts.sum(dim=0)
    return Merged(
        Top(top[0], place.gather(0, best)[0], total.log()),
        best,
        parts / total.masked_fill(total == 0, 1.0),
        ((top - largest) + (total.log() - log_sum)).masked_fill(empty, 0.0),
    )


def statistics_of(top: Top) -> Tensor:
    """(K, B, 3) float64: largest logit, log of the sum, class of the largest. All that a gradient needs of a row."""
    return torch.stack([top.largest, top.log_sum, top.place], dim=2)


def add_at(table: Tensor, column: Tensor, values: Tensor) -> None:
    """Add (B,) ``values`` to the (B, n) ``table`` in place, one a row, at those columns that lie in it."""
    width = table.shape[1]
    outside = (column < 0) | (column >= width)
    table.scatter_add_(
        1, column.clamp(0, width - 1)[:, None], values.masked_fill(outside, 0.0).to(table.dtype)[:, None]
    )
