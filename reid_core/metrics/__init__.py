"""Validate, choose a backend, return a value."""

from reid_core.metrics.classification import ClassificationResult, classification_metrics
from reid_core.metrics.distance import distance_matrix
from reid_core.metrics.embeddings import rank_metrics_from_embeddings
from reid_core.metrics.expansion import average_query_expansion, database_augmentation
from reid_core.metrics.rank import rank_metrics
from reid_core.metrics.rerank import k_reciprocal_blocks, k_reciprocal_rerank
from reid_core.metrics.roc import pair_roc, pair_roc_from_embeddings

__all__ = [
    "ClassificationResult",
    "average_query_expansion",
    "classification_metrics",
    "database_augmentation",
    "distance_matrix",
    "k_reciprocal_blocks",
    "k_reciprocal_rerank",
    "pair_roc",
    "pair_roc_from_embeddings",
    "rank_metrics",
    "rank_metrics_from_embeddings",
]
