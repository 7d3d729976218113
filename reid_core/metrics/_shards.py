"""Processes that share a gallery: which tiles are whose, and sums over all of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_core import errors


@dataclass(frozen=True)
class Shards:
    """This process among those of ``torch.distributed``; one alone where there is no process group.

    Attributes:
        rank: of this process. world: how many there are.
    """

    rank: int = 0
    world: int = 1

    @staticmethod
    def here() -> Shards:
        """The default process group, if there is one. torch is not imported for the question."""
        distributed = sys.modules.get("torch.distributed")
        if distributed is None or not distributed.is_available() or not distributed.is_initialized():
            return Shards()
        return Shards(distributed.get_rank(), distributed.get_world_size())

    @contextmanager
    def together(self) -> Iterator[dict[str, Any]]:
        """What fails inside in one process fails in all; so do facts, put into the dict, that are not the same in all.

        Without this the others would wait for sums that never come.
        """
        facts: dict[str, Any] = {}
        try:
            yield facts
        except Exception as error:
            self._tell(type(error).__name__, str(error), facts)
            raise
        for rank, (kind, words, theirs) in enumerate(self._tell("", "", facts)):
            if kind:
                raise getattr(errors, kind, RuntimeError)(f"process {rank} of {self.world} stopped: {words}")
            for name, value in theirs.items():
                if value != facts.get(name):
                    raise errors.UsageError(
                        f"{name} must be the same in all processes, got {facts.get(name)} in process {self.rank} and "
                        f"{value} in process {rank}"
                    )

    def _tell(self, kind: str, words: str, facts: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
        """What every process has to say, by rank."""
        if self.world == 1:
            return []
        from torch import distributed

        said: list[Any] = [None] * self.world
        distributed.all_gather_object(said, (kind, words, facts))
        return said

    def mine(self, tiles: range) -> range:
        """Every ``world``-th tile of the gallery."""
        return tiles[self.rank :: self.world]

    def add_up(self, *arrays: NDArray[Any]) -> None:
        """Replace each array by its sum over all processes, which must hold arrays of the same shapes and types.

        Exact for integers, and for floats where all processes but one hold zeros.
        """
        if self.world == 1:
            return
        import torch
        from torch import distributed

        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        for array in arrays:
            tensor = torch.from_numpy(np.ascontiguousarray(array)).to(device)
            distributed.all_reduce(tensor)
            array[...] = tensor.cpu().numpy()
