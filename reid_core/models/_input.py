"""What a backbone wants of its images: normalisation, interpolation, and the sizes it can take."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import timm
import torch
from timm.data.config import resolve_data_config
from torch import Tensor, nn

from reid_core.data._transforms import MEAN, STD
from reid_core.errors import UsageError
from reid_core.plugins import names

Size = tuple[int, int]
_STEPS = (8, 14, 16, 28, 32, 56, 64)
"""Patches and windows of transformers come in these, so a size that a network takes is a multiple of one of them."""


class Renormalise(nn.Module):
    """Images normalised for ImageNet become images normalised by another mean and deviation; nothing to train or save.

    Args:
        mean, std: (3,), of images in [0, 1].
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        own, old = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (std, STD))
        offset = torch.tensor([a - b for a, b in zip(MEAN, mean, strict=True)], dtype=torch.float64).view(1, 3, 1, 1)
        self.register_buffer("scale", (old / own).float(), persistent=False)
        self.register_buffer("shift", (offset / own).float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to the same shape: ``((x * STD + MEAN) - mean) / std``."""
        return images * self.scale + self.shift


def input_config(arch: str) -> dict[str, Any]:
    """``mean``, ``std``, ``interpolation`` and ``input_size`` (3, H, W) that timm names for ``arch``.

    For a backbone of our own: ImageNet's, and no size.
    """
    if arch in names("reid_core.models"):
        return {"mean": MEAN, "std": STD, "interpolation": "bicubic"}
    known = timm.models.get_pretrained_cfg(arch)
    resolve: Callable[..., dict[str, Any]] = resolve_data_config
    found = resolve(pretrained_cfg={} if known is None else cast(Any, known).to_dict())
    return {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}


def largest_size(archs: Sequence[str], unknown: Size = (224, 224)) -> Size:
    """(height, width) of the largest images that timm names for one of ``archs``: all networks see the same ones."""
    sizes = [input_config(arch).get("input_size") for arch in archs if timm.is_model(arch)]
    return max((size[1:] for size in sizes if size), key=lambda size: int(size[0] * size[1]), default=unknown)


def renormalise(arch: str, normalisation: str) -> Renormalise | None:
    """What stands before the backbone of ``arch``; None where the images are already as it wants them.

    Args:
        arch: its name.
        normalisation: ``timm`` (as its configuration says) or ``imagenet`` (all networks alike).
    """
    config = input_config(arch)
    if normalisation == "imagenet" or (config["mean"], config["std"]) == (MEAN, STD):
        return None
    return Renormalise(config["mean"], config["std"])


def common_interpolation(archs: Sequence[str]) -> str:
    """What all of ``archs`` were meant to be fed with; bicubic where they differ, since all see the same images."""
    wanted = {input_config(arch)["interpolation"] for arch in archs}
    return wanted.pop() if len(wanted) == 1 and wanted <= {"bicubic", "bilinear"} else "bicubic"


def largest_window(backbone: nn.Module) -> Size | None:
    """(height, width) of the largest attention window, None without any; smaller ones are windows that were cut off."""
    found = [w for module in backbone.modules() if isinstance(w := getattr(module, "window_size", None), tuple)]
    return max(found, key=lambda window: window[0] * window[1], default=None)


def set_input_size(backbone: nn.Module, size: Size, window: Size | None) -> None:
    """Tell a backbone that wants to know (Swin, ViT) that its images will have ``size``; others need not be told.

    timm then makes position tables of another shape where it must: such parameters are new objects.

    Args:
        backbone: changed.
        size: (height, width).
        window: the attention window to keep, or None without windows.
    """
    tell: Callable[..., None] | None = getattr(backbone, "set_input_size", None)
    if tell is None:
        return
    # timm would let the window grow with the image: that is another network, with other position tables.
    keeps_window = window is not None and "window_size" in inspect.signature(tell).parameters
    device = next(backbone.parameters()).device
    with warnings.catch_warnings():
        # Of how timm calls torch when it makes tables anew: nothing a user could change.
        warnings.simplefilter("ignore")
        if keeps_window:
            tell(img_size=size, window_size=window)
        else:
            tell(img_size=size)
    backbone.to(device)  # tables that were made anew


def nearest_sizes(size: Size, takes: Callable[[Size], bool]) -> list[Size]:
    """The possible sizes nearest to ``size``, at most two: in height and width multiples of what transformers count in.

    Args:
        size: (height, width) that is impossible.
        takes: whether a size is possible.
    """

    def around(length: int, step: int) -> set[int]:
        return {max(step, length // step * step), -(-length // step) * step}

    height, width = size
    candidates = {(h, w) for step in _STEPS for h in around(height, step) for w in around(width, step)}
    by_distance = sorted(candidates, key=lambda c: (abs(c[0] - size[0]) + abs(c[1] - size[1]), c))
    found: list[Size] = []
    for candidate in by_distance:
        if takes(candidate):
            found.append(candidate)
        if len(found) == 2:
            break
    return found


def too_odd(arch: str, size: Size, reason: str, takes: Callable[[Size], bool]) -> UsageError:
    """The error for a size that ``arch`` cannot take; the nearest that it can are offered."""
    near = " and ".join(f"{height} {width}" for height, width in nearest_sizes(size, takes))
    offer = f"the nearest sizes it takes are --image_size {near}" if near else "choose another --image_size"
    return UsageError(f"--arch {arch} cannot take images of {size[0]} x {size[1]}: {reason.rstrip('.')}; {offer}")
