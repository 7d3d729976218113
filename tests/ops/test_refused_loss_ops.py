"""What does not fit is refused before any work, with the sizes."""

import math

import pytest
import torch
from loss_cases import built

pytestmark = built
OPS = torch.ops.reid_core
Z = torch.zeros(2, 3)
LABELS = torch.tensor([0, 2])
GRAD = torch.ones(2)
PAIR = (Z, Z, 1.0, 1.0, 1.0)
GIVEN = (Z, LABELS, None, 1.0, 0.0, 0.0)


def changed(arguments, place, value):
    return (*arguments[:place], value, *arguments[place + 1 :])


PAIRS = [
    (0, torch.zeros(2), r"logits must be \(B, C\), got \(2\)"),
    (0, torch.zeros(2, 0), r"must have at least one class, got \(2, 0\)"),
    (1, torch.zeros(2, 4), r"must agree in shape, got \(2, 3\) and \(2, 4\)"),
    (1, torch.zeros(3, 3), r"must agree in shape, got \(2, 3\) and \(3, 3\)"),
    (1, torch.zeros(2, 3).double(), "must have one type, got Float and Double"),
    (2, -1.0, "soft_weight must be at least 0, got -1"),
    (3, -0.5, "agree_weight must be at least 0, got -0.5"),
    (4, float("nan"), "disagree_weight must be at least 0, got nan"),
]


@pytest.mark.parametrize("name", ["co_refine", "co_refine_pair"])
@pytest.mark.parametrize(("place", "value", "words"), PAIRS)
def test_pairs(name, place, value, words):
    op = getattr(OPS, name)
    op(*PAIR)
    with pytest.raises(RuntimeError, match=f"{name}: .*{words}"):
        op(*changed(PAIR, place, value))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_types(dtype):
    logits = Z.to(dtype)
    with pytest.raises(RuntimeError, match="logits must be float32, float64, bfloat16 or float16, got"):
        OPS.co_refine_pair(logits, logits, 1.0, 1.0, 1.0)
    with pytest.raises(RuntimeError, match="confidence_penalty: logits must be float32, float64"):
        OPS.confidence_penalty(logits)


LABELLED = [
    (0, torch.zeros(2, 3, 1), r"logits must be \(B, C\), got \(2, 3, 1\)"),
    (1, torch.tensor([0]), r"labels must be \(2,\) for logits \(2, 3\), got \(1\)"),
    (1, torch.tensor([0.0, 1.0]), "labels must be Long, got Float"),
    (1, torch.tensor([0, 3]), r"labels must lie in \[0, 3\), got 3 at row 1; relabel pids first"),
    (1, torch.tensor([-1, 3]), r"labels must lie in \[0, 3\), got -1 at row 0"),
    (2, torch.zeros(4), r"the shift must be \(3,\) and contiguous, got \(4\)"),
    (2, torch.zeros(3).double(), "the shift must be Float, got Double"),
    (3, -1.0, "given_weight must be at least 0"),
    (4, -1.0, "own_weight must be at least 0"),
    (5, -1.0, "smoothing must be at least 0"),
]


@pytest.mark.parametrize(("place", "value", "words"), LABELLED)
def test_cross_entropy(place, value, words):
    OPS.cross_entropy(*GIVEN)
    with pytest.raises(RuntimeError, match=f"cross_entropy: .*{words}"):
        OPS.cross_entropy(*changed(GIVEN, place, value))


def test_targets():
    for targets, words in (
        (torch.zeros(2, 4), r"logits \(2, 3\) and targets \(2, 4\) must agree in shape"),
        (torch.zeros(2, 3).half(), "targets must have the type of the logits or of the loss, got Half"),
    ):
        with pytest.raises(RuntimeError, match=f"soft_target_cross_entropy: .*{words}"):
            OPS.soft_target_cross_entropy(Z, targets)


def test_peers():
    for place, value, words in (
        (1, torch.zeros(2, 4), r"got \(2, 3\) and \(2, 4\)"),
        (2, torch.tensor([1, 5]), r"labels must lie in \[0, 3\), got 5 at row 1"),
    ):
        with pytest.raises(RuntimeError, match=f"peer_statistics: .*{words}"):
            OPS.peer_statistics(*changed((Z, Z, LABELS), place, value))


