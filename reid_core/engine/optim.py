"""One optimizer a network: which parameter learns how fast and decays, and the optimizer's state as plain arrays."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from reid_core.errors import UsageError
from reid_core.models._network import Network

LAYERED = ("swin", "convnext")
"""Architectures whose layers learn at rates of their own, and which decay faster, unless something else is asked for."""

STAGE_RATE, BLOCK_RATE = 0.7, 0.9
"""From stage to stage, and from block to block: with 0.7 a block, the stem of 18 blocks would learn 0.001 as fast as the head."""

_HEAD = "\0head"


@dataclass(frozen=True)
class OptimizerSettings:
    """What an optimizer is built from.

    Attributes:
        name: ``sgd`` (Nesterov momentum, everything decays) or ``adamw`` (betas 0.9 and 0.999; vectors, single numbers
            and what the architecture exempts do not decay).
        lr: the base rate.
        new_layer_mult: rate of neck and classifier over the base rate.
        backbone_mult: rate of the backbone over the base rate, where layers have no rates of their own.
        momentum: of SGD.
        weight_decay: None: 0.05 for Swin and ConvNeXt, 0.01 for others.
        layer_decay: ``on`` (a stage, a step), ``block`` (a block, a step), ``off``, or ``auto``: on for Swin and ConvNeXt.
        layer_decay_rate: None: 0.7 a stage, 0.9 a block.
    """

    name: str = "sgd"
    lr: float = 0.01
    new_layer_mult: float = 1.0
    backbone_mult: float = 1.0
    momentum: float = 0.9
    weight_decay: float | None = 5e-4
    layer_decay: str = "auto"
    layer_decay_rate: float | None = None


def build_optimizer(network: Network, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimizer of ``network``; each trainable parameter is in exactly one group.

    Every group keeps its own base rate in ``base_lr``, which :func:`set_rate` scales, and its name in ``name``.

    Raises:
        UsageError: rates by layer for an architecture that does not say what its layers are.
    """
    decay = settings.weight_decay
    if decay is None:
        decay = 0.05 if _is_layered(network.arch) else 0.01
    places = _places(network, settings)
    exempt = _exempt(network) if settings.name == "adamw" else ()
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        label, mult = places[name]
        decays = settings.name == "sgd" or not (parameter.ndim < 2 or _matches(name, exempt))
        rate = settings.lr * mult
        fresh = {"params": [], "lr": rate, "base_lr": rate, "weight_decay": decay if decays else 0.0, "name": label}
        groups.setdefault((label, decays), fresh)["params"].append(parameter)
    if settings.name == "adamw":
        return torch.optim.AdamW(list(groups.values()), lr=settings.lr, betas=(0.9, 0.999), eps=1e-8)
    momentum = settings.momentum
    return torch.optim.SGD(list(groups.values()), lr=settings.lr, momentum=momentum, nesterov=momentum > 0)


def _places(network: Network, settings: OptimizerSettings) -> dict[str, tuple[str, float]]:
    """Of every parameter: its group's name, and its rate over the base rate."""
    head = ("new", settings.new_layer_mult)
    kind = settings.layer_decay
    if kind == "auto":
        kind = "on" if _is_layered(network.arch) else "off"
    if kind == "off":
        body = ("backbone", settings.backbone_mult)
        return {name: body if name.startswith("backbone.") else head for name, _ in network.named_parameters()}
    rate = settings.layer_decay_rate
    if rate is None:
        rate = BLOCK_RATE if kind == "block" else STAGE_RATE
    layers, top = backbone_layers(network.backbone, network.arch, coarse=kind != "block")
    places = {name: head for name, _ in network.named_parameters()}
    for name, layer in layers.items():
        # A last norm is the head's.
        place = head if layer == top else (f"layer {layer}", settings.new_layer_mult * rate ** (top - layer))
        places[f"backbone.{name}"] = place
    return places


def backbone_layers(backbone: nn.Module, arch: str, coarse: bool) -> tuple[dict[str, int], int]:
    """The layer of each parameter as timm counts them, from the stem (0) on, and the number of the head's layer.

    Args:
        backbone: with timm's ``group_matcher``.
        arch: its name, for the error.
        coarse: a layer is a stage, else a block. Transformers without stages are counted in blocks anyway.

    Raises:
        UsageError: it has none.
    """
    if not hasattr(backbone, "group_matcher"):
        raise UsageError(
            f"--layer_decay: --arch {arch} does not say what its layers are (timm's group_matcher), so they cannot have "
            "rates of their own; use --layer_decay off"
        )
    matcher = cast(Any, backbone).group_matcher(coarse=coarse)
    layers: dict[str, int] = group_parameters(cast(nn.Module, _WithHead(backbone)), matcher, reverse=True)
    head, top = layers.pop(_HEAD), max(layers.values())
    # What timm's table leaves out comes last, together with the name that stands for the head.
    return layers, head if head >= top else top + 1


@dataclass
class _WithHead:
    """A backbone with one more name, for the head: no table knows it, so it is counted with all others left out."""

    backbone: nn.Module

    def named_parameters(self) -> Iterator[tuple[str, Any]]:
        yield from self.backbone.named_parameters()
        yield _HEAD, None


def _is_layered(arch: str) -> bool:
    return any(family in arch for family in LAYERED)


def _exempt(network: Network) -> tuple[str, ...]:
    """Parameters that the architecture wants without decay; timm allows wildcards."""
    listed = getattr(network.backbone, "no_weight_decay", None)
    return () if listed is None else tuple(f"backbone.{name}" for name in listed())


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to ``factor`` times its own base rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def replace_parameter(optimizer: torch.optim.Optimizer, old: nn.Parameter, new: nn.Parameter) -> None:
    """Train ``new`` where ``old`` was trained. What was remembered of ``old`` is forgotten: it has another shape."""
    for group in optimizer.param_groups:
        group["params"] = [new if parameter is old else parameter for parameter in group["params"]]
    optimizer.state.pop(old, None)


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
