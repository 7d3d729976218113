"""The two losses of a pair go backward on their own, in any order, and share work where they can: never their gradients."""

import pytest
import torch
from loss_cases import DTYPES, built, random_logits

from reid_core.losses.co_refine import co_refine_pair_loss

pytestmark = built
WEIGHTS = 0.7, 1.0, 0.25


def alone(logits, grads):
    """Each gradient by an op of its own."""
    ops = torch.ops.reid_core
    a, b = (network.detach() for network in logits)
    statistics = ops.co_refine_pair(a, b, *WEIGHTS)[2]
    return [
        ops.co_refine_backward(grads[0], a, b, statistics, 0, *WEIGHTS),
        ops.co_refine_backward(grads[1], b, a, statistics, 1, *WEIGHTS),
    ]


@pytest.fixture
def both_at_once(monkeypatch):
    """How often gradients were computed together, and alone."""
    calls = []
    for name in ("co_refine_backward", "co_refine_pair_backward"):
        op = getattr(torch.ops.reid_core, name)

        def count(*arguments, name=name, default=op.default):
            calls.append(name)
            return default(*arguments)

        monkeypatch.setattr(op, "default", count)
    return calls


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("equal", [True, False])
def test_one_after_the_other(dtype, order, equal):
    """As training does; with equal gradients of the losses, and with others. The same bits."""
    logits = [network.requires_grad_() for network in random_logits(5, 4200, dtype)]
    losses = co_refine_pair_loss(*logits, *WEIGHTS, backend="native")
    grads = [torch.linspace(0.1, 1, 5).to(losses[0].dtype)] * 2
    if not equal:
        grads[1] = grads[1].flip(0)
    for k in order:
        losses[k].backward(grads[k])
        if k == order[0]:
            assert logits[order[1]].grad is None
    for network, expected in zip(logits, alone(logits, grads)):
        assert torch.equal(network.grad, expected)


def test_means_share_their_exponentials(both_at_once):
    logits = [network.requires_grad_() for network in random_logits(5, 60)]
    loss_a, loss_b = co_refine_pair_loss(*logits, *WEIGHTS, backend="native")
    (loss_a.mean() + loss_b.mean()).backward()
    assert both_at_once == ["co_refine_pair_backward"]
    for network, expected in zip(logits, alone(logits, [torch.full((5,), 0.2)] * 2)):
        assert torch.equal(network.grad, expected)


def test_backward_twice_gives_twice_the_gradient():
    logits = [network.requires_grad_() for network in random_logits(5, 60)]
    losses = co_refine_pair_loss(*logits, *WEIGHTS, backend="native")
    for k in (0, 0, 1, 0, 1, 1):
        losses[k].mean().backward(retain_graph=True)
    for network, expected in zip(logits, alone(logits, [torch.full((5,), 0.2)] * 2)):
        torch.testing.assert_close(network.grad, 3 * expected)


def test_a_gradient_that_was_changed_since_is_not_trusted():
    logits = [network.requires_grad_() for network in random_logits(5, 60)]
    loss_a, loss_b = co_refine_pair_loss(*logits, *WEIGHTS, backend="native")
    grad = torch.ones(5)
    loss_a.backward(grad)
    grad.zero_()
    loss_b.backward(grad)
    assert logits[0].grad.any() and not logits[1].grad.any()


@pytest.mark.parametrize("learner", [0, 1])
def test_where_one_network_learns_nothing_is_computed_for_the_other(learner, both_at_once):
    logits = random_logits(5, 60)
    logits[learner].requires_grad_()
    losses = co_refine_pair_loss(*logits, *WEIGHTS, backend="native")
    assert [loss.requires_grad for loss in losses] == [learner == 0, learner == 1]
    losses[learner].mean().backward()
    assert both_at_once == ["co_refine_backward"]
