"""The compiled losses against their definitions in float64: every type, sizes around those of vectors and chunks."""

import pytest
import torch
from loss_cases import CLASSES, DTYPES, LOSSES, assert_within_the_bars, built, losses_and_gradients, random_logits

pytestmark = built


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_losses_and_gradients_of_the_definition(name, dtype):
    for classes in CLASSES:
        for rows in (0, 1, 3, 8):
            assert_within_the_bars(name, *random_logits(rows, classes, dtype))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_apart_misaligned_and_columns_apart(name, dtype):
    for classes in (1, 33, 4099):
        a, b = random_logits(5, 2 * classes + 3, dtype)
        assert_within_the_bars(name, a[:, 1 : classes + 1], b[:, 3 : classes + 3])  # apart, not at a vector's start
        assert_within_the_bars(name, a[:, : 2 * classes : 2], b[:, 1 : classes + 1])  # every second class
        assert_within_the_bars(name, a[:, :classes].T.contiguous().T, b[:, :classes])
        assert_within_the_bars(name, a[:1, :classes].expand(5, classes), b[:, :classes])


@pytest.mark.parametrize("name", LOSSES)
def test_the_same_numbers_wherever_they_lie(name):
    a, b = random_logits(4, 751)
    whole = torch.empty(4, 800)
    expected = losses_and_gradients(name, a, b, "native")
    for start in range(8):
        view = whole[:, start : start + 751]
        view.copy_(a)
        found = losses_and_gradients(name, view, b, "native")
        for one, other in zip(sum(found, []), sum(expected, [])):
            assert torch.equal(one, other)
