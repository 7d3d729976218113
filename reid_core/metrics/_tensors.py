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
    """A CPU tensor as the array over the same memory; copied from another device, and to float32 where NumPy lacks its type
    (bfloat16, float8). Everything else as it is.

    Raises:
        UsageError: a tensor that is no array, such as a sparse one.
    """
    if not is_tensor(value):
        return value
    try:
        value = value.detach().cpu().resolve_neg().resolve_conj()
        small = value.dtype.is_floating_point and str(value.dtype) not in (
            "torch.float16",
            "torch.float32",
            "torch.float64",
        )
        return (value.float() if small else value).numpy()
    except (RuntimeError, TypeError) as error:
        raise UsageError(f"a tensor of {value.dtype} {value.layout} cannot be read as an array: {error}") from error


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
