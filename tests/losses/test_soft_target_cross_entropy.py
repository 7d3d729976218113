"""Cross-entropy with distributions by hand, by the equation, and where it must be another loss."""

import math

import loss_backends
import pytest
import torch
from torch.nn import functional

from reid_core.losses.co_refine import co_refine_loss
from reid_core.losses.smoothed_cross_entropy import smoothed_cross_entropy
from reid_core.losses.soft_target_cross_entropy import soft_target_cross_entropy

backend = loss_backends.backend


def random_rows(rows=7, classes=5):
    generator = torch.Generator().manual_seed(0)
    logits, other = 3 * torch.randn(2, rows, classes, generator=generator, dtype=torch.float64)
    return logits, other.softmax(1)


def slow(logits, targets):
    values = []
    for row, shares in zip(logits.tolist(), targets.tolist()):
        total = math.log(sum(math.exp(z) for z in row))
        values.append(sum(share * (total - z) for share, z in zip(shares, row)))
    return torch.tensor(values, dtype=torch.float64)


def test_by_hand():
    """Probabilities 1/4, 1/4, 1/2: cross-entropies 2 log 2, 2 log 2 and log 2."""
    logits = torch.tensor([[0.0, 0.0, math.log(2)]], dtype=torch.float64)
    for targets, expected in (([0, 0, 1], 1.0), ([0.5, 0.25, 0.25], 1.75), ([0.5, 0, 0], 1.0), ([1, 1, 1], 5.0)):
        loss = soft_target_cross_entropy(logits, torch.tensor([targets], dtype=torch.float64))
        assert loss.item() == pytest.approx(expected * math.log(2), abs=1e-12)


def test_the_equation():
    logits, targets = random_rows()
    torch.testing.assert_close(soft_target_cross_entropy(logits, targets), slow(logits, targets))


def test_one_hot_and_smoothed_labels_are_targets():
    logits, _ = random_rows()
    labels = torch.arange(7) % 5
    for smoothing in (0.0, 0.3):
        targets = (1 - smoothing) * functional.one_hot(labels, 5).double() + smoothing / 5
        torch.testing.assert_close(
            soft_target_cross_entropy(logits, targets), smoothed_cross_entropy(logits, labels, smoothing)
        )


def test_the_soft_term_of_co_refining_is_this():
    logits, _ = random_rows()
    peer = logits.flip(1)
    soft = co_refine_loss(logits, peer, agree_weight=0.0, disagree_weight=0.0)
    torch.testing.assert_close(soft_target_cross_entropy(logits, peer.softmax(1)), soft)


def test_the_gradient_is_sum_of_targets_times_probability_minus_targets():
    logits, targets = random_rows()
    targets[0] *= 0.5
    targets[1] = 0
    soft_target_cross_entropy(logits.requires_grad_(), targets).sum().backward()
    torch.testing.assert_close(logits.grad, targets.sum(1, keepdim=True) * logits.detach().softmax(1) - targets)
    assert torch.autograd.gradcheck(lambda z: soft_target_cross_entropy(z, targets), (logits,))


def test_an_impossible_class_costs_nothing_unless_it_is_wanted():
    logits = torch.tensor([[0.0, 0.0, -torch.inf]], requires_grad=True)
    loss = soft_target_cross_entropy(logits, torch.tensor([[0.5, 0.5, 0.0]]))
    assert loss.item() == pytest.approx(math.log(2))
    loss.sum().backward()
    assert logits.grad.tolist() == [[0.0, 0.0, 0.0]]
    assert soft_target_cross_entropy(logits, torch.tensor([[0.5, 0.4, 0.1]])).item() == math.inf


def test_nan_stays_in_its_row_and_nothing_is_a_loss_of_nothing():
    logits, targets = random_rows()
    logits[4, 0] = torch.nan
    targets[2, 1] = torch.nan
    assert soft_target_cross_entropy(logits, targets).isnan().tolist() == [row in (2, 4) for row in range(7)]
    assert soft_target_cross_entropy(logits[:0], targets[:0]).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_and_targets_may_be_float32(dtype):
    logits, targets = random_rows()
    logits, targets = logits.to(dtype), targets.float()
    loss = soft_target_cross_entropy(logits, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), slow(logits.double(), targets.double()), rtol=1e-6, atol=1e-6)


def test_bad_arguments_are_named():
    logits, targets = random_rows()
    with pytest.raises(ValueError, match=r"logits \(7, 5\) and targets \(7, 4\) must agree in shape"):
        soft_target_cross_entropy(logits, targets[:, :4])
    with pytest.raises(TypeError, match="targets must be probabilities, got torch.int64"):
        soft_target_cross_entropy(logits, targets.long())
    with pytest.raises(ValueError, match="targets are on meta, logits on cpu"):
        soft_target_cross_entropy(logits, targets.to("meta"))
    with pytest.raises(ValueError, match="targets require a gradient"):
        soft_target_cross_entropy(logits, targets.requires_grad_())
    with pytest.raises(ValueError, match=r"at least one class, got \(7, 0\)"):
        soft_target_cross_entropy(logits[:, :0], targets.detach()[:, :0])
