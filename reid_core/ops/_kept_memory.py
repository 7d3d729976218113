"""Memory for large gradients, kept for the next step: having it from the system takes longer than filling it.

Every page that a process is given is cleared first, one by one. At 256 x 100,000 that is three quarters of the time of a
loss forward and backward. A gradient of logits is at its largest when nothing of the networks' own memory is free yet, so
that what is kept does not add to the peak of a training step.
"""

from __future__ import annotations

import weakref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LARGE = 1 << 24
"""Bytes. Smaller tensors come from the allocator, which keeps such memory itself."""

_MOST = 2
_LINE = 64
_free: list[NDArray[np.uint8]] = []


def empty_like(tensor: Tensor) -> Tensor:
    """A contiguous tensor of the shape and type of a CPU tensor, not filled.

    Of a large one the memory comes back here when the last tensor on it is gone, and waits for the next of its size; memory
    of other sizes is given up then. At most two pieces wait.
    """
    size = tensor.numel() * tensor.element_size()
    if size < LARGE:
        return torch.empty_like(tensor, memory_format=torch.contiguous_format)
    fitting = [memory for memory in _free if len(memory) == size + _LINE]
    memory = fitting[0] if fitting else np.empty(size + _LINE, np.uint8)
    _free[:] = fitting[1:]
    start = -memory.ctypes.data % _LINE
    lent = memory[start : start + size]
    # torch holds on to this very array for as long as the memory is used.
    weakref.finalize(lent, _take_back, memory).atexit = False
    return torch.from_numpy(lent).view(tensor.dtype).view(tensor.shape)


def _take_back(memory: NDArray[np.uint8]) -> None:
    if len(_free) < _MOST:
        _free.append(memory)
