"""One optimizer a network, and its state as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def build_optimizer(
    groups: Mapping[str, list[nn.Parameter]], lr: float, new_layer_mult: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum; parameters of the group ``new`` learn ``new_layer_mult`` times as fast.

    Every group keeps its own base rate in ``base_lr``, which :func:`set_rate` scales.
    """
    rates = {name: lr * (new_layer_mult if name == "new" else 1.0) for name in groups}
    return torch.optim.SGD(
        [{"params": list(ps), "lr": rates[name], "base_lr": rates[name]} for name, ps in groups.items()],
        lr=lr,
        momentum=momentum,
        nesterov=momentum > 0,
        weight_decay=weight_decay,
    )


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to ``factor`` times its own base rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Tensors of the state as ``<parameter number>.<name>``."""
    state = optimizer.state_dict()["state"]
    return {
        f"{i}.{name}": torch.as_tensor(value)
        for i, entry in state.items()
        for name, value in entry.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` gave; the groups and their rates stay as they were built."""
    entries: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        entries.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
