"""Problems for losses that are given embeddings and classifiers."""

import torch
from torch.nn import functional

SHAPES = [(3, 1, 4), (3, 31, 4), (3, 33, 5), (3, 751, 6), (1, 4099, 3), (0, 31, 4), (5, 2, 1)]
"""B, C, D."""
CHUNKS = [1, 7, 64, 10_000, None]
CASES = [(shape, chunk) for shape in SHAPES for chunk in CHUNKS if shape[1] / (chunk or 10_000) < 130]
"""Shape and chunk, without those that would be thousands of chunks."""


def classifier(rows, classes, width, *, seed=0, bias=True, dtype=torch.float64, scale=1.0):
    """[embeddings, weight, bias or None], leaves that want gradients."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(rows, width), (classes, width), (classes,)]
    made = [(torch.randn(*shape, generator=generator, dtype=torch.float64) * scale).to(dtype) for shape in shapes]
    return [tensor.requires_grad_() for tensor in made[: 2 + bias]] + [None] * (not bias)


def exact_classifier(rows, classes, width, *, seed=0):
    """Whole numbers in float32 whose products and their sums have no rounding; logits are up to some 1e4."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [((rows, width), 16), ((classes, width), 64), ((classes,), 1000)]
    made = [torch.randint(-most, most + 1, shape, generator=generator).float() for shape, most in sizes]
    return [tensor.requires_grad_() for tensor in made]


def outcome(losses, leaves):
    """Losses, and gradients of a sum in which every row has its own factor; for zero rows the zeros they must be."""
    total = sum((torch.arange(1.0, len(loss) + 1).to(loss) * (k + 0.5) * loss).sum() for k, loss in enumerate(losses))
    return [*(loss.detach() for loss in losses), *torch.autograd.grad(total, [t for t in leaves if t is not None])]


def logits_of(leaves):
    return functional.linear(*leaves)
