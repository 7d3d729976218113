"""The two losses of a pair go backward together or on their own, in any order, whatever becomes of them."""

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
def computed_anew(monkeypatch):
    """The networks whose gradient was computed after the losses."""
    calls = []
    op = torch.ops.reid_core.co_refine_backward

    def count(*arguments, default=op.default):
        calls.append(arguments[4])
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


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_means_have_their_gradients_from_the_forward_pass(dtype, computed_anew):
    logits = [network.requires_grad_() for network in random_logits(5, 4200, dtype)]
    loss_a, loss_b = co_refine_pair_loss(*logits, *WEIGHTS, backend="native")
    (loss_a.mean() + loss_b.mean()).backward()
    assert computed_anew == []
    for network, expected in zip(logits, alone(logits, [torch.full((5,), 0.2).to(loss_a.dtype)] * 2)):
        torch.testing.assert_close(network.grad, expected)


@pytest.mark.parametrize("factor", [0.0, -3.0, 5.0, 1e20])
def test_losses_that_count_the_same_have_multiples_of_it(factor, computed_anew):
    logits = [network.requires_grad_() for network in random_logits(5, 60)]
    loss_a, loss_b = co_refine_pair_loss(*logits, *WEIGHTS, backend="native")
    (factor * (loss_a.sum() + loss_b.sum())).backward()
    assert computed_anew == []
    for network, expected in zip(logits, alone(logits, [torch.full((5,), factor)] * 2)):
        torch.testing.assert_close(network.grad, expected, rtol=1e-6, atol=1e-6 * abs(factor))


def test_a_rounded_gradient_is_not_multiplied(computed_anew):
    """Small numbers of float16 have few digits: those of the sum must not be those of the mean."""
    logits = [network.requires_grad_() for network in random_logits(600, 60, torch.float16)]
    for loss in co_refine_pair_loss(*logits, *WEIGHTS, backend="native"):
        loss.sum().backward()
    assert computed_anew == [0, 1]
    for network, expected in zip(logits, alone(logits, [torch.ones(600)] * 2)):
        assert torch.equal(network.grad, expected)


@pytest.mark.parametrize("classes", [800_000, 800_001])
def test_what_is_too_large_for_the_cache_has_the_same_gradient(classes, computed_anew):
    """It is written past the cache where rows begin at a multiple of a vector, and where they do not."""
    logits = [network.requires_grad_() for network in random_logits(3, classes)]
    sum(loss.mean() for loss in co_refine_pair_loss(*logits, *WEIGHTS, backend="native")).backward()
    assert computed_anew == []
    for network, expected in zip(logits, alone(logits, [torch.full((3,), 1 / 3)] * 2)):
        torch.testing.assert_close(network.grad, expected, rtol=1e-5, atol=1e-10)


def test_no_gradient_is_made_where_nobody_learns(monkeypatch):
    op = torch.ops.reid_core.co_refine_pair_gradients
    monkeypatch.setattr(op, "default", lambda *arguments: pytest.fail("a gradient was computed"))
    logits = [network.requires_grad_() for network in random_logits(5, 60)]
    with torch.no_grad():
        assert not co_refine_pair_loss(*logits, backend="native")[0].requires_grad


def test_logits_changed_in_place_are_noticed_where_they_are_needed():
    logits = [network.requires_grad_() for network in random_logits(5, 60)]
    inner = [2 * network for network in logits]
    losses = co_refine_pair_loss(*inner, *WEIGHTS, backend="native")
    with torch.no_grad():
        inner[1].add_(1)
    with pytest.raises(RuntimeError, match="changed in place"):
        losses[0].backward(torch.linspace(0, 1, 5))


def test_backward_twice_gives_twice_the_gradient():
    logits = [network.requires_grad_() for network in random_logits(5, 60)]
    losses = co_refine_pair_loss(*logits, *WEIGHTS, backend="native")
    for k in (0, 0, 1, 0, 1, 1):
        losses[k].mean().backward(retain_graph=True)
    for network, expected in zip(logits, alone(logits, [torch.full((5,), 0.2)] * 2)):
        torch.testing.assert_close(network.grad, 3 * expected)
    for network in logits:
        network.grad = None
    losses = co_refine_pair_loss(*logits, *WEIGHTS, backend="native")
    for _ in range(2):  # the ready gradient is multiplied where it lies: once
        losses[0].sum().backward(retain_graph=True)
    torch.testing.assert_close(logits[0].grad, 2 * alone(logits, [torch.ones(5)] * 2)[0])


