"""Shape rules, gradients, torch.compile, and what is kept between forward and backward."""

import pytest
import torch
from loss_cases import LOSSES, built, labels_of, losses_and_gradients, random_logits, targets_of

from reid_core.ops import _co_refine, _library

pytestmark = built


def samples():
    a, b = random_logits(3, 33)
    for kind in (torch.float32, torch.bfloat16, torch.float64):
        logits, peer, grad = a.to(kind), b.to(kind), torch.rand(3).to(torch.promote_types(kind, torch.float32))
        labels, weights, shift = labels_of(a), (1.0, 1.0, 0.5), torch.rand(33).to(grad.dtype)
        ops = torch.ops.reid_core
        yield ops.co_refine_pair, (logits, peer, *weights)
        yield ops.co_refine, (logits, peer, *weights)
        statistics = ops.co_refine_pair(logits, peer, *weights)[2]
        yield ops.co_refine_backward, (grad, logits, peer, statistics, 1, *weights)
        yield ops.co_refine_pair_gradients, (logits, peer, logits.clone(), logits.clone(), *weights)
        yield ops.cross_entropy, (logits, labels, None, 1.0, 0.0, 0.0)
        yield ops.cross_entropy, (logits, labels, shift, 0.5, 0.5, 0.1)
        statistics = ops.cross_entropy(logits, labels, shift, 0.5, 0.5, 0.1)[1]
        yield ops.cross_entropy_backward, (grad, logits, labels, shift, statistics, 0.5, 0.5, 0.1)
        targets = targets_of(logits)
        yield ops.soft_target_cross_entropy, (logits, targets)
        yield ops.soft_target_cross_entropy, (logits, targets.to(grad.dtype))
        statistics = ops.soft_target_cross_entropy(logits, targets)[1]
        yield ops.soft_target_cross_entropy_backward, (grad, logits, targets, statistics)
        yield ops.confidence_penalty, (logits,)
        yield ops.confidence_penalty_backward, (grad, logits, ops.confidence_penalty(logits)[1])
        yield ops.peer_statistics, (logits, peer, labels)


def test_a_library_of_an_earlier_version_is_not_used(monkeypatch):
    monkeypatch.setitem(_co_refine.SHAPES, "co_refine_of_tomorrow", None)
    reason = _library._load.__wrapped__()
    assert "built from an earlier version, without co_refine_of_tomorrow" in reason and "build_ext --inplace" in reason


def test_opcheck():
    for op, arguments in samples():
        torch.library.opcheck(op.default, arguments)


@pytest.mark.parametrize("name", LOSSES)
def test_gradcheck(name):
    a, b = random_logits(3, 9, torch.float64)
    for k in range(len(LOSSES[name](a, b))):

        def loss(logits, k=k):
            pair = (logits, b) if k == 0 else (a, logits)
            return LOSSES[name](*pair, backend="native")[k]

        assert torch.autograd.gradcheck(loss, ((a, b)[k].clone().requires_grad_(),))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled(name, dynamic):
    """One graph, the same losses and gradients."""
    torch._dynamo.reset()

    def total(a, b):
        return sum(loss.mean() for loss in LOSSES[name](a, b, backend="native"))

    compiled = torch.compile(total, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for shape in ((4, 50), (6, 70)):
        a, b = random_logits(*shape)
        found = []
        for function in (total, compiled):
            pair = [logits.clone().requires_grad_() for logits in (a, b)]
            value = function(*pair)
            value.backward()
            found.append([value.detach(), *(logits.grad for logits in pair if logits.grad is not None)])
        for one, other in zip(*found):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", LOSSES)
def test_no_second_derivative_is_made_up(name):
    a, b = (logits.requires_grad_() for logits in random_logits(3, 9))
    loss = LOSSES[name](a, b, backend="native")[0].sum()
    with pytest.raises(RuntimeError, match='no second derivative where it is compiled: backend="torch" has'):
        torch.autograd.grad(loss, a, create_graph=True)


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_as_large_as_the_logits_is_kept_but_the_logits(name):
    a, b = (logits.requires_grad_() for logits in random_logits(8, 1000))
    kept = []
    targets = targets_of(b)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        LOSSES[name](a, b, backend="native")
    given = {a.data_ptr(), b.data_ptr()}
    large = [tensor for tensor in kept if tensor.numel() >= 8 * 1000 and tensor.data_ptr() not in given]
    # Targets are made anew by the case itself.
    assert all(name == "soft_target" and torch.equal(tensor, targets) for tensor in large)


@pytest.mark.parametrize("name", LOSSES)
def test_without_a_gradient(name):
    a, b = random_logits(3, 40)
    expected, _ = losses_and_gradients(name, a, b, "native")
    for loss, other in zip(LOSSES[name](a, b, backend="native"), expected):
        assert not loss.requires_grad
        assert torch.equal(loss, other)
    with torch.no_grad():
        assert not LOSSES[name](a.requires_grad_(), b, backend="native")[0].requires_grad


def test_logits_changed_before_the_backward_are_an_error():
    a, b = random_logits(3, 40)
    a.requires_grad_()
    for name in LOSSES:
        logits = a * 1
        loss = LOSSES[name](logits, b, backend="native")[0]
        with torch.no_grad():
            logits.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.sum().backward()
