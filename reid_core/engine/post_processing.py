"""What may be done to embeddings and distances before they are ranked; nothing of it looks at a label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_core.errors import UsageError
from reid_core.metrics.distance import distance_matrix
from reid_core.metrics.expansion import average_query_expansion, database_augmentation
from reid_core.metrics.rerank import k_reciprocal_rerank

Progress = Callable[[int, int], None]

_PARTS = 1000
"""Steps a stage has for the progress callback, whatever it counts itself."""


@dataclass(frozen=True)
class PostProcessing:
    """Database augmentation, then query expansion by the augmented gallery, then re-ranking; each only if asked for.

    Attributes:
        database_augmentation, query_expansion: how many nearest gallery images are blended in; 0 for neither.
        alpha: power of their weights in both.
        rerank: k-reciprocal re-ranking with k1, k2, lambda_value.
    """

    database_augmentation: int = 0
    query_expansion: int = 0
    alpha: float = 0.0
    rerank: bool = False
    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3

    def check(self, num_query: int, num_gallery: int) -> None:
        """Refuse what could not be done with so many images, before a network has looked at them.

        Raises:
            UsageError: a number is out of range.
        """
        for name, value, most in (
            ("database_augmentation", self.database_augmentation, num_gallery - 1),
            ("query_expansion", self.query_expansion, num_gallery),
        ):
            if not 0 <= value <= most:
                raise UsageError(f"{name} must lie in [0, {most}] with {num_gallery} gallery images, got {value}")
        if not 0 <= self.alpha < float("inf"):
            raise UsageError(f"expansion_alpha must be a finite number of at least 0, got {self.alpha}")
        images = num_query + num_gallery
        if self.rerank and not 1 <= self.k1 < images:
            raise UsageError(f"k1 must lie in [1, {images - 1}] with {images} images to rank, got {self.k1}")
        if self.rerank and not 1 <= self.k2 <= images:
            raise UsageError(f"k2 must lie in [1, {images}] with {images} images to rank, got {self.k2}")
        if self.rerank and not 0 <= self.lambda_value <= 1:
            raise UsageError(f"lambda_value must lie in [0, 1], got {self.lambda_value}")

    @property
    def _stages(self) -> int:
        return int(self.database_augmentation > 0) + int(self.query_expansion > 0) + 1

    def last_part(self, progress: Progress | None) -> Progress | None:
        """What of ``progress`` is left for the distances once ``embeddings`` is done."""
        return part_of(progress, self._stages - 1, self._stages)

    def embeddings(
        self,
        query: NDArray[np.float32],
        gallery: NDArray[np.float32],
        names: Sequence[str],
        progress: Progress | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(Q, D) and (G, D) unit rows, expanded as asked for; ``names`` are those of the queries, then the gallery's."""
        stages = self._stages
        named: dict[str, Any] = {"gallery_names": names[len(query) :]}
        stage = 0
        if self.database_augmentation:
            tick = part_of(progress, stage, stages)
            gallery = database_augmentation(gallery, self.database_augmentation, self.alpha, **named, progress=tick)
            stage += 1
        if self.query_expansion:
            tick = part_of(progress, stage, stages)
            named["query_names"] = names[: len(query)]
            query = average_query_expansion(query, gallery, self.query_expansion, self.alpha, **named, progress=tick)
        return query, gallery

    def distances(
        self,
        query: NDArray[np.float32],
        gallery: NDArray[np.float32],
        names: Sequence[str],
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """(Q, G) distances of what ``embeddings`` gave, by cosine or re-ranked; small is near."""
        named: dict[str, Any] = {"query_names": names[: len(query)], "gallery_names": names[len(query) :]}
        if self.rerank:
            return k_reciprocal_rerank(
                query, gallery, self.k1, self.k2, self.lambda_value, **named, progress=self.last_part(progress)
            )
        return distance_matrix(query, gallery, "cosine", **named, progress=self.last_part(progress))

    def to_json(self) -> dict[str, Any] | None:
        """What was applied, with its numbers; None where nothing was."""
        applied: dict[str, Any] = {}
        for name in ("database_augmentation", "query_expansion"):
            if getattr(self, name):
                applied[name] = {"k": getattr(self, name), "alpha": self.alpha}
        if self.rerank:
            applied["rerank"] = {"k1": self.k1, "k2": self.k2, "lambda_value": self.lambda_value}
        return applied or None

    def __str__(self) -> str:
        """The same in words, for the head of a table; empty where nothing was applied."""
        words = [
            f"{name.replace('_', ' ')} ({', '.join(f'{key} {value:g}' for key, value in numbers.items())})"
            for name, numbers in (self.to_json() or {}).items()
        ]
        return "after " + ", ".join(words).replace("rerank", "k-reciprocal re-ranking") if words else ""


def part_of(progress: Progress | None, stage: int, stages: int) -> Progress | None:
    """Progress of one of several stages, as a share of all."""
    if progress is None:
        return None
    return lambda done, total: progress(stage * _PARTS + done * _PARTS // max(total, 1), stages * _PARTS)
