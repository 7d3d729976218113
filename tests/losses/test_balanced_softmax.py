"""Balanced softmax: the shared example of the long-tail literature, the equation, and what the prior does."""

import math

import loss_backends
import pytest
import torch
from torch.nn import functional

from reid_core.losses.balanced_softmax import balanced_softmax_loss
from reid_core.losses.smoothed_cross_entropy import smoothed_cross_entropy

backend = loss_backends.backend

COUNTS = torch.tensor([100, 10, 1])
LOGITS = torch.tensor([[2, 1, 0], [0.5, 1.5, -1], [0, 0, 0], [1, -1, 2]], dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 0])


def slow(logits, labels, counts, tau, smoothing):
    """``softmax`` with each exponential weighted by its class's count to the power of tau."""
    values = []
    for row, label in zip(logits.tolist(), labels.tolist()):
        weighted = [math.exp(z) * (count or 1e-12) ** tau for z, count in zip(row, counts.tolist())]
        losses = [-math.log(value / sum(weighted)) for value in weighted]
        values.append((1 - smoothing) * losses[label] + smoothing * sum(losses) / len(losses))
    return torch.tensor(values, dtype=torch.float64)


def test_worked_example():
    loss = balanced_softmax_loss(LOGITS, LABELS, COUNTS)
    expected = torch.tensor([0.037432, 1.544793, 4.709530, 0.039909], dtype=torch.float64)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)


def test_by_hand():
    """Equal logits: the probabilities are the shares 100/111, 10/111 and 1/111 of the classes."""
    loss = balanced_softmax_loss(torch.zeros(3, 3, dtype=torch.float64), torch.arange(3), COUNTS)
    assert loss.tolist() == pytest.approx([math.log(111 / 100), math.log(11.1), math.log(111)], abs=1e-12)


@pytest.mark.parametrize("tau", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_equation(tau, smoothing):
    loss = balanced_softmax_loss(LOGITS, LABELS, COUNTS, tau, smoothing)
    torch.testing.assert_close(loss, slow(LOGITS, LABELS, COUNTS, tau, smoothing))


def test_without_strength_or_with_equal_counts_it_is_cross_entropy():
    plain = smoothed_cross_entropy(LOGITS, LABELS, 0.1)
    torch.testing.assert_close(balanced_softmax_loss(LOGITS, LABELS, COUNTS, 0.0, 0.1), plain)
    torch.testing.assert_close(balanced_softmax_loss(LOGITS, LABELS, torch.full((3,), 7), 1.0, 0.1), plain)


def test_shares_serve_as_counts():
    loss = balanced_softmax_loss(LOGITS, LABELS, COUNTS / COUNTS.sum())
    torch.testing.assert_close(loss, balanced_softmax_loss(LOGITS, LABELS, COUNTS))


def test_a_class_without_samples_is_no_nan():
    counts = torch.tensor([100, 10, 0])
    loss = balanced_softmax_loss(LOGITS.requires_grad_(), LABELS, counts)
    torch.testing.assert_close(loss, slow(LOGITS, LABELS, counts, 1.0, 0.0))
    loss.sum().backward()
    assert LOGITS.grad.isfinite().all()
    LOGITS.requires_grad_(False)


def test_the_gradient_is_the_shifted_probability_minus_the_label():
    logits = LOGITS.clone().requires_grad_()
    balanced_softmax_loss(logits, LABELS, COUNTS, 0.7).sum().backward()
    shifted = (LOGITS + 0.7 * COUNTS.double().log()).softmax(1)
    torch.testing.assert_close(logits.grad, shifted - functional.one_hot(LABELS, 3))
    assert torch.autograd.gradcheck(lambda z: balanced_softmax_loss(z, LABELS, COUNTS, 0.7, 0.1), (logits,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_prior_is_added_in_float32(dtype):
    logits = LOGITS.to(dtype)
    loss = balanced_softmax_loss(logits, LABELS, COUNTS)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), slow(logits.double(), LABELS, COUNTS, 1, 0), rtol=1e-6, atol=1e-6)


def test_nan_stays_in_its_row_and_nothing_is_a_loss_of_nothing():
    logits = LOGITS.clone()
    logits[1, 2] = torch.nan
    assert balanced_softmax_loss(logits, LABELS, COUNTS).isnan().tolist() == [False, True, False, False]
    assert balanced_softmax_loss(logits[:0], LABELS[:0], COUNTS).shape == (0,)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class_counts": COUNTS[:2]}, r"class_counts must be \(3,\), one a class, got \(2,\)"),
        ({"class_counts": torch.tensor([1, -2, 3])}, "class_counts must be finite and at least 0, got -2.0 at class 1"),
        ({"class_counts": torch.tensor([1, 2, math.nan])}, "got nan at class 2"),
        ({"class_counts": torch.tensor([math.inf, 2, 1])}, "got inf at class 0"),
        ({"class_counts": COUNTS.to("meta")}, "class_counts are on meta, logits on cpu"),
        ({"tau": -0.5}, "tau must be finite and at least 0, got -0.5"),
        ({"tau": math.nan}, "tau must be finite and at least 0, got nan"),
        ({"smoothing": 1.5}, r"smoothing must lie in \[0, 1\], got 1.5"),
        ({"labels": torch.tensor([0, 1, 3, 0])}, r"labels must lie in \[0, 3\), got 3 at row 2"),
    ],
)
def test_bad_arguments_are_named(change, words):
    good = {"logits": LOGITS, "labels": LABELS, "class_counts": COUNTS}
    with pytest.raises(ValueError, match=words):
        balanced_softmax_loss(**{**good, **change})
