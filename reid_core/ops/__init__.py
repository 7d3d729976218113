"""Operations on tensors that are compiled where a compiler is found, each with its plain twin in PyTorch.

Importing this imports torch.
"""

from reid_core.ops._co_refine import co_refine, co_refine_pair
from reid_core.ops._confidence_penalty import confidence_penalty
from reid_core.ops._count_tile import count_tile
from reid_core.ops._cross_entropy import cross_entropy
from reid_core.ops._library import use_native, why_missing
from reid_core.ops._peer_statistics import peer_statistics
from reid_core.ops._soft_target_cross_entropy import soft_target_cross_entropy

__all__ = [
    "co_refine",
    "co_refine_pair",
    "confidence_penalty",
    "count_tile",
    "cross_entropy",
    "peer_statistics",
    "soft_target_cross_entropy",
    "use_native",
    "why_missing",
]
