"""SELF and CORE losses against worked examples, slow recomputations and the identities they must satisfy."""

import math

import loss_backends
import pytest
import torch
from torch.nn import functional

from reid_core.losses.co_refine import co_refine_loss, co_refine_pair_loss
from reid_core.losses.self_refine import label_refine_loss

backend = loss_backends.backend

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


def core_gradient(logits, peer, soft):
    p, q = logits.detach().softmax(1), peer.detach().softmax(1)
    return p - functional.one_hot(peer.detach().argmax(1), 5) + soft * (p - q)


def test_core_gradient_is_probability_minus_what_the_peer_teaches():
    logits, peer = random_logits().requires_grad_(), random_logits(seed=1)
    co_refine_loss(logits, peer, soft_weight=0.7).sum().backward()
    torch.testing.assert_close(logits.grad, core_gradient(logits, peer, 0.7))


@pytest.mark.parametrize("weights", [(1, 1, 1), (0.5, 1, 0.25)])
def test_the_pair_is_both_directions(weights):
    a, b = random_logits(), random_logits(seed=1)
    a[:3] = b[:3] + 0.5
    first, second = co_refine_pair_loss(a, b, *weights)
    torch.testing.assert_close(first, slow_core(a, b, *weights))
    torch.testing.assert_close(second, slow_core(b, a, *weights))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_each_loss_of_the_pair_reaches_its_own_network_and_can_go_backward_alone(order):
    pair = random_logits().requires_grad_(), random_logits(seed=1).requires_grad_()
    losses = co_refine_pair_loss(*pair, soft_weight=0.7)
    for k in order:
        losses[k].sum().backward()
        torch.testing.assert_close(pair[k].grad, core_gradient(pair[k], pair[1 - k], 0.7))
    torch.testing.assert_close(pair[order[0]].grad, core_gradient(pair[order[0]], pair[order[1]], 0.7))


def test_the_second_of_the_pair_may_never_go_backward():
    a, b = random_logits().requires_grad_(), random_logits(seed=1).requires_grad_()
    co_refine_pair_loss(a, b)[0].sum().backward()
    assert b.grad is None or not b.grad.any()


def test_the_mean_of_the_pair():
    pair = random_logits().requires_grad_(), random_logits(seed=1).requires_grad_()
    means = co_refine_pair_loss(*pair, soft_weight=0.7, reduction="mean")
    for k, mean in enumerate(means):
        assert mean.shape == ()
        torch.testing.assert_close(mean, slow_core(pair[k], pair[1 - k], 0.7, 1, 1).mean())
        mean.backward()
        torch.testing.assert_close(pair[k].grad, core_gradient(pair[k], pair[1 - k], 0.7) / len(pair[k]))


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


def test_an_empty_batch_has_an_empty_loss_and_no_gradient():
    a, b = torch.zeros(0, 5, requires_grad=True), torch.zeros(0, 5, requires_grad=True)
    losses = [*co_refine_pair_loss(a, b), label_refine_loss(a, torch.zeros(0, dtype=torch.int64), 0.5)]
    for loss in losses:
        assert loss.shape == (0,)
    sum(loss.sum() for loss in losses).backward()
    assert a.grad.shape == b.grad.shape == (0, 5)


@pytest.mark.parametrize("which", [0, 1])
def test_nan_stays_in_its_row(which):
    pair = [random_logits(), random_logits(seed=1)]
    pair[which][2, 3] = torch.nan
    for loss in (*co_refine_pair_loss(*pair), co_refine_loss(*pair, soft_weight=0.0, disagree_weight=0.0)):
        assert loss.isnan().tolist() == [row == 2 for row in range(7)]
    loss = label_refine_loss(pair[which], torch.arange(7) % 5, 0.5)
    assert loss.isnan().tolist() == [row == 2 for row in range(7)]


def test_the_own_prediction_is_the_largest_logit_where_log_probabilities_round_to_a_tie():
    logits = torch.zeros(1, 1000)
    logits[0, 500] = 1e-7
    label_refine_loss(logits.requires_grad_(), torch.tensor([0]), 1.0).backward()
    assert logits.grad[0, 500] < -0.9 < logits.grad[0, 0]


def test_full_confidence_does_not_look_at_an_impossible_label():
    logits = torch.tensor([[0.0, 0.0, -torch.inf]], requires_grad=True)
    loss = label_refine_loss(logits, torch.tensor([2]), 1.0)
    assert loss.item() == pytest.approx(math.log(2))
    loss.sum().backward()
    assert logits.grad.tolist() == [[-0.5, 0.5, 0.0]]
    assert label_refine_loss(logits, torch.tensor([2]), 0.5).item() == math.inf


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"confidence must lie in \[0, 1\], got 1.5"):
        label_refine_loss(Z1, torch.tensor([0]), 1.5)
    with pytest.raises(ValueError, match=r"\(1, 3\).*\(1, 2\)"):
        co_refine_loss(Z1, Z2[:, :2])
    with pytest.raises(ValueError, match=r"logits_a \(1, 3\) and logits_b \(1, 2\)"):
        co_refine_pair_loss(Z1, Z2[:, :2])
    with pytest.raises(TypeError, match="float64.*float32"):
        co_refine_loss(Z1, Z2.float())
    with pytest.raises(ValueError, match="on cpu.*on meta"):
        co_refine_pair_loss(Z1, Z2.to("meta"))
    with pytest.raises(ValueError, match=r"at least one class, got \(1, 0\)"):
        co_refine_loss(Z1[:, :0], Z2[:, :0])
    for weight in (-1.0, math.nan):
        with pytest.raises(ValueError, match=f"disagree_weight must be at least 0, got {weight}"):
            co_refine_loss(Z1, Z2, disagree_weight=weight)
    with pytest.raises(ValueError, match="reduction must be none or mean, got 'sum'"):
        co_refine_pair_loss(Z1, Z2, reduction="sum")
    with pytest.raises(ValueError, match="peer_logits require a gradient"):
        co_refine_loss(Z1, Z2.clone().requires_grad_())


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        (torch.tensor([0, 3]), ValueError, r"labels must lie in \[0, 3\), got 3 at row 1"),
        (torch.tensor([-1, 0]), ValueError, r"labels must lie in \[0, 3\), got -1 at row 0"),
        (torch.tensor([0]), ValueError, r"labels must be \(2,\) for logits \(2, 3\), got \(1,\)"),
        (torch.tensor([[0], [1]]), ValueError, r"labels must be \(2,\).*got \(2, 1\)"),
        (torch.tensor([0.0, 1.0]), TypeError, "labels must be int64, got torch.float32"),
        (torch.zeros(2, dtype=torch.int64, device="meta"), ValueError, "labels are on meta, logits on cpu"),
    ],
)
def test_bad_labels_are_named(labels, error, words):
    with pytest.raises(error, match=words):
        label_refine_loss(torch.zeros(2, 3), labels, 0.5)


def test_logits_that_are_none_are_named():
    with pytest.raises(TypeError, match="logits must be floating point numbers, got torch.int64"):
        label_refine_loss(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, dtype=torch.int64), 0.5)
    with pytest.raises(ValueError, match=r"logits must be \(B, C\) with at least one class, got \(3,\)"):
        label_refine_loss(torch.zeros(3), torch.zeros(3, dtype=torch.int64), 0.5)
