"""A moving average of a network's weights: never trained, measured and saved beside them."""

from __future__ import annotations

import copy

import torch

from reid_core.models._network import Network


class MovingAverage:
    """``shadow <- a shadow + (1 - a) weight`` after each update, ``a = min(decay, (1 + s) / (10 + s))``, s counted from 1.

    Buffers of floating point, such as batch norm's statistics, are averaged likewise; others are copied: averaged
    weights with the statistics of other weights would measure at chance.

    Attributes:
        shadow: the averaged network, in evaluation mode.
        steps: updates so far, s.

    Args:
        network: where it begins.
        decay: in [0, 1).
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.shadow = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: Network) -> None:
        """Take in the weights after one step of the optimizer."""
        self.steps += 1
        share = min(self.decay, (1 + self.steps) / (10 + self.steps))
        theirs = network.state_dict()
        mine = self.shadow.state_dict()
        averaged = [name for name, tensor in mine.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([mine[name] for name in averaged], [theirs[name] for name in averaged], 1 - share)
        for name in mine.keys() - set(averaged):
            mine[name].copy_(theirs[name])
