"""Every loss that has compiled ops, called in one way, for tests of what all of them must do."""

import pytest
import torch

from reid_core import ops
from reid_core.losses.balanced_softmax import balanced_softmax_loss
from reid_core.losses.co_refine import co_refine_loss, co_refine_pair_loss
from reid_core.losses.confidence_penalty import confidence_penalty
from reid_core.losses.self_refine import label_refine_loss
from reid_core.losses.smoothed_cross_entropy import smoothed_cross_entropy
from reid_core.losses.soft_target_cross_entropy import soft_target_cross_entropy

built = pytest.mark.skipif(bool(ops.why_missing()), reason=f"no ops: {ops.why_missing()}")
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
CLASSES = [1, 31, 33, 751, 4099]
"""Less than a vector, beside one, a data set's, more than a chunk."""


def labels_of(logits):
    return torch.arange(len(logits)) * 7 % logits.shape[1]


def targets_of(logits):
    """A third of them 0; the sum of a row is about 1. Every type holds these numbers."""
    rows, classes = logits.shape
    whole = (torch.arange(rows)[:, None] * 5 + torch.arange(classes) * 7) % 3
    return (whole * 0.5 ** (logits.shape[1] - 1).bit_length()).to(logits.dtype)


def counts_of(logits):
    """Classes with no image, and with thousands."""
    return torch.arange(logits.shape[1]) ** 3 % 5000


LOSSES = {
    "co_refine_pair": lambda a, b, **backend: co_refine_pair_loss(a, b, 0.7, 1.0, 0.25, **backend),
    "co_refine_pair_mean": lambda a, b, **backend: co_refine_pair_loss(a, b, 0.7, 1.0, 0.25, **backend),
    "co_refine": lambda a, b, **backend: [co_refine_loss(a, b.detach(), 1.0, 0.5, 1.5, **backend)],
    "label_refine": lambda a, b, **backend: [label_refine_loss(a, labels_of(a), 0.3, **backend)],
    "smoothed": lambda a, b, **backend: [smoothed_cross_entropy(a, labels_of(a), 0.1, **backend)],
    "cross_entropy": lambda a, b, **backend: [smoothed_cross_entropy(a, labels_of(a), **backend)],
    "balanced": lambda a, b, **backend: [balanced_softmax_loss(a, labels_of(a), counts_of(a), **backend)],
    "balanced_smoothed": lambda a, b, **backend: [
        balanced_softmax_loss(a, labels_of(a), counts_of(a), 0.8, 0.1, **backend)
    ],
    "soft_target": lambda a, b, **backend: [soft_target_cross_entropy(a, targets_of(b), **backend)],
    "penalty": lambda a, b, **backend: [confidence_penalty(a, **backend)],
}
"""Of two networks' logits, (B, C) each: the losses, one or two of (B,)."""


def random_logits(rows, classes, dtype=torch.float32, scale=3.0, seed=0):
    """Two networks' logits that agree on some rows."""
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, rows, classes, generator=generator, dtype=torch.float64) * scale
    b[::3] += a[::3]
    return a.to(dtype), b.to(dtype)


def losses_and_gradients(name, a, b, backend):
    """Losses, and gradients of their sums with weights of either sign, of network after network; or where the name says
    so of their means, as training has them, times B."""
    a, b = (logits.detach().requires_grad_() for logits in (a, b))
    losses = LOSSES[name](a, b, backend=backend)
    gradients = []
    for loss, logits in zip(losses, (a, b)):
        if name.endswith("_mean"):
            (gradient,) = torch.autograd.grad(loss.mean(), logits)
            gradients.append(gradient * len(loss))
            continue
        weights = torch.linspace(-1, 1, len(loss), dtype=loss.dtype) if len(loss) > 1 else torch.ones_like(loss)
        (gradient,) = torch.autograd.grad(loss, logits, weights)
        gradients.append(gradient)
    return [loss.detach() for loss in losses], gradients


def assert_within_the_bars(name, a, b):
    """What the op gives, against the definition in float64."""
    losses, gradients = losses_and_gradients(name, a, b, "native")
    exact_losses, exact_gradients = losses_and_gradients(name, a.double(), b.double(), "torch")
    for loss, exact in zip(losses, exact_losses):
        assert loss.dtype == torch.promote_types(a.dtype, torch.float32)
        bar = 1e-12 if a.dtype == torch.float64 else 1e-6
        torch.testing.assert_close(loss.double(), exact, rtol=bar, atol=bar, equal_nan=True)
    for gradient, exact in zip(gradients, exact_gradients):
        assert gradient.dtype == a.dtype and gradient.is_contiguous()
        # A 16-bit gradient is rounded at the end.
        rounding = torch.finfo(a.dtype).eps if a.element_size() == 2 else 0.0
        bar = 1e-12 if a.dtype == torch.float64 else 1e-6
        torch.testing.assert_close(gradient.double(), exact, rtol=rounding, atol=bar, equal_nan=True)
