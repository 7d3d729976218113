"""Cross-entropies from embeddings and a classifier equal the plain forms on their logits, whatever the chunks."""

import math

import pytest
import torch
from linear_help import CASES, classifier, exact_classifier, logits_of, outcome

from reid_core.losses import linear_cross_entropy as linear_cross_entropy_module
from reid_core.losses.balanced_softmax import balanced_softmax_loss
from reid_core.losses.linear_cross_entropy import (
    linear_balanced_softmax_loss,
    linear_cross_entropy,
    linear_evidence,
    linear_label_refine_loss,
)
from reid_core.losses.self_refine import label_refine_loss
from reid_core.losses.smoothed_cross_entropy import smoothed_cross_entropy
from reid_core.ops import why_missing

INF = torch.inf


def counts_of(logits):
    return torch.arange(logits.shape[1], device=logits.device) % 4  # some classes have no image


FORMS = {
    "plain": (linear_cross_entropy, smoothed_cross_entropy, ()),
    "smoothed": (linear_cross_entropy, smoothed_cross_entropy, (0.3,)),
    "all alike": (linear_cross_entropy, smoothed_cross_entropy, (1.0,)),
    "refined": (linear_label_refine_loss, label_refine_loss, (0.4,)),
    "balanced": (linear_balanced_softmax_loss, balanced_softmax_loss, (counts_of, 0.7, 0.2)),
}
form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())


BUILT = pytest.mark.skipif(bool(why_missing()), reason=f"no ops: {why_missing()}")


@pytest.fixture(autouse=True, params=["torch", pytest.param("native", marks=BUILT)])
def backend(request, monkeypatch):
    """Every test runs with plain PyTorch and with the compiled ops on the chunks."""
    monkeypatch.setattr(linear_cross_entropy_module, "use_native", lambda *_: request.param == "native")


def both(form, leaves, labels, **options):
    """[loss of the linear form], [loss of the plain form in plain PyTorch]."""
    linear, plain, rest = form
    logits = logits_of(leaves)
    rest = [value(logits) if callable(value) else value for value in rest]
    return [linear(*leaves, labels, *rest, **options)], [plain(logits, labels, *rest, backend="torch")]


def labels_of(leaves):
    rows, classes = len(leaves[0]), len(leaves[1])
    return (torch.arange(rows) * 5 + 2) % classes


@form
@pytest.mark.parametrize(("shape", "chunk"), CASES)
def test_equals_the_plain_form_for_any_chunk(form, shape, chunk):
    leaves = classifier(*shape)
    found, expected = both(form, leaves, labels_of(leaves), chunk=chunk)
    torch.testing.assert_close(outcome(found, leaves), outcome(expected, leaves))


def test_answers_by_hand():
    """Logits (2, 1, 0) with label 2: 2.407606, with a quarter for the prediction 1.907606; a third for all classes."""
    one, weight = torch.ones(1, 1, dtype=torch.float64), torch.tensor([[2.0], [1.0], [0.0]], dtype=torch.float64)
    labels = torch.tensor([2])
    mean = (0.407606 + 1.407606 + 2.407606) / 3
    for chunk in (1, 2, 3):
        given = (one, weight, None, labels)
        assert linear_cross_entropy(*given, chunk=chunk).item() == pytest.approx(2.407606, abs=1e-6)
        assert linear_label_refine_loss(*given, 0.25, chunk=chunk).item() == pytest.approx(1.907606, abs=1e-6)
        assert linear_label_refine_loss(*given, 1.0, chunk=chunk).item() == pytest.approx(0.407606, abs=1e-6)
        smoothed = linear_cross_entropy(*given, 1 / 3, chunk=chunk).item()
        assert smoothed == pytest.approx(2 / 3 * 2.407606 + mean / 3, abs=1e-6)
        # Counts e^0, e^1, e^2 make all logits 2.
        counts = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64).exp()
        balanced = linear_balanced_softmax_loss(*given, counts, chunk=chunk).item()
        assert balanced == pytest.approx(math.log(3), abs=1e-6)


@form
@pytest.mark.parametrize("bias", [True, False])
def test_gradcheck(form, bias):
    leaves = classifier(3, 5, 2, bias=bias)
    given = [t for t in leaves if t is not None]
    labels = labels_of(leaves)

    def loss(*tensors):
        return both(form, [*tensors, None][:3], labels, chunk=2)[0][0]

    assert torch.autograd.gradcheck(loss, tuple(given))


@form
@pytest.mark.parametrize("chunk", [9, 50, 751])
def test_float32_to_a_millionth_at_huge_logits(form, chunk):
    """Products of whole numbers are exact in float32, so all that is left is what the loss itself rounds."""
    leaves = exact_classifier(7, 751, 5)
    if form == FORMS["balanced"]:
        form = (*form[:2], (lambda logits: 1.0 + torch.arange(751) % 4, 0.7, 0.2))
    labels = labels_of(leaves)
    doubles = [t.detach().double().requires_grad_() for t in leaves]
    found = outcome(both(form, leaves, labels, chunk=chunk)[0], leaves)
    expected = outcome(both(form, doubles, labels)[1], doubles)
    assert ((found[0] - expected[0]).abs() <= 1e-6 * expected[0].abs().clamp_min(1)).all()
    for grad, exact in zip(found[1:], expected[1:]):
        torch.testing.assert_close(grad.double(), exact, rtol=1e-5, atol=1e-6 * 3.5 * 64 * 7)


