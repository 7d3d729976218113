"""Label smoothing by hand, by the equation, and as PyTorch does it."""

import math

import loss_backends
import pytest
import torch
from torch.nn import functional

from reid_core.losses.smoothed_cross_entropy import smoothed_cross_entropy

backend = loss_backends.backend


def random_rows(rows=7, classes=5):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits, torch.arange(rows) % classes


def slow(logits, labels, smoothing):
    values = []
    for row, label in zip(logits.tolist(), labels.tolist()):
        total = math.log(sum(math.exp(z) for z in row))
        losses = [total - z for z in row]
        values.append((1 - smoothing) * losses[label] + smoothing * sum(losses) / len(losses))
    return torch.tensor(values, dtype=torch.float64)


def test_by_hand():
    """Probabilities 1/4, 1/4, 1/2: cross-entropies 2 log 2, 2 log 2 and log 2, their mean 5/3 log 2."""
    logits = torch.tensor([[0.0, 0.0, math.log(2)]], dtype=torch.float64)
    for label, smoothing, expected in ((2, 0.0, 1.0), (2, 0.3, 1.2), (0, 0.3, 1.9), (0, 1.0, 5 / 3)):
        loss = smoothed_cross_entropy(logits, torch.tensor([label]), smoothing)
        assert loss.item() == pytest.approx(expected * math.log(2), abs=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_the_equation_and_pytorch(smoothing):
    logits, labels = random_rows()
    loss = smoothed_cross_entropy(logits, labels, smoothing)
    torch.testing.assert_close(loss, slow(logits, labels, smoothing))
    theirs = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(loss, theirs)


def test_the_gradient_is_probability_minus_the_smoothed_label():
    logits, labels = random_rows()
    smoothed_cross_entropy(logits.requires_grad_(), labels, 0.2).sum().backward()
    expected = logits.detach().softmax(1) - 0.8 * functional.one_hot(labels, 5) - 0.2 / 5
    torch.testing.assert_close(logits.grad, expected)
    assert torch.autograd.gradcheck(lambda z: smoothed_cross_entropy(z, labels, 0.2), (logits,))


def test_no_smoothing_does_not_look_at_other_classes():
    logits = torch.tensor([[0.0, 0.0, -torch.inf]], requires_grad=True)
    loss = smoothed_cross_entropy(logits, torch.tensor([0]))
    assert loss.item() == pytest.approx(math.log(2))
    loss.sum().backward()
    assert logits.grad.tolist() == [[-0.5, 0.5, 0.0]]
    assert smoothed_cross_entropy(logits, torch.tensor([0]), 0.1).item() == math.inf


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    logits, labels = random_rows()
    logits = logits.to(dtype)
    loss = smoothed_cross_entropy(logits, labels, 0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), slow(logits.double(), labels, 0.1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_nan_stays_in_its_row_and_nothing_is_a_loss_of_nothing(smoothing):
    logits, labels = random_rows()
    logits[4, 0] = torch.nan
    assert smoothed_cross_entropy(logits, labels, smoothing).isnan().tolist() == [row == 4 for row in range(7)]
    assert smoothed_cross_entropy(logits[:0], labels[:0], smoothing).shape == (0,)


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, math.nan])
def test_a_share_outside_0_and_1_is_refused(smoothing):
    with pytest.raises(ValueError, match=rf"smoothing must lie in \[0, 1\], got {smoothing}"):
        smoothed_cross_entropy(*random_rows(), smoothing)


def test_labels_are_looked_at():
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 2\), got 2 at row 2"):
        smoothed_cross_entropy(random_rows()[0][:, :2], random_rows()[1])
