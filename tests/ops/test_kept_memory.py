"""Memory of large gradients is used again, and never while anybody still holds it."""

import pytest
import torch

from reid_core.ops import _kept_memory
from reid_core.ops._kept_memory import LARGE, empty_like


@pytest.fixture(autouse=True)
def nothing_kept():
    _kept_memory._free.clear()
    yield
    _kept_memory._free.clear()


def large(rows=4, dtype=torch.float32, more=0):
    classes = LARGE // 4 // rows + more
    return torch.empty(1, dtype=dtype).expand(rows, classes * 4 // dtype.itemsize)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_large_tensor_has_the_memory_of_one_that_is_gone(dtype):
    like = large(dtype=dtype)
    first = empty_like(like)
    assert first.shape == like.shape and first.dtype == dtype and first.is_contiguous()
    assert first.data_ptr() % 64 == 0
    first.fill_(3)
    place = first.data_ptr()
    del first
    assert empty_like(like).data_ptr() == place


def test_memory_that_is_in_use_is_left_alone():
    like = large()
    first = empty_like(like).fill_(1)
    part = first[1:2, 5:9]
    del first
    others = [empty_like(like).fill_(2) for _ in range(3)]
    assert (part == 1).all()
    assert len({tensor.data_ptr() for tensor in others}) == 3


def test_autograd_holds_it_as_long_as_a_gradient_does():
    logits = large().clone().requires_grad_()

    class Copy(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.made = empty_like(x).fill_(7)
            return x.sum()

        @staticmethod
        def backward(ctx, grad):
            made, ctx.made = ctx.made, None
            return made

    Copy.apply(logits).backward()
    assert _kept_memory._free == []
    place = logits.grad.data_ptr()
    empty_like(logits).fill_(1)
    assert (logits.grad == 7).all()
    _kept_memory._free.clear()
    logits.grad = None
    assert empty_like(logits).data_ptr() == place


def test_no_more_than_two_wait_and_other_sizes_go():
    made = [empty_like(large()) for _ in range(3)]
    made.clear()
    assert len(_kept_memory._free) == 2
    empty_like(large(more=1))
    assert [len(memory) for memory in _kept_memory._free] == [LARGE + 16 + 64]


def test_small_tensors_are_none_of_its_business():
    like = torch.empty(3, 5).t()
    made = empty_like(like)
    assert made.shape == (5, 3) and made.is_contiguous()
    del made
    assert _kept_memory._free == []
