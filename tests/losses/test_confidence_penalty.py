"""The penalty on confidence by hand, by the equation, between its bounds, and its gradient."""

import math

import loss_backends
import pytest
import torch

from reid_core.losses.confidence_penalty import confidence_penalty
from reid_core.losses.soft_target_cross_entropy import soft_target_cross_entropy

backend = loss_backends.backend


def random_logits(rows=7, classes=5):
    return 3 * torch.randn(rows, classes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def slow(logits):
    values = []
    for row in logits.tolist():
        total = sum(math.exp(z) for z in row)
        values.append(sum(math.exp(z) / total * (z - math.log(total)) for z in row))
    return torch.tensor(values, dtype=torch.float64)


def test_by_hand():
    """Probabilities 1/4, 1/4, 1/2: -(1/2 + 1/2 + 1/2) log 2; uniform over 100 classes: -log 100."""
    logits = torch.tensor([[0.0, 0.0, math.log(2)]], dtype=torch.float64)
    assert confidence_penalty(logits).item() == pytest.approx(-1.5 * math.log(2), abs=1e-12)
    assert confidence_penalty(torch.full((1, 100), -3.0)).item() == pytest.approx(-4.60517, abs=1e-5)
    assert confidence_penalty(torch.full((1, 1), 5.0)).item() == 0


def test_the_equation():
    torch.testing.assert_close(confidence_penalty(random_logits()), slow(random_logits()))


def test_it_is_minus_the_least_cross_entropy():
    logits = random_logits()
    torch.testing.assert_close(confidence_penalty(logits), -soft_target_cross_entropy(logits, logits.softmax(1)))


def test_negative_logits_count():
    """The authors' code takes all of them for 0."""
    logits = random_logits()
    torch.testing.assert_close(confidence_penalty(logits - 50), confidence_penalty(logits))


def test_the_gradient():
    """``p_j * (log p_j - sum of p log p)``; it also flows through the probabilities."""
    logits = random_logits().requires_grad_()
    value = confidence_penalty(logits)
    value.sum().backward()
    p = logits.detach().softmax(1)
    torch.testing.assert_close(logits.grad, p * (p.log() - value.detach()[:, None]))
    assert torch.autograd.gradcheck(confidence_penalty, (logits,))


@pytest.mark.parametrize("low", [-1e4, -torch.inf])
def test_certainty_is_0_with_no_nan(low):
    logits = torch.tensor([[0.0, low, low]], requires_grad=True)
    value = confidence_penalty(logits)
    value.sum().backward()
    assert value.tolist() == [0.0]
    assert logits.grad.tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    logits = random_logits().to(dtype)
    value = confidence_penalty(logits)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), slow(logits.double()), rtol=1e-6, atol=1e-6)


def test_nan_stays_in_its_row_and_nothing_is_a_value_of_nothing():
    logits = random_logits()
    logits[4, 0] = torch.nan
    assert confidence_penalty(logits).isnan().tolist() == [row == 4 for row in range(7)]
    assert confidence_penalty(logits[:0]).shape == (0,)


def test_bad_logits_are_named():
    with pytest.raises(ValueError, match=r"at least one class, got \(7, 0\)"):
        confidence_penalty(random_logits()[:, :0])
    with pytest.raises(TypeError, match="floating point numbers, got torch.int64"):
        confidence_penalty(random_logits().long())