def test_gradients_to_be_filled_in():
    good = (Z, Z, torch.zeros(2, 3), torch.zeros(2, 3), 1.0, 1.0, 1.0)
    OPS.co_refine_pair_gradients(*good)
    for place, name in ((2, "gradient_a"), (3, "gradient_b")):
        for value, words in (
            (torch.zeros(2, 4), r"must be contiguous and \(2, 3\), got \(2, 4\)"),
            (torch.zeros(3, 2).t(), r"must be contiguous and \(2, 3\)"),
            (torch.zeros(2, 3).double(), "must be Float, got Double"),
        ):
            with pytest.raises(RuntimeError, match=f"co_refine_pair_gradients: {name} {words}"):
                OPS.co_refine_pair_gradients(*changed(good, place, value))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_multiples_of_a_mean(kind):
    for rows in (1, 3, 49, 300):
        loss = torch.zeros(rows, dtype=kind, requires_grad=True)
        loss.mean().backward()
        assert OPS.mean_scale(loss.grad) == 1.0
        assert OPS.mean_scale(torch.ones(1, dtype=kind).expand(rows)) == pytest.approx(rows)
    for uneven in (torch.tensor([1.0, 1.0, 2.0]), torch.tensor([1.0, math.nan])):
        assert math.isnan(OPS.mean_scale(uneven.to(kind)))
    assert OPS.mean_scale(torch.zeros(0, dtype=kind)) == 1.0
    with pytest.raises(RuntimeError, match=r"mean_scale: grad must be \(B,\) on the CPU, got \(2, 1\)"):
        OPS.mean_scale(torch.zeros(2, 1, dtype=kind))


def test_backward():
    """A backward that is called by hand must not read beyond what it is given."""
    pair = torch.zeros(2, 2, 3, dtype=torch.float64)
    own = torch.zeros(2, 3, dtype=torch.float64)
    for op, good in (
        (OPS.co_refine_backward, (GRAD, Z, Z, pair, 0, 1.0, 1.0, 1.0)),
        (OPS.cross_entropy_backward, (GRAD, Z, LABELS, None, own, 1.0, 0.0, 0.0)),
        (OPS.soft_target_cross_entropy_backward, (GRAD, Z, Z, own)),
        (OPS.confidence_penalty_backward, (GRAD, Z, own)),
    ):
        place = next(i for i, value in enumerate(good) if value is pair or value is own)
        op(*good)
        for where, value, words in (
            (0, torch.ones(3), r"grad must be \(2,\) for logits \(2, 3\), got \(3\)"),
            (0, torch.ones(2).double(), "grad must be Float, got Double"),
            (place, torch.zeros(5, dtype=torch.float64), "statistics for logits"),
            (place, good[place].float(), "statistics must be Double, got Float"),
        ):
            with pytest.raises(RuntimeError, match=words):
                op(*changed(good, where, value))
    with pytest.raises(RuntimeError, match="learner must be 0 or 1, got 2"):
        OPS.co_refine_backward(GRAD, Z, Z, pair, 2, 1.0, 1.0, 1.0)


def test_classes_in_statistics_are_not_trusted():
    """A class that lies nowhere is no place to write to."""
    for place in (-1.0, -1e300, 3.0, 7e18, float("nan")):
        own = torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, place]], dtype=torch.float64)
        words = rf"statistics name class {place:g}, classes lie in \[0, 3\)".replace("e+", r"e\+")
        with pytest.raises(RuntimeError, match=words):
            OPS.cross_entropy_backward(GRAD, Z, LABELS, torch.zeros(3), own, 1.0, 1.0, 0.0)
        if place == -1.0:
            continue
        with pytest.raises(RuntimeError, match=words):
            OPS.co_refine_backward(GRAD, Z, Z, torch.stack([own, own]), 0, 1.0, 1.0, 1.0)


def test_a_negative_class_is_not_among_these():
    """Logits of some of the classes: a prediction elsewhere is subtracted nowhere."""
    inside, outside = (torch.tensor([[0.0, 1.0, place]] * 2, dtype=torch.float64) for place in (1.0, -4.0))
    found, expected = (
        OPS.co_refine_backward(GRAD, Z, Z, torch.stack([own, own]), 0, 1.0, 1.0, 1.0) for own in (outside, inside)
    )
    torch.testing.assert_close(found - expected, torch.tensor([[0.0, 1.0, 0.0]] * 2) * GRAD[:, None])
    found, expected = (
        OPS.cross_entropy_backward(GRAD, Z, LABELS, None, own, 0.0, 1.0, 0.0) for own in (outside, inside)
    )
    torch.testing.assert_close(found - expected, torch.tensor([[0.0, 1.0, 0.0]] * 2) * GRAD[:, None])