@form
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_multiplies_in_it_and_computes_in_float32(form, dtype):
    leaves = classifier(4, 33, 3, dtype=dtype)
    found, expected = both(form, leaves, labels_of(leaves), chunk=8)
    assert found[0].dtype == torch.float32
    found, expected = outcome(found, leaves), outcome(expected, leaves)
    torch.testing.assert_close(found[0], expected[0])
    atol = (
        8 * torch.finfo(dtype).eps
    )  # an embedding's gradient is a sum of as many rounded products as there are chunks
    torch.testing.assert_close(found[1:], expected[1:], rtol=torch.finfo(dtype).eps * 2, atol=atol)


@form
@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_impossible_classes_nan_and_inf(form, chunk):
    leaves = [t.detach() for t in classifier(4, 8, 2)]
    labels = labels_of(leaves)
    for changed in ([0, 1, 2], [5, 6, 7], list(range(8))):
        tensors = [t.clone() for t in leaves]
        tensors[2][changed] = -INF
        found, expected = both(form, tensors, labels, chunk=chunk)
        torch.testing.assert_close(found, expected, equal_nan=True, msg=str(changed))
    for value in (math.nan, INF):
        tensors = [t.clone() for t in leaves]
        tensors[0][2, 0] = value
        found, expected = both(form, tensors, labels, chunk=chunk)
        torch.testing.assert_close(found, expected, equal_nan=True)
        assert found[0].isnan().tolist() == [False, False, True, False]


@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_the_prediction_is_the_lowest_class_of_a_tie_across_chunks(chunk):
    one = torch.ones(1, 1, dtype=torch.float64)
    weight = torch.tensor([[0.0], [1.0], [1.0], [0.5], [1.0]], dtype=torch.float64).requires_grad_()
    loss = linear_label_refine_loss(one, weight, None, torch.tensor([4]), 1.0, chunk=chunk)
    (grad,) = torch.autograd.grad(loss.sum(), weight)
    probs = weight.detach().softmax(0)
    torch.testing.assert_close(grad, probs - torch.tensor([[0.0], [1.0], [0.0], [0.0], [0.0]]).double())


@form
def test_strided_inputs_and_a_loss_that_is_not_the_end(form):
    leaves = [t.detach() for t in classifier(4, 9, 3)]
    strided = [t.t().contiguous().t() if t.dim() == 2 else torch.stack([t, t], 1)[:, 0] for t in leaves]
    labels = torch.stack([labels_of(leaves)] * 2, dim=1)[:, 0]
    strided, leaves = ([t.requires_grad_() for t in tensors] for tensors in (strided, leaves))
    found, expected = both(form, strided, labels, chunk=4)[0], both(form, leaves, labels)[1]
    torch.testing.assert_close(outcome([found[0].exp()], strided), outcome([expected[0].exp()], leaves))


@form
def test_frozen_tensors(form):
    leaves = classifier(3, 9, 2)
    leaves[1].requires_grad_(False)
    found, expected = both(form, leaves, labels_of(leaves), chunk=4)
    for one, other in zip(*(torch.autograd.grad(loss.sum(), [leaves[0], leaves[2]]) for (loss,) in (found, expected))):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        assert not both(form, leaves, labels_of(leaves), chunk=4)[0][0].requires_grad


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (torch.tensor([0, 9, 1]), ValueError, r"labels must lie in \[0, 9\), got 9 at row 1"),
        (torch.tensor([0, 1, -1]), ValueError, r"labels must lie in \[0, 9\), got -1 at row 2"),
        (torch.tensor([0, 1]), ValueError, r"labels must be \(3,\).*got \(2,\)"),
        (torch.tensor([0.0, 1.0, 2.0]), TypeError, "labels must be int64, got torch.float32"),
    ],
)
@form
def test_bad_labels_are_named(form, labels, error, message):
    linear, _, rest = form
    rest = [value(torch.zeros(3, 9)) if callable(value) else value for value in rest]
    rest = rest or [0.0]
    with pytest.raises(error, match=message):
        linear(torch.zeros(3, 2), torch.zeros(9, 2), None, labels, *rest)


def test_other_bad_arguments_are_named():
    given = torch.zeros(3, 2), torch.zeros(9, 2), None, torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"smoothing must lie in \[0, 1\], got 1.5"):
        linear_cross_entropy(*given, 1.5)
    with pytest.raises(ValueError, match=r"confidence must lie in \[0, 1\], got -0.5"):
        linear_label_refine_loss(*given, -0.5)
    with pytest.raises(ValueError, match=r"class_counts must be \(9,\), one a class, got \(8,\)"):
        linear_balanced_softmax_loss(*given, torch.ones(8))
    with pytest.raises(ValueError, match="tau must be finite and at least 0, got -1"):
        linear_balanced_softmax_loss(*given, torch.ones(9), -1.0)
    with pytest.raises(ValueError, match=r"\(B, D\) and the weight \(C, D\)"):
        linear_cross_entropy(torch.zeros(3, 4), *given[1:])


@pytest.mark.parametrize(("shape", "chunk"), CASES)
def test_evidence(shape, chunk):
    leaves = classifier(*shape)
    labels, logits = labels_of(leaves), logits_of(leaves).detach()
    given, prediction, confidence = linear_evidence(*leaves, labels, chunk=chunk)
    assert not given.requires_grad and prediction.dtype == torch.int64
    best = logits.softmax(1).max(1)
    torch.testing.assert_close(
        [given, prediction, confidence],
        [torch.nn.functional.cross_entropy(logits, labels, reduction="none"), best.indices, best.values],
    )


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@form
def test_on_a_gpu(form):
    leaves = classifier(3, 751, 6)
    there = [t.detach().cuda().requires_grad_() for t in leaves]
    found, expected = both(form, there, labels_of(leaves).cuda(), chunk=64)[0], both(form, leaves, labels_of(leaves))[1]
    torch.testing.assert_close([t.cpu() for t in outcome(found, there)], outcome(expected, leaves))