def test_a_gradient_that_was_changed_since_is_not_trusted():
    logits = [network.requires_grad_() for network in random_logits(5, 60)]
    loss_a, loss_b = co_refine_pair_loss(*logits, *WEIGHTS, backend="native")
    grad = torch.ones(5)
    loss_a.backward(grad)
    grad.zero_()
    loss_b.backward(grad)
    assert logits[0].grad.any() and not logits[1].grad.any()


@pytest.mark.parametrize("learner", [0, 1])
def test_where_one_network_learns_nothing_is_computed_for_the_other(learner, computed_anew):
    logits = random_logits(5, 60)
    logits[learner].requires_grad_()
    losses = co_refine_pair_loss(*logits, *WEIGHTS, backend="native")
    assert [loss.requires_grad for loss in losses] == [learner == 0, learner == 1]
    losses[learner].mean().backward()
    assert computed_anew == [learner]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("learners", [(0, 1), (0,), (1,), ()])
def test_the_means_are_those_of_the_losses(dtype, learners):
    logits = random_logits(5, 4200, dtype)
    for k in learners:
        logits[k].requires_grad_()
    losses = co_refine_pair_loss(*logits, *WEIGHTS, backend="native")
    means = co_refine_pair_loss(*logits, *WEIGHTS, reduction="mean", backend="native")
    for loss, mean in zip(losses, means):
        assert mean.shape == () and mean.requires_grad == loss.requires_grad
        torch.testing.assert_close(mean, loss.mean())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("factor", [1.0, 0.0, -3.0, 1e4])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_mean_goes_backward_with_any_factor(dtype, factor, order):
    logits = [network.requires_grad_() for network in random_logits(5, 60, dtype)]
    means = co_refine_pair_loss(*logits, *WEIGHTS, reduction="mean", backend="native")
    for k in order:
        (factor * means[k]).backward()
        if k == order[0]:
            assert logits[order[1]].grad is None
    for network, expected in zip(logits, alone(logits, [torch.full((5,), factor / 5, dtype=means[0].dtype)] * 2)):
        rounding = 1e-6 if dtype in (torch.float32, torch.float64) else torch.finfo(dtype).eps
        torch.testing.assert_close(network.grad, expected, rtol=rounding, atol=1e-7 * abs(factor))


def test_means_go_backward_twice(computed_anew):
    logits = [network.requires_grad_() for network in random_logits(5, 60)]
    means = co_refine_pair_loss(*logits, *WEIGHTS, reduction="mean", backend="native")
    for k in (0, 0, 1, 0, 1, 1):
        means[k].backward(retain_graph=True)
    assert computed_anew == [0, 0, 1, 1]
    for network, expected in zip(logits, alone(logits, [torch.full((5,), 0.2)] * 2)):
        torch.testing.assert_close(network.grad, 3 * expected)


def test_the_mean_of_no_sample_is_that_of_torch():
    logits = [network.requires_grad_() for network in random_logits(0, 60)]
    means = co_refine_pair_loss(*logits, *WEIGHTS, reduction="mean", backend="native")
    assert all(mean.isnan() for mean in means)
    torch.autograd.backward(means)
    assert all(network.grad.shape == (0, 60) for network in logits)


def test_means_in_compiled_code():
    def total(a, b):
        return sum(co_refine_pair_loss(a, b, *WEIGHTS, reduction="mean", backend="native"))

    torch._dynamo.reset()
    compiled = torch.compile(total, fullgraph=True, backend="aot_eager")
    found = []
    for function in (total, compiled):
        logits = [network.requires_grad_() for network in random_logits(5, 60)]
        function(*logits).backward()
        found.append([network.grad for network in logits])
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)
