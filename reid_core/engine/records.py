"""What one epoch said of every sample, gathered step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_core.types import NetOutput


class EpochRecorder:
    """Arrays over the training set by record name: (N,) or (K, N); NaN or -1 where a sample was not visited."""

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        self.arrays: dict[str, NDArray[Any]] = {}

    def add(self, index: Tensor, records: Mapping[str, Tensor]) -> None:
        """Store the rows of one step.

        Args:
            index: (B,) positions in the training set.
            records: (B,) or (K, B) by name.
        """
        rows = index.numpy()
        for name, value in records.items():
            values = value.detach().cpu().numpy()
            self._array(name, values)[..., rows] = values

    def _array(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        if name not in self.arrays:
            floating = np.issubdtype(values.dtype, np.floating)
            dtype = np.float32 if floating else np.int32 if values.dtype != np.bool_ else np.int8
            blank = np.nan if floating else -1
            self.arrays[name] = np.full((*values.shape[:-1], self.num_samples), blank, dtype)
        return self.arrays[name]


def evidence(outputs: list[NetOutput]) -> dict[str, Tensor]:
    """``prediction`` and ``confidence`` (highest probability) of every network, (K, B): the same for all methods."""
    with torch.no_grad():
        best = [output.logits.float().softmax(dim=1).max(dim=1) for output in outputs]
    return {"confidence": torch.stack([b.values for b in best]), "prediction": torch.stack([b.indices for b in best])}
