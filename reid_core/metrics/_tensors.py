"""Tensors among the inputs: which are taken as arrays, and which are worked on where they lie. Does not import torch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard

from reid_core.errors import UsageError

if TYPE_CHECKING:
    import torch

WORKS_ON = frozenset({"cuda"})
"""Types of devices that rank for themselves. The tests add ``cpu``."""


def is_tensor(value: object) -> TypeGuard[torch.Tensor]:
    """Whether this is a tensor of torch; where nobody imported torch, nothing is."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def as_array(value: Any) -> Any:
    """A CPU tensor as the array over the same memory (bfloat16, which NumPy lacks, as a float32 copy); for ids, copied from
    a device. Everything else as it is."""
    if not is_tensor(value):
        return value
    value = value.detach().cpu().resolve_neg()
    return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()


def device_of(**values: Any) -> torch.device | None:
    """The device whose tensors the values are, if it ranks for itself; None where NumPy does the work.

    Args:
        values: the arrays or tensors that belong together, by the names that messages give them.

    Raises:
        UsageError: tensors and arrays, or tensors of several devices or of a kind that cannot be worked with.
    """
    tensors = {name: value for name, value in values.items() if is_tensor(value)}
    if not tensors:
        return None
    for name, value in values.items():
        if name not in tensors:
            raise UsageError(
                f"{' and '.join(tensors)} is a torch tensor and {name} is {type(value).__name__}: give tensors on one "
                "device, or arrays; tensor.cpu().numpy() makes an array"
            )
    for name, tensor in tensors.items():
        if str(tensor.layout) != "torch.strided" or tensor.is_quantized:
            raise UsageError(f"{name} must be a dense tensor, got {tensor.dtype} {tensor.layout}")
    devices = {str(tensor.device): tensor.device for tensor in tensors.values()}
    if len(devices) > 1:
        places = ", ".join(f"{name} is on {tensor.device}" for name, tensor in tensors.items())
        raise UsageError(f"the tensors must be on one device: {places}; move one with .to(...)")
    (device,) = devices.values()
    if device.type not in WORKS_ON | {"cpu"}:
        raise UsageError(f"tensors on {device} are not ranked there: only cpu and cuda are; move them with .cpu()")
    return device if device.type in WORKS_ON else None
