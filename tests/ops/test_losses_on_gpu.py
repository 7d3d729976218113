"""The compiled losses on a GPU: what the other tests ask of them on the CPU, once more. None of this runs without a GPU."""

import math

import pytest
import torch
from loss_cases import (
    CLASSES,
    DTYPES,
    LOSSES,
    assert_within_the_bars,
    built,
    labels_of,
    losses_and_gradients,
    random_logits,
)  # fmt: skip

from reid_core import ops
from reid_core.losses.peer_selection import peer_selection
from reid_core.losses.smoothed_cross_entropy import smoothed_cross_entropy

DEVICE = "cuda"
PART = 8192
"""Classes of a block at most."""

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
    pytest.mark.skipif(bool(ops.why_missing("cuda")), reason=f"no ops: {ops.why_missing('cuda')}"),
    built,
]


@pytest.fixture(autouse=True)
def tensors_are_made_there():
    """Labels, targets and gradients of the cases, too."""
    with torch.device(DEVICE):
        yield


def logits_there(*arguments, **options):
    with torch.device("cpu"):
        pair = random_logits(*arguments, **options)
    return [logits.to(DEVICE) for logits in pair]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_losses_and_gradients_of_the_definition(name, dtype):
    for classes in (*CLASSES, PART + 1, 3 * PART + 4):
        for rows in (0, 1, 3, 300):
            assert_within_the_bars(name, *logits_there(rows, classes, dtype))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_anywhere(name, dtype):
    for classes in (1, 33, 4099):
        a, b = logits_there(5, 2 * classes + 3, dtype)
        assert_within_the_bars(name, a[:, 1 : classes + 1], b[:, 3 : classes + 3])
        assert_within_the_bars(name, a[:, : 2 * classes : 2], b[:, 1 : classes + 1])
        assert_within_the_bars(name, a[:1, :classes].expand(5, classes), b[:, :classes])
        expected = losses_and_gradients(name, a[:, :classes].contiguous(), b[:, :classes].contiguous(), "native")
        found = losses_and_gradients(name, a[:, :classes], b[:, :classes], "native")
        for one, other in zip(sum(found, []), sum(expected, [])):
            assert torch.equal(one, other)


@pytest.mark.parametrize("name", LOSSES)
def test_digits(name):
    for scale in (1e-3, 30.0, 1e4):
        assert_within_the_bars(name, *logits_there(6, 3000, scale=scale))
    for scale in (0.0, 3.0):
        assert_within_the_bars(name, *logits_there(2, 100_000, scale=scale))
    a = torch.full((2, 100_000), 0.3)
    a[0, 70_000] += 11.3
    assert_within_the_bars(name, a, a.flip(1))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_stays_in_its_row(name, value):
    a, b = logits_there(5, 2 * PART)
    expected = losses_and_gradients(name, a, b, "native")
    spoilt = a.clone()
    spoilt[2, PART + 5] = value
    found = losses_and_gradients(name, spoilt, b, "native")
    for one, other in zip(sum(found, []), sum(expected, [])):
        assert torch.equal(one[[0, 1, 3, 4]], other[[0, 1, 3, 4]])
    assert all(loss[2].isnan() for loss in found[0])


@pytest.mark.parametrize("name", LOSSES)
def test_the_same_bits_every_time(name):
    a, b = logits_there(64, 20_000)
    first, again = (losses_and_gradients(name, a, b, "native") for _ in range(2))
    for one, other in zip(sum(first, []), sum(again, [])):
        assert torch.equal(one, other)


def test_registration():
    a, b = logits_there(3, 33)
    labels, shift, grad = labels_of(a), torch.rand(33), torch.rand(3)
    library = torch.ops.reid_core
    calls = [
        (library.co_refine_pair, (a, b, 1.0, 1.0, 0.5)),
        (library.co_refine, (a, b, 1.0, 1.0, 0.5)),
        (library.cross_entropy, (a, labels, shift, 0.5, 0.5, 0.1)),
        (library.soft_target_cross_entropy, (a, b.softmax(1))),
        (library.confidence_penalty, (a,)),
        (library.confidence_penalty_backward, (grad, a, library.confidence_penalty(a)[1])),
        (library.peer_statistics, (a, b, labels)),
    ]
    for op, arguments in calls:
        torch.library.opcheck(op.default, arguments)


@pytest.mark.parametrize("name", LOSSES)
def test_gradcheck(name):
    a, b = logits_there(3, 9, torch.float64)
    assert torch.autograd.gradcheck(lambda z: LOSSES[name](z, b, backend="native")[0], (a.requires_grad_(),))


def test_peer_selection():
    a, b = logits_there(200, 751)
    native, plain = (peer_selection(a, b, labels_of(a), 0.2, backend=way) for way in ("native", "torch"))
    assert torch.equal(native.predictions, plain.predictions) and torch.equal(native.agreement, plain.agreement)
    assert torch.equal(native.picks.sum(1), plain.picks.sum(1))
    torch.testing.assert_close(native.losses, plain.losses)


def test_another_stream():
    """Work goes to the current stream: what was queued there before comes first."""
    a, b = logits_there(64, 20_000)
    expected, _ = losses_and_gradients("co_refine_pair", a * 2, b, "native")
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(50_000_000)
        found, _ = losses_and_gradients("co_refine_pair", a * 2, b, "native")
    torch.cuda.synchronize()
    for one, other in zip(found, expected):
        assert torch.equal(one, other)


def test_a_wrong_label_is_nan_or_an_error_with_the_flag(monkeypatch):
    a, _ = logits_there(5, 33)
    labels = labels_of(a)
    labels[3] = 33
    loss = smoothed_cross_entropy(a, labels, backend="native")
    assert loss.isnan().tolist() == [row == 3 for row in range(5)]
    monkeypatch.setenv("REID_CORE_CHECK_LABELS", "1")
    with pytest.raises(RuntimeError, match=r"labels must lie in \[0, 33\), got 33 at row 3"):
        smoothed_cross_entropy(a, labels, backend="native")
    assert smoothed_cross_entropy(a, labels_of(a), backend="native").isfinite().all()
