"""SELF and CORE losses against worked examples, slow recomputations and the identities they must satisfy."""

import math

import pytest
import torch
from torch.nn import functional

from reid_core.losses.co_refine import co_refine_loss
from reid_core.losses.self_refine import label_refine_loss

Z1 = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64)
Z2 = torch.tensor([[1.0, 3.0, 0.0]], dtype=torch.float64)


def random_logits(rows=7, classes=5, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, classes, generator=generator, dtype=torch.float64) * scale


def slow_log_softmax(row):
    largest = max(row)
    total = sum(math.exp(v - largest) for v in row)
    return [v - largest - math.log(total) for v in row]


def slow_self(logits, labels, confidence):
    values = []
    for row, label in zip(logits.tolist(), labels.tolist()):
        log_probs = slow_log_softmax(row)
        values.append(-(1 - confidence) * log_probs[label] - confidence * log_probs[row.index(max(row))])
    return torch.tensor(values, dtype=torch.float64)


def slow_core(logits, peer, soft, agree, disagree):
    values = []
    for row, other in zip(logits.tolist(), peer.tolist()):
        mine, theirs = slow_log_softmax(row), slow_log_softmax(other)
        taught = other.index(max(other))
        weight = agree if row.index(max(row)) == taught else disagree
        values.append(-weight * mine[taught] - soft * sum(math.exp(t) * m for t, m in zip(theirs, mine)))
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(("confidence", "expected"), [(0.0, 2.407606), (0.25, 1.907606), (1.0, 0.407606)])
def test_self_worked_example(confidence, expected):
    loss = label_refine_loss(Z1, torch.tensor([2]), confidence)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_core_worked_example():
    assert co_refine_loss(Z1, Z2).item() == pytest.approx(2.743027, abs=1e-6)
    assert co_refine_loss(Z2, Z1).item() == pytest.approx(3.940266, abs=1e-6)
    assert co_refine_loss(Z1, Z2, soft_weight=0.0).item() == pytest.approx(1.407606, abs=1e-6)
    # They disagree, so selective consistency leaves the soft term.
    assert co_refine_loss(Z1, Z2, disagree_weight=0.0).item() == pytest.approx(1.335421, abs=1e-6)


@pytest.mark.parametrize("confidence", [0.0, 0.3, 1.0])
def test_self_equals_the_equation(confidence):
    logits, labels = random_logits(), torch.arange(7) % 5
    torch.testing.assert_close(label_refine_loss(logits, labels, confidence), slow_self(logits, labels, confidence))


@pytest.mark.parametrize("weights", [(1, 1, 1), (0.5, 1, 0), (2.0, 3.0, 0.25), (0, 1, 1)])
def test_core_equals_the_equation(weights):
    logits, peer = random_logits(), random_logits(seed=1)
    peer[:3] = logits[:3] * 1.5  # some rows agree
    torch.testing.assert_close(co_refine_loss(logits, peer, *weights), slow_core(logits, peer, *weights))


def test_self_gradient_is_probability_minus_targets():
    logits, labels = random_logits().requires_grad_(), torch.arange(7) % 5
    label_refine_loss(logits, labels, 0.4).sum().backward()
    one_hot, own = functional.one_hot(labels, 5), functional.one_hot(logits.detach().argmax(1), 5)
    torch.testing.assert_close(logits.grad, logits.detach().softmax(1) - 0.6 * one_hot - 0.4 * own)


def test_core_gradient_reaches_the_learner_only():
    logits, peer = random_logits().requires_grad_(), random_logits(seed=1).requires_grad_()
    co_refine_loss(logits, peer, soft_weight=0.7).sum().backward()
    p, q = logits.detach().softmax(1), peer.detach().softmax(1)
    taught = functional.one_hot(peer.detach().argmax(1), 5)
    torch.testing.assert_close(logits.grad, (p - taught) + 0.7 * (p - q))
    assert peer.grad is None


def test_gradcheck():
    logits, peer, labels = random_logits().requires_grad_(), random_logits(seed=1), torch.arange(7) % 5
    assert torch.autograd.gradcheck(lambda z: co_refine_loss(z, peer, 0.5, 1.0, 0.2), (logits,))
    assert torch.autograd.gradcheck(lambda z: label_refine_loss(z, labels, 0.3), (logits,))


def test_self_when_prediction_is_the_label_is_cross_entropy_for_every_confidence():
    logits = random_logits()
    labels = logits.argmax(1)
    for confidence in (0.0, 0.5, 1.0):
        torch.testing.assert_close(
            label_refine_loss(logits, labels, confidence), functional.cross_entropy(logits, labels, reduction="none")
        )


def test_core_with_a_saturated_peer_is_twice_cross_entropy():
    logits, labels = random_logits(), torch.arange(7) % 5
    peer = 100.0 * functional.one_hot(labels, 5).double()
    cross_entropy = functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(co_refine_loss(logits, peer), 2 * cross_entropy)
    torch.testing.assert_close(co_refine_loss(logits, peer, soft_weight=0.0), cross_entropy)


def test_soft_term_is_least_where_both_agree_and_is_then_the_entropy():
    peer = random_logits(seed=1)
    entropy = -(peer.softmax(1) * peer.log_softmax(1)).sum(1)
    at_peer = co_refine_loss(peer + 3.0, peer, agree_weight=0.0, disagree_weight=0.0)
    elsewhere = co_refine_loss(random_logits(), peer, agree_weight=0.0, disagree_weight=0.0)
    torch.testing.assert_close(at_peer, entropy)
    assert (elsewhere > entropy).all()


def test_selective_when_all_or_none_agree():
    logits = random_logits()
    torch.testing.assert_close(
        co_refine_loss(logits, 2 * logits, disagree_weight=0.0), co_refine_loss(logits, 2 * logits)
    )
    opposite = -logits
    torch.testing.assert_close(
        co_refine_loss(logits, opposite, disagree_weight=0.0),
        co_refine_loss(logits, opposite, agree_weight=0.0, disagree_weight=0.0),
    )


def test_rows_follow_a_permutation():
    logits, peer, order = random_logits(), random_logits(seed=1), torch.tensor([6, 2, 0, 5, 1, 3, 4])
    torch.testing.assert_close(co_refine_loss(logits, peer)[order], co_refine_loss(logits[order], peer[order]))


def test_ties_go_to_the_lowest_class():
    logits = torch.tensor([[1.0, 1.0, 0.0]])
    expected = functional.cross_entropy(logits, torch.tensor([0]), reduction="none")
    torch.testing.assert_close(label_refine_loss(logits, torch.tensor([2]), 1.0), expected)
    assert co_refine_loss(logits, logits, soft_weight=0.0).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    logits, peer = random_logits().to(dtype), random_logits(seed=1).to(dtype)
    loss = co_refine_loss(logits, peer)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), slow_core(logits.double(), peer.double(), 1, 1, 1), rtol=1e-5, atol=1e-5)


def test_an_impossible_class_that_the_peer_rules_out_too_is_no_nan():
    logits = torch.tensor([[1.0, 0.0, -torch.inf]])
    assert torch.isfinite(co_refine_loss(logits, logits)).all()


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"confidence must lie in \[0, 1\], got 1.5"):
        label_refine_loss(Z1, torch.tensor([0]), 1.5)
    with pytest.raises(ValueError, match=r"\(1, 3\).*\(1, 2\)"):
        co_refine_loss(Z1, Z2[:, :2])
    with pytest.raises(ValueError, match="disagree_weight must be at least 0, got -1"):
        co_refine_loss(Z1, Z2, disagree_weight=-1.0)
