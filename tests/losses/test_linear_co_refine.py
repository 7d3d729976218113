"""CORE's loss from embeddings and classifiers equals the plain form on their logits, whatever the chunks."""

import functools

import loss_backends
import pytest
import torch
from linear_help import CASES, classifier, exact_classifier, logits_of, outcome

from reid_core.losses import _linear
from reid_core.losses.co_refine import co_refine_pair_loss
from reid_core.losses.linear_co_refine import linear_co_refine_pair_loss
from reid_core.ops import why_missing

backend = loss_backends.backend

INF = torch.inf
BUILT = pytest.mark.skipif(bool(why_missing()), reason=f"no ops: {why_missing()}")


@pytest.fixture(params=["torch", pytest.param("native", marks=BUILT)])
def pair_loss(request):
    return functools.partial(linear_co_refine_pair_loss, backend=request.param)


def plain(leaves, *weights):
    return co_refine_pair_loss(logits_of(leaves[:3]), logits_of(leaves[3:]), *weights)


def pair(rows, classes, width, **options):
    return classifier(rows, classes, width, seed=1, **options) + classifier(rows, classes, width + 1, seed=2, **options)


@pytest.mark.parametrize(("shape", "chunk"), CASES)
def test_equals_the_plain_form_for_any_chunk(pair_loss, shape, chunk):
    leaves = pair(*shape)
    weights = (0.7, 1.5, 0.25)
    torch.testing.assert_close(
        outcome(pair_loss(*leaves, *weights, chunk=chunk), leaves),
        outcome(plain(leaves, *weights), leaves),
    )


