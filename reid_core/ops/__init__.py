"""Operations on tensors that are compiled where a compiler is found, each with its plain twin in PyTorch.

Importing this imports torch.
"""

from reid_core.ops._co_refine import co_refine, co_refine_pair
from reid_core.ops._count_tile import count_tile
from reid_core.ops._library import use_native, why_missing

__all__ = ["co_refine", "co_refine_pair", "count_tile", "use_native", "why_missing"]
