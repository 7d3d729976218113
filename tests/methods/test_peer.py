"""Peer learning: the worked example, what crosses over, and every set that can be empty. Answers by hand, or by loops."""

import logging
import math

import numpy as np
import pytest
import torch
from peer_help import fixed, random_pair, step
from torch.nn import functional

from reid_core.errors import UsageError
from reid_core.methods import peer
from reid_core.methods._given_loss import GivenLoss
from reid_core.methods._plan import make_plan

PLAN = make_plan("default", 12, "8")


def method(rate=0.25, tau=0.0, smoothing=0.0, counts=None, **more):
    given = GivenLoss(tau, smoothing, None if counts is None else torch.tensor(counts))
    return peer.Peer(fixed(rate), given, **more)


def values(result):
    return [None if loss is None else loss.item() for loss in result.losses]


def cross_entropy(logits, labels):
    return functional.cross_entropy(logits, labels, reduction="none")


def test_worked_example():
    """A = {0, 1, 2, 3}, D = {4}. All given labels are class 0, and -log of its probability is the loss."""
    losses = (0.1, 0.9, 0.4, 0.2, 2.0), (0.5, 0.2, 0.3, 0.8, 1.0)
    own = [[math.exp(-loss) for loss in row] for row in losses]
    probabilities = [torch.tensor([[p, (1 - p) / 2, (1 - p) / 2] for p in row]) for row in own]
    probabilities[0][4] = torch.tensor([own[0][4], 0.6, 0.4 - own[0][4]])  # network 0 predicts class 1 there
    result = step(method(), [p.log() for p in probabilities], [0] * 5)
    assert values(result) == pytest.approx([0.850, 0.650], abs=1e-6)
    used = [row.nonzero().flatten().tolist() for row in result.records["selected"]]
    assert used == [[0, 1, 2, 4], [0, 2, 3, 4]]
    assert result.records["agreement"].tolist() == [True] * 4 + [False]
    expected = [[0.1, 0.9, 0.4, math.nan, 2.0], [0.5, math.nan, 0.3, 0.8, 1.0]]
    torch.testing.assert_close(result.records["loss"], torch.tensor(expected), equal_nan=True, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rank_with", ["plain", "balanced"])
@pytest.mark.parametrize(("tau", "smoothing"), [(0.0, 0.0), (1.0, 0.0), (0.0, 0.1), (0.7, 0.6)])
def test_a_second_opinion_in_loops(tau, smoothing, rank_with):
    """The equations of balanced peer learning in Python's numbers, a sample at a time."""
    counts = [40, 3, 9, 1]
    for seed in range(4):
        pair, labels = random_pair(seed=seed)
        result = step(method(0.25, tau, smoothing, counts, rank_with=rank_with), pair, labels)

        def loss(row, label, prior, share):
            shifted = [z + prior * math.log(n) for z, n in zip(row, counts)]
            total = math.log(sum(math.exp(z) for z in shifted))
            return (1 - share) * (total - shifted[label]) + share * sum(total - z for z in shifted) / len(shifted)

        rows = [logits.tolist() for logits in pair]
        guesses = [[row.index(max(row)) for row in logits] for logits in rows]
        agreed = [i for i in range(len(labels)) if guesses[0][i] == guesses[1][i]]
        differ = [i for i in range(len(labels)) if i not in agreed]
        kept = math.floor(0.75 * len(agreed) + 1e-9)
        ranked = tau if rank_with == "balanced" else 0.0
        picks = [
            sorted(agreed, key=lambda i, k=k: (loss(rows[k][i], labels[i], ranked, 0.0), i))[:kept] for k in (0, 1)
        ]
        for k in (0, 1):
            easy = [loss(rows[k][i], labels[i], tau, smoothing) for i in picks[1 - k]]
            hard = [loss(rows[k][i], labels[i], 0.0, smoothing) for i in differ]
            expected = (sum(easy) + sum(hard)) / (len(easy) + len(hard))
            assert result.losses[k].item() == pytest.approx(expected, rel=1e-5)


def test_without_a_drop_rate_both_learn_the_whole_batch():
    pair, labels = random_pair()
    for k, loss in enumerate(step(method(0.0), pair, labels).losses):
        assert loss.item() == pytest.approx(functional.cross_entropy(pair[k], labels).item(), rel=1e-6)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_without_agreement_both_learn_the_whole_batch(rate):
    """No prior there either."""
    a = torch.randn(6, 3)
    pair = (a, -a)
    assert (a.argmax(1) != (-a).argmax(1)).all()
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    for k, loss in enumerate(step(method(rate, 1.0, 0.0, [50, 2, 1]), pair, labels).losses):
        assert loss.item() == pytest.approx(functional.cross_entropy(pair[k], labels).item(), rel=1e-6)


def test_equal_networks_select_small_losses():
    (a, _), labels = random_pair()
    result = step(method(0.25), (a, a.clone()), labels)
    assert result.records["agreement"].all()
    smallest = cross_entropy(a, labels).sort().values[:18]  # floor(0.75 * 24)
    assert values(result) == pytest.approx([smallest.mean().item()] * 2, rel=1e-6)


def test_what_a_network_learns_is_picked_by_the_other():
    """Network 0's logits become other ones with the same largest: it still learns the same samples, network 1 does not."""
    (a, b), _ = random_pair()
    labels = a.argmax(1)
    before = step(method(0.5), (a, b), labels).records["selected"]
    after = step(method(0.5), (a * torch.linspace(8, 0.1, len(a))[:, None], b), labels).records["selected"]
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])