def test_answer_by_hand(pair_loss):
    """The worked example: logits (2, 1, 0) and (1, 3, 0), made by classifiers whose weights are the logits."""
    one = torch.ones(1, 1, dtype=torch.float64)
    a, b = (torch.tensor([row], dtype=torch.float64).t() for row in ([2.0, 1.0, 0.0], [1.0, 3.0, 0.0]))
    for chunk in (1, 2, 3):
        loss_a, loss_b = pair_loss(one, a, None, one, b, None, chunk=chunk)
        assert loss_a.item() == pytest.approx(2.743027, abs=1e-6) and loss_b.item() == pytest.approx(3.940266, abs=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_gradcheck(pair_loss, bias):
    leaves = pair(3, 5, 2, bias=bias)
    given = [t for t in leaves if t is not None]

    def losses(*tensors):
        full = list(tensors)
        if not bias:
            full = [*full[:2], None, *full[2:], None]
        # Each loss's own network alone: the other teaches, and its gradient is not the derivative.
        return pair_loss(*full, 0.5, 1.0, 0.2, chunk=2)

    for k in (0, 1):
        half = len(given) // 2
        own = slice(k * half, (k + 1) * half)

        def loss(*tensors, k=k, own=own):
            full = [t.detach() for t in given]
            full[own] = tensors
            return losses(*full)[k]

        assert torch.autograd.gradcheck(loss, tuple(given[own]))


def test_each_loss_reaches_its_own_network_only(pair_loss):
    leaves = pair(3, 9, 2)
    for k in (0, 1):
        loss = pair_loss(*leaves, chunk=4)[k]
        grads = torch.autograd.grad(loss.sum(), leaves, allow_unused=True)
        for i, grad in enumerate(grads):
            assert (grad is not None and bool(grad.any())) == (i // 3 == k)


def test_frozen_tensors_get_no_gradient_and_cost_no_product(pair_loss, monkeypatch):
    leaves = pair(3, 9, 2)
    for i in (1, 2, 3, 4, 5):
        leaves[i].requires_grad_(False)
    made = []
    real = _linear._empty_gradient
    monkeypatch.setattr(_linear, "_empty_gradient", lambda *args: made.append(args) or real(*args))
    (loss, other) = pair_loss(*leaves, chunk=4)
    (grad,) = torch.autograd.grad(loss.sum() + other.sum(), [leaves[0]])
    (expected,) = torch.autograd.grad(plain(leaves)[0].sum(), [leaves[0]])
    torch.testing.assert_close(grad, expected)
    assert len(made) == 1


@pytest.mark.parametrize("chunk", [9, 50, 751])
def test_float32_to_a_millionth_at_huge_logits(pair_loss, chunk):
    """Products of whole numbers are exact in float32, so all that is left is what the loss itself rounds."""
    leaves = exact_classifier(7, 751, 5, seed=1) + exact_classifier(7, 751, 5, seed=2)
    assert logits_of(leaves[:3]).abs().max() > 3000
    found = outcome(pair_loss(*leaves, chunk=chunk), leaves)
    doubles = [t.detach().double().requires_grad_() for t in leaves]
    expected = outcome(plain(doubles), doubles)
    for loss, exact in zip(found[:2], expected[:2]):
        assert ((loss - exact).abs() <= 1e-6 * exact.abs().clamp_min(1)).all()
    # Gradients of logits are right to 1e-6; a row has a factor of at most 10.5, an embedding or weight is a sum of those.
    for grad, exact in zip(found[2:], expected[2:]):
        torch.testing.assert_close(grad.double(), exact, rtol=1e-5, atol=1e-6 * 10.5 * 64 * 8)


def test_a_hundred_thousand_classes_cost_no_digits(pair_loss):
    leaves = [t.detach() for t in exact_classifier(2, 100_000, 3, seed=1) + exact_classifier(2, 100_000, 3, seed=2)]
    small = [t / 256 for t in leaves]  # still exact, and thousands of classes count
    for given in (leaves, small):
        found = pair_loss(*given, chunk=4096)
        for loss, exact in zip(found, plain([t.double() for t in given])):
            assert ((loss - exact).abs() <= 1e-6 * exact.abs().clamp_min(1)).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_multiplies_in_it_and_computes_in_float32(pair_loss, dtype):
    leaves = pair(4, 33, 3, dtype=dtype)
    found, expected = outcome(pair_loss(*leaves, chunk=8), leaves), outcome(plain(leaves), leaves)
    assert found[0].dtype == torch.float32 and found[2].dtype == dtype
    torch.testing.assert_close(found[:2], expected[:2])
    atol = (
        8 * torch.finfo(dtype).eps
    )  # an embedding's gradient is a sum of as many rounded products as there are chunks
    torch.testing.assert_close(found[2:], expected[2:], rtol=torch.finfo(dtype).eps * 2, atol=atol)


def test_autocast_multiplies_as_linear_does(pair_loss):
    leaves = pair(4, 33, 3, dtype=torch.float32)
    leaves[0] = leaves[0].detach().bfloat16().requires_grad_()  # what a layer before would have given
    with torch.autocast("cpu", torch.bfloat16):
        losses, expected = pair_loss(*leaves, chunk=8), plain(leaves)
    found = outcome(losses, leaves)
    assert found[0].dtype == torch.float32 and [g.dtype for g in found[2:4]] == [torch.bfloat16, torch.float32]
    expected = outcome(expected, leaves)
    torch.testing.assert_close(found[:2], expected[:2])
    torch.testing.assert_close(found[2:], expected[2:], rtol=2e-2, atol=5e-2)  # sums of products rounded to bfloat16


@pytest.mark.parametrize("chunk", [1, 2, 3, 8])
def test_impossible_classes(pair_loss, chunk):
    """Logits -inf through the bias: counted only where the other network thinks the class possible at all."""
    leaves = [t.detach() for t in pair(4, 8, 2)]
    for biases in (
        {2: [0, 1, 2], 5: [0, 1, 2]},
        {2: [5, 6, 7], 5: [5, 6, 7]},
        {2: [3]},
        {5: [0, 1, 2]},
        {5: [0, 7]},
        {2: range(8)},
    ):
        tensors = [t.clone() for t in leaves]
        for i, classes in biases.items():
            tensors[i][list(classes)] = -INF
        torch.testing.assert_close(pair_loss(*tensors, chunk=chunk), plain(tensors), equal_nan=True, msg=str(biases))


@pytest.mark.parametrize("chunk", [1, 2, 4])
@pytest.mark.parametrize("gap", [-60.0, -200.0])
def test_an_impossible_class_counts_by_the_peers_probability_over_all_classes(pair_loss, chunk, gap):
    """Class 1 is ruled out by network a. Within its chunk the other finds it likely, over all classes e^gap: 0 in float32
    or not."""
    one = torch.ones(1, 1)
    a = torch.tensor([[0.5], [-INF], [0.25], [1.0]])
    b = torch.tensor([[gap], [gap], [0.0], [0.5]])
    found, expected = (
        pair_loss(one, a, None, one, b, None, chunk=chunk),
        co_refine_pair_loss(a.t(), b.t()),
    )
    assert bool(torch.isinf(expected[0])) == (gap == -60.0)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("chunk", [1, 3, 8])
@pytest.mark.parametrize("value", [torch.nan, INF])
def test_nan_and_inf_stay_in_their_row(pair_loss, value, chunk):
    leaves = pair(4, 8, 2)
    with torch.no_grad():
        leaves[0][2, 0] = value
    found, expected = pair_loss(*leaves, chunk=chunk), plain(leaves)
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert found[0].isnan().tolist() == found[1].isnan().tolist() == [False, False, True, False]


@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_ties_go_to_the_lowest_class_across_chunks(pair_loss, chunk):
    one = torch.ones(1, 1, dtype=torch.float64)
    a = torch.tensor([[0.0], [1.0], [1.0], [0.5], [1.0]], dtype=torch.float64)
    b = torch.tensor([[0.0], [0.0], [2.0], [0.0], [2.0]], dtype=torch.float64)
    found = pair_loss(one, a, None, one, b, None, 0.0, 1.0, 3.0, chunk=chunk)
    torch.testing.assert_close(found, co_refine_pair_loss(a.t(), b.t(), 0.0, 1.0, 3.0))


def test_strided_inputs(pair_loss):
    leaves = [t.detach() for t in pair(4, 9, 3)]
    strided = [t.t().contiguous().t() if t.dim() == 2 else torch.stack([t, t], dim=1)[:, 0] for t in leaves]
    strided = [t.requires_grad_() for t in strided]
    plain_leaves = [t.requires_grad_() for t in leaves]
    torch.testing.assert_close(
        outcome(pair_loss(*strided, chunk=4), strided), outcome(plain(plain_leaves), plain_leaves)
    )


def test_an_empty_batch_gives_empty_losses_and_zero_gradients(pair_loss):
    leaves = pair(0, 9, 2)
    losses = pair_loss(*leaves, chunk=4)
    assert [loss.shape for loss in losses] == [(0,), (0,)]
    grads = torch.autograd.grad(sum(loss.sum() for loss in losses), leaves)
    assert [grad.shape for grad in grads] == [t.shape for t in leaves] and not any(grad.any() for grad in grads)


def test_a_second_derivative_is_refused(pair_loss):
    leaves = pair(3, 9, 2)
    with pytest.raises(RuntimeError, match="has no second derivative"):
        torch.autograd.grad(pair_loss(*leaves)[0].sum(), leaves[:1], create_graph=True)


def test_weights_changed_between_forward_and_backward_are_noticed(pair_loss):
    leaves = pair(3, 9, 2)
    loss_a, loss_b = pair_loss(*leaves, chunk=4)
    loss_a.sum().backward(retain_graph=True)
    with torch.no_grad():
        leaves[1] += 1.0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss_b.sum().backward()


def test_works_inside_a_compiled_function(pair_loss):
    leaves = pair(3, 33, 2)

    def total(*tensors):
        loss_a, loss_b = pair_loss(*(t * 2 for t in tensors), chunk=8)
        return (loss_a + loss_b).sum() * 3

    compiled = torch.compile(total, backend="aot_eager")
    expected = torch.autograd.grad(total(*leaves), leaves)
    torch.testing.assert_close(torch.autograd.grad(compiled(*leaves), leaves), expected)


def test_it_never_holds_all_logits(pair_loss):
    """The largest tensor made has a chunk's size, or a gradient's."""
    leaves = pair(8, 5000, 2)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            found = function(*args, **(kwargs or {}))
            for tensor in found if isinstance(found, (tuple, list)) else [found]:
                if isinstance(tensor, torch.Tensor) and tensor._base is None:
                    largest = max(largest, tensor.numel())
            return found

    with Watch():
        loss_a, loss_b = pair_loss(*leaves, chunk=100)
        (loss_a.sum() + loss_b.sum()).backward()
    assert largest <= 5000 * 3


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({0: torch.zeros(3, 5)}, ValueError, r"embeddings \(3, 5\), weight \(9, 2\)"),
        ({1: torch.zeros(9)}, ValueError, r"\(B, D\) and the weight \(C, D\)"),
        ({2: torch.zeros(8)}, ValueError, r"the bias must be \(9,\).*got \(8,\)"),
        ({3: torch.zeros(4, 2)}, ValueError, "3 and 9 in the first, 4 and 9 in the second"),
        ({4: torch.zeros(8, 2), 5: torch.zeros(8)}, ValueError, "3 and 9 in the first, 3 and 8 in the second"),
        ({1: torch.zeros(0, 2), 2: None}, ValueError, r"at least one class, got embeddings \(3, 2\), weight \(0, 2\)"),
        ({4: torch.zeros(9, 2).double()}, TypeError, r"the weight \(torch.float64\) and embeddings \(torch.float32\)"),
        (
            {0: torch.zeros(3, 2, dtype=torch.int64)},
            TypeError,
            "embeddings must be floating point numbers, got torch.int64",
        ),
        ({3: torch.zeros(3, 2, device="meta")}, ValueError, r"\(on meta\).*\(on cpu\)"),
        ({6: -1.0}, ValueError, "soft_weight must be at least 0, got -1"),
        ({8: float("nan")}, ValueError, "disagree_weight must be at least 0, got nan"),
    ],
)
def test_bad_arguments_are_named(pair_loss, change, error, message):
    arguments = [torch.zeros(3, 2), torch.zeros(9, 2), torch.zeros(9)] * 2 + [1.0, 1.0, 1.0]
    for place, value in change.items():
        arguments[place] = value
    with pytest.raises(error, match=message):
        pair_loss(*arguments)


def test_a_chunk_of_no_class_is_refused(pair_loss):
    with pytest.raises(ValueError, match="chunk must be at least 1 class, got 0"):
        pair_loss(*[torch.zeros(3, 2), torch.zeros(9, 2), None] * 2, chunk=0)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_a_gpu(pair_loss):
    leaves = pair(3, 751, 6)
    there = [t.detach().cuda().requires_grad_() for t in leaves]
    found, expected = outcome(pair_loss(*there, chunk=64), there), outcome(plain(leaves), leaves)
    torch.testing.assert_close([t.cpu() for t in found], expected)
