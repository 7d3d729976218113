"""No bit depends on the number of threads, on the batch around a row, or on the run."""

import pytest
import torch
from loss_cases import LOSSES, built, losses_and_gradients, random_logits

pytestmark = built


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def same(one, other):
    return all(torch.equal(x, y) for x, y in zip(sum(one, []), sum(other, [])))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(1, 300_000), (3, 100_000), (60, 5000), (700, 100)])
def test_threads(name, shape, threads):
    """Few rows are shared in chunks; many are not."""
    a, b = random_logits(*shape)
    threads(1)
    expected = losses_and_gradients(name, a, b, "native")
    for number in (2, 3, 8):
        threads(number)
        assert same(losses_and_gradients(name, a, b, "native"), expected)
    assert same(losses_and_gradients(name, a, b, "native"), expected)


@pytest.mark.parametrize("name", ["co_refine_pair", "penalty"])
def test_a_row_alone_or_in_a_batch(name):
    a, b = random_logits(40, 9000)
    whole, _ = losses_and_gradients(name, a, b, "native")
    alone, _ = losses_and_gradients(name, a[7:8], b[7:8], "native")
    assert all(torch.equal(one, every[7:8]) for one, every in zip(alone, whole))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_pair_is_two_single_losses(dtype):
    a, b = random_logits(9, 5000, dtype)
    weights = 0.7, 1.0, 0.25
    loss_a, loss_b, _ = torch.ops.reid_core.co_refine_pair(a, b, *weights)
    assert torch.equal(loss_a, torch.ops.reid_core.co_refine(a, b, *weights)[0])
    assert torch.equal(loss_b, torch.ops.reid_core.co_refine(b, a, *weights)[0])
