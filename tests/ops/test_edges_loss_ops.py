"""NaN, infinities, ties, probabilities of 0, nothing at all."""

import math

import pytest
import torch
from loss_cases import DTYPES, LOSSES, assert_within_the_bars, built, losses_and_gradients, random_logits

pytestmark = built
INF = math.inf
AS_DEFINED = [name for name in LOSSES if name not in ("smoothed", "balanced_smoothed")]
"""With a share for all classes a loss is infinite where one logit is -inf."""


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("value", [math.nan, INF])
def test_what_is_not_a_number_stays_in_its_row(name, dtype, value):
    a, b = random_logits(5, 4200, dtype)
    expected = losses_and_gradients(name, a, b, "native")
    spoilt = a.clone()
    spoilt[2, 4150] = value
    found = losses_and_gradients(name, spoilt, b, "native")
    others = [0, 1, 3, 4]
    for one, other in zip(sum(found, []), sum(expected, [])):
        assert torch.equal(one[others], other[others])
    assert all(loss[2].isnan() for loss in found[0])


@pytest.mark.parametrize("name", LOSSES)
def test_rows_without_a_number(name):
    a, b = random_logits(3, 40)
    for value in (-INF, math.nan):
        a[1] = value
        losses, _ = losses_and_gradients(name, a, b, "native")
        for loss in losses:
            assert loss.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("name", AS_DEFINED)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_impossible_classes(name, dtype):
    """Logits of -inf, some of both networks, some where the other network knows better, whole chunks of them."""
    a, b = random_logits(6, 9000, dtype)
    a[::2, 3::7] = b[::2, 3::7] = -INF  # both
    a[4, :5000] = b[4, :5000] = -INF
    a[5, 1] = -INF  # the other thinks it possible: infinite, as the definition says
    assert_within_the_bars(name, a, b)


@pytest.mark.parametrize("name", AS_DEFINED)
def test_impossible_chunks_beside_very_low_logits(name):
    """A chunk without a possible class has no largest logit; 0 in its place is far above the others."""
    a, b = random_logits(4, 9000)
    a[:, :4096] = b[:, :4096] = -INF
    assert_within_the_bars(name, a - 500, b - 500)


def test_where_float32_has_no_smaller_number():
    """e^-103 is the last denormal number: a peer that believes in a class that much makes the loss infinite."""
    logits = torch.tensor([[0.0, -INF]])
    for gap, expected in ((95.0, INF), (103.0, INF), (105.0, 0.0), (INF, 0.0)):
        peer = torch.tensor([[0.0, -gap]])
        loss, _ = torch.ops.reid_core.co_refine(logits, peer, 1.0, 1.0, 1.0)
        assert loss.item() == expected, gap


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ties_go_to_the_lowest_class_across_chunks(dtype):
    a = torch.zeros(2, 9000, dtype=dtype)
    a[0, [4097, 8800]] = 2.0
    a[1, [100, 5000]] = 2.0
    _, _, statistics = torch.ops.reid_core.co_refine_pair(a, a.flip(1), 1.0, 1.0, 1.0)
    assert statistics[:, :, 2].tolist() == [[4097, 100], [199, 3999]]
    _, predictions = torch.ops.reid_core.peer_statistics(a, a.flip(1), torch.zeros(2, dtype=torch.int64))
    assert predictions.tolist() == [[4097, 100], [199, 3999]]
    assert torch.ops.reid_core.cross_entropy(a, predictions[0], None, 1.0, 1.0, 0.0)[1][:, 2].tolist() == [4097, 100]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_predictions_are_those_of_argmax(dtype):
    a, b = random_logits(7, 5000, dtype)
    a[1, [60, 4500]] = math.nan
    a[2] = -INF
    a[3, 17] = INF
    a[4] = math.nan
    losses, predictions = torch.ops.reid_core.peer_statistics(a, b, torch.zeros(7, dtype=torch.int64))
    assert torch.equal(predictions, torch.stack([a.argmax(1), b.argmax(1)]))
    assert losses[0].isnan().tolist() == [False, True, True, True, True, False, False]


@pytest.mark.parametrize("name", LOSSES)
def test_an_empty_batch(name):
    a, b = (logits.requires_grad_() for logits in random_logits(0, 12))
    for loss, logits in zip(LOSSES[name](a, b, backend="native"), (a, b)):
        assert loss.shape == (0,)
        loss.sum().backward()
        assert logits.grad.shape == (0, 12)


@pytest.mark.parametrize("name", LOSSES)
def test_one_class_teaches_nothing(name):
    losses, gradients = losses_and_gradients(name, *random_logits(4, 1), "native")
    for values in losses + gradients:
        torch.testing.assert_close(values, torch.zeros_like(values), rtol=0, atol=1e-6)
