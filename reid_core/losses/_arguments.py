"""What every loss asks of its logits and labels, and the type it computes in."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(logits: Tensor) -> torch.dtype:
    """Softmax and logarithms of half precision logits are computed in float32."""
    return torch.promote_types(logits.dtype, torch.float32)


def check_logits(logits: Tensor) -> None:
    """Raise unless ``logits`` are (B, C) floating point numbers of at least one class."""
    if logits.dim() != 2 or logits.shape[1] == 0:
        raise ValueError(f"logits must be (B, C) with at least one class, got {tuple(logits.shape)}")
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point numbers, got {logits.dtype}")


def check_labels(logits: Tensor, labels: Tensor) -> None:
    """Raise unless ``labels`` are (B,) int64 in [0, C); on a GPU values are not looked at: that would mean to wait."""
    rows, classes = logits.shape
    if labels.shape != (rows,):
        raise ValueError(f"labels must be ({rows},) for logits {tuple(logits.shape)}, got {tuple(labels.shape)}")
    if labels.dtype != torch.int64:
        raise TypeError(f"labels must be int64, got {labels.dtype}")
    if labels.device != logits.device:
        raise ValueError(f"labels are on {labels.device}, logits on {logits.device}")
    if rows == 0 or labels.device.type != "cpu" or torch.compiler.is_compiling():
        return
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        row = int(outside.to(torch.uint8).argmax())
        raise ValueError(f"labels must lie in [0, {classes}), got {int(labels[row])} at row {row}; relabel pids first")


def check_alike(name: str, logits: Tensor, other_name: str, other: Tensor) -> None:
    """Raise unless two networks' logits agree in shape, type and device."""
    check_logits(logits)
    if logits.shape != other.shape:
        raise ValueError(f"{name} {tuple(logits.shape)} and {other_name} {tuple(other.shape)} must agree in shape")
    if logits.dtype != other.dtype:
        raise TypeError(f"{name} ({logits.dtype}) and {other_name} ({other.dtype}) must agree in type")
    if logits.device != other.device:
        raise ValueError(f"{name} (on {logits.device}) and {other_name} (on {other.device}) must be on one device")


def check_share(name: str, value: float) -> None:
    """Raise unless ``value`` lies in [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must lie in [0, 1], got {value}")