def test_a_permuted_batch_has_the_same_losses():
    pair, labels = random_pair()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(3))
    found = step(method(0.5, 1.0, 0.1, [4, 3, 2, 1]), pair, labels)
    moved = step(method(0.5, 1.0, 0.1, [4, 3, 2, 1]), [logits[order] for logits in pair], labels[order])
    assert values(moved) == pytest.approx(values(found), rel=1e-6)


@pytest.mark.parametrize(("label", "expected"), [(0, 0.0101), (1, 4.6052)])
def test_two_classes_99_to_1(label, expected):
    """Equal logits agree on class 0: -log 0.99 for the frequent class, -log 0.01 for the rare one."""
    pair = torch.zeros(1, 2), torch.zeros(1, 2)
    assert values(step(method(0.0, 1.0, 0.0, [99, 1]), pair, [label])) == pytest.approx([expected] * 2, abs=5e-5)


def test_equal_counts_are_no_prior_and_their_scale_does_not_matter():
    pair, labels = random_pair()
    plain = values(step(method(0.25), pair, labels))
    assert values(step(method(0.25, 1.0, 0.0, [7, 7, 7, 7]), pair, labels)) == pytest.approx(plain, rel=1e-6)
    one, many = (values(step(method(0.25, 1.0, 0.0, [n, 2 * n, n, 5 * n]), pair, labels)) for n in (1, 100))
    assert one == pytest.approx(many, rel=1e-6) and one != pytest.approx(plain, rel=1e-3)


# Empty sets: [(logits of network 0, of network 1)], given labels 0; class 0 or 1 is predicted.
ALIKE = ([2.0, 0.0], [1.0, 0.0])
DIFFER = ([2.0, 0.0], [0.0, 1.0])


def of_rows(rows):
    return [torch.tensor([row[k] for row in rows], requires_grad=True) for k in (0, 1)]


@pytest.mark.parametrize(
    ("rows", "rate", "min_keep", "learnt"),
    [
        ([ALIKE], 0.25, 0, []),  # a batch of one: floor(0.75) = 0
        ([ALIKE, ALIKE], 1.0, 0, []),
        ([ALIKE, DIFFER], 1.0, 0, [1]),
        ([DIFFER, DIFFER], 1.0, 0, [0, 1]),
        ([DIFFER, DIFFER], 1.0, 1, [0, 1]),
        ([ALIKE, ALIKE], 0.5, 0, [0]),
        ([ALIKE], 0.25, 1, [0]),
        ([ALIKE], 1.0, 5, [0]),
        ([ALIKE], 0.0, 0, [0]),
    ],
)
@pytest.mark.parametrize(("tau", "smoothing"), [(0.0, 0.0), (1.0, 0.1)])
def test_empty_sets(rows, rate, min_keep, learnt, tau, smoothing):
    """What was refused teaches nothing; where nothing is left there is no loss."""
    found = method(rate, tau, smoothing, [3, 1], min_keep=min_keep)
    pair = of_rows(rows)
    result = step(found, pair, [0] * len(rows))
    for k in (0, 1):
        assert result.records["selected"][k].nonzero().flatten().tolist() == learnt
        assert result.records["loss"][k].isfinite().nonzero().flatten().tolist() == learnt
        if not learnt:
            assert result.losses[k] is None
            continue
        (grad,) = torch.autograd.grad(result.losses[k], pair[k], retain_graph=True)
        assert grad.isfinite().all() and grad.abs().sum(1).nonzero().flatten().tolist() == learnt


def test_a_class_without_images_is_warned_of_where_its_prior_matters(caplog):
    labels = np.array([0, 0, 2])
    for tau, warned in ((0.0, 0), (1.0, 1)):
        caplog.clear()
        found = method(tau=tau)
        with caplog.at_level(logging.WARNING):
            found.begin(labels, 4)
        assert len(caplog.records) == warned
        assert found.given.counts.tolist() == [2, 0, 1, 0]
    assert "2 of 4 classes have no training image (first: class 1)" in caplog.text
    assert all(math.isfinite(value) for value in values(step(found, random_pair()[0], random_pair()[1])))


def test_a_prior_needs_all_labels_first():
    with pytest.raises(RuntimeError, match="begin"):
        step(method(tau=1.0), *random_pair())


def test_recipe_and_its_settings():
    (phase,) = peer.recipe(PLAN)
    assert (phase.epochs, phase.method.drop.final, phase.method.drop.ramp) == (12, 0.25, 10)
    asked = {"drop_rate": "0.35", "drop_ramp": 5, "tau": 0.5, "smoothing": 0.1, "rank_with": "balanced", "min_keep": 2}
    warm, phase = peer.recipe(PLAN, **asked, plain_epochs=3)
    found = phase.method
    assert (found.drop.final, found.drop.ramp, found.given.tau, found.given.smoothing) == (0.35, 5, 0.5, 0.1)
    assert (found.rank_with, found.min_keep) == ("balanced", 2)
    assert (warm.epochs, phase.epochs) == (3, 9)
    # The rate of the run falls where it falls without a warm-up.
    assert [phase.rate(epoch, 0) for epoch in (3, 7, 8)] == pytest.approx([1, 1, 0.1])
    with pytest.raises(UsageError, match="plain_epochs 12 must lie in"):
        peer.recipe(PLAN, plain_epochs=12)


def test_the_warm_up_is_cross_entropy_with_the_same_smoothing():
    warm, _ = peer.recipe(PLAN, plain_epochs=1, smoothing=0.2)
    pair, labels = random_pair()
    result = step(warm.method, pair, labels)
    for k in (0, 1):
        expected = functional.cross_entropy(pair[k], labels, label_smoothing=0.2)
        assert result.losses[k].item() == pytest.approx(expected.item(), rel=1e-6)
        assert result.records["given_loss"][k].mean().item() == pytest.approx(
            functional.cross_entropy(pair[k], labels).item(), rel=1e-6
        )
