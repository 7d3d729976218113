"""CORE with peer selection: its table by loops, and what it becomes where one of its parts is empty."""

import math

import numpy as np
import pytest
import torch
from peer_help import fixed, random_pair, step
from torch.nn import functional

from reid_core.methods import core, core_peer, peer
from reid_core.methods._given_loss import GivenLoss
from reid_core.methods._plan import make_plan

PLAN = make_plan("default", 12, "8")


def method(rate=0.25, tau=0.0, smoothing=0.0, counts=None, **more):
    given = GivenLoss(tau, smoothing, None if counts is None else torch.tensor(counts))
    return core_peer.CorePeer(fixed(rate), given, **more)


@pytest.mark.parametrize(("soft", "refused"), [(1.0, 1.0), (0.25, 0.5), (1.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize(("tau", "smoothing"), [(0.0, 0.0), (1.0, 0.1)])
@pytest.mark.parametrize(("supported", "differ"), [(0.0, 0.0), (0.7, 0.0), (0.0, 0.6), (0.7, 0.6)])
def test_the_table_in_loops(soft, refused, tau, smoothing, supported, differ):
    counts, rate = [40, 3, 9, 1], 0.4
    pair, labels = random_pair(seed=2)
    weights = {
        "soft_weight": soft,
        "refused_weight": refused,
        "supported_weight": supported,
        "differ_weight": differ,
    }
    found = method(rate, tau, smoothing, counts, **weights)
    result = step(found, pair, labels)
    log_p = [[[z - math.log(sum(math.exp(v) for v in row)) for z in row] for row in logits.tolist()] for logits in pair]
    guesses = [[row.index(max(row)) for row in rows] for rows in log_p]
    agreed = [i for i in range(len(labels)) if guesses[0][i] == guesses[1][i]]
    kept = math.floor((1 - rate) * len(agreed) + 1e-9)
    for k, j in ((0, 1), (1, 0)):
        picks = sorted(agreed, key=lambda i: (-log_p[j][i][labels[i]], i))[:kept]
        total = 0.0
        for i in range(len(labels)):
            taught = guesses[j][i]
            if i in picks:
                shifted = [z + tau * math.log(n) for z, n in zip(log_p[k][i], counts)]
                norm = math.log(sum(math.exp(z) for z in shifted))
                mean = sum(norm - z for z in shifted) / len(shifted)
                total += (1 - smoothing) * (norm - shifted[labels[i]]) + smoothing * mean
                taught = labels[i].item()
            else:
                total += soft * -sum(math.exp(p) * q for p, q in zip(log_p[j][i], log_p[k][i]))
                total += refused * -log_p[k][i][guesses[j][i]] if i in agreed else 0.0
            weight = supported if labels[i].item() in (guesses[0][i], guesses[1][i]) else differ
            if i not in agreed and weight:
                plain = (1 - smoothing) * -log_p[k][i][labels[i]] + smoothing * -sum(log_p[k][i]) / len(counts)
                total += weight * plain
                taught = labels[i].item()
            assert result.records["refined_label"][k, i] == taught
            assert result.records["selected"][k, i] == (i in picks or (i not in agreed and weight > 0))
        assert result.losses[k].item() == pytest.approx(total / len(labels), rel=1e-5)


def test_given_labels_where_they_differ_and_nothing_else_refused_is_peer_learning():
    """But for the mean, which is over the whole batch here."""
    pair, labels = random_pair()
    found = step(
        method(0.25, soft_weight=0.0, refused_weight=0.0, supported_weight=1.0, differ_weight=1.0), pair, labels
    )
    expected = step(peer.Peer(fixed(0.25), GivenLoss()), pair, labels)
    for k in (0, 1):
        learnt = int(expected.records["selected"][k].sum())
        assert torch.equal(found.records["selected"][k], expected.records["selected"][k])
        assert found.losses[k].item() == pytest.approx(expected.losses[k].item() * learnt / len(labels), rel=1e-6)


def test_nothing_picked_is_selective_core_to_the_last_bit():
    pair, labels = random_pair()
    found = step(method(1.0, supported_weight=0.0), pair, labels)
    expected = step(core.CoRefine(disagree_weight=0.0), pair, labels)
    for mine, theirs in zip(found.losses, expected.losses):
        assert torch.equal(mine, theirs)
    assert not found.records["selected"].any()


def test_nothing_refused_is_the_given_label_where_they_agree_and_the_soft_term_elsewhere():
    pair, labels = random_pair()
    found = step(method(0.0, supported_weight=0.0), pair, labels)
    agree = pair[0].argmax(1) == pair[1].argmax(1)
    for k in (0, 1):
        given = functional.cross_entropy(pair[k], labels, reduction="none")
        soft = -(pair[1 - k].softmax(1) * pair[k].log_softmax(1)).sum(1)
        assert found.losses[k].item() == pytest.approx(torch.where(agree, given, soft).mean().item(), rel=1e-6)


def test_equal_networks_differ_nowhere():
    (a, _), labels = random_pair()
    result = step(method(0.0), (a, a.clone()), labels)
    assert result.records["agreement"].all() and result.records["selected"].all()
    assert [v.item() for v in result.losses] == pytest.approx([functional.cross_entropy(a, labels).item()] * 2)


def test_a_refused_batch_of_one_still_learns_from_the_peer():
    pair = torch.tensor([[3.0, 0.0]]), torch.tensor([[2.0, 0.0]])
    result = step(method(0.25), pair, [1])
    assert not result.records["selected"].any() and result.records["refined_label"].tolist() == [[0], [0]]
    assert all(math.isfinite(loss.item()) for loss in result.losses)


@pytest.mark.parametrize(
    ("pair", "refused", "supported", "differ", "learns"),
    [
        ([[3.0, 0.0, 0.0], [2.0, 0.0, 0.0]], 0.0, 1.0, 1.0, False),
        ([[3.0, 0.0, 0.0], [2.0, 0.0, 0.0]], 0.5, 0.0, 0.0, True),
        ([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0]], 0.5, 0.0, 1.0, False),
        ([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0]], 0.0, 1.0, 0.0, True),
        ([[3.0, 0.0, 0.0], [0.0, 0.0, 2.0]], 0.5, 1.0, 0.0, False),
        ([[3.0, 0.0, 0.0], [0.0, 0.0, 2.0]], 0.0, 0.0, 1.0, True),
    ],
)
def test_no_loss_where_no_weight_is_left(pair, refused, supported, differ, learns):
    """A step without any term would still let weight decay act. The given label is 1."""
    found = method(1.0, soft_weight=0.0, refused_weight=refused, supported_weight=supported, differ_weight=differ)
    result = step(found, [torch.tensor([row]) for row in pair], [1])
    assert [loss is not None for loss in result.losses] == [learns, learns]


def test_recipe_and_its_settings():
    first, second = core_peer.recipe(PLAN)
    assert (first.name, second.name, first.epochs, second.epochs) == ("self_refine", "core_peer", 8, 4)
    found = second.method
    assert (found.soft_weight, found.refused_weight, found.supported_weight, found.differ_weight) == (
        1.0,
        1.0,
        1.0,
        0.0,
    )
    assert second.method.drop.of_each_batch and second.watch_collapse and not second.dropout
    asked = {
        "soft_weight": 0.5,
        "refused_weight": 0.2,
        "supported_weight": 0.4,
        "differ_weight": 0.3,
        "drop_rate": "0.3",
        "tau": 1.0,
        "smoothing": 0.1,
        "min_keep": 1,
    }
    first, second = core_peer.recipe(
        make_plan("default", 12, "auto"), **asked, rank_with="balanced", confidence_from="combined"
    )
    found = second.method
    assert (found.supported_weight, found.differ_weight) == (0.4, 0.3)
    assert first.end_when is not None and first.method.confidence_from == "combined"
    assert (found.soft_weight, found.refused_weight, found.drop.final, found.drop.ramp) == (0.5, 0.2, 0.3, 10)
    assert (found.given.tau, found.given.smoothing, found.min_keep, found.rank_with) == (1.0, 0.1, 1, "balanced")


def test_peer_learning_may_come_before_the_switch():
    """With its own drop rate and ramp, the prior and smoothing; what follows stays as it was."""
    asked = {"tau": 1.0, "smoothing": 0.1, "min_keep": 2, "rank_with": "balanced"}
    first, second = core_peer.recipe(PLAN, **asked, before_switch="peer")
    assert (first.name, first.epochs, second.name) == ("peer", 8, "core_peer")
    assert isinstance(first.method, peer.Peer) and first.method.num_networks == 2
    assert (first.method.drop.final, first.method.drop.ramp) == (0.25, 10)
    for found in (first.method, second.method):
        assert (found.given.tau, found.given.smoothing, found.min_keep, found.rank_with) == (1.0, 0.1, 2, "balanced")
    found = second.method
    assert (found.soft_weight, found.refused_weight, found.supported_weight, found.differ_weight) == (
        0.5,
        0.0,
        1.0,
        1.0,
    )
    own = {"soft_weight": 0.25, "refused_weight": 0.75, "supported_weight": 0.5, "differ_weight": 0.0}
    found = core_peer.recipe(PLAN, **own, before_switch="peer")[1].method
    assert (found.soft_weight, found.refused_weight, found.supported_weight, found.differ_weight) == (
        0.25,
        0.75,
        0.5,
        0.0,
    )
    for epoch in range(8):
        first.method.start_epoch(epoch)
    second.method.start_epoch(8)
    assert second.method.state_dict()["drop_rate"] == pytest.approx(0.25 * 8 / 9)  # the ramp goes on
    auto = core_peer.recipe(make_plan("default", 12, "auto"), before_switch="peer")[0]
    assert auto.end_when is not None


def test_after_self_as_many_given_labels_teach_as_a_network_predicts():
    """Samples 0 and 1 are predicted alike, 1 against its label; 2 and 3 are not, 2 by one network as it is labelled.

    In every epoch: nothing is measured first.
    """
    pair = [torch.eye(3)[[0, 1, 2, 1]] * 5, torch.eye(3)[[0, 1, 0, 0]] * 5]
    labels = torch.tensor([0, 2, 2, 2])
    found = core_peer.recipe(PLAN)[1].method
    found.begin(labels.numpy(), 3)
    for epoch in range(8, 11):
        found.start_epoch(epoch)
        records = step(found, pair, labels).records
        assert records["selected"].tolist() == [[True, False, True, False]] * 2
        assert records["refined_label"].tolist() == [[0, 1, 2, 0], [0, 1, 2, 1]]
        found.end_epoch({"prediction": np.array([[0, 1, 2, 1], [0, 1, 0, 0]])})
        assert found.state_dict()["drop_rate"] is None  # each batch has its own


@pytest.mark.parametrize("default", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_weights_are_of_the_losses_type(default, dtype):
    """0.7 in float32 is off by 1e-8: in float64 a loss would show it."""
    pair, labels = random_pair()
    pair = [logits.to(dtype) for logits in pair]
    weights = {"supported_weight": 0.7, "differ_weight": 0.3}
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        found = step(method(0.25, soft_weight=0.0, refused_weight=0.0, **weights), pair, labels)
    finally:
        torch.set_default_dtype(before)
    guesses = torch.stack([logits.argmax(1) for logits in pair])
    weight = torch.tensor([0.3, 0.7], dtype=torch.float64)[(guesses == labels).any(0).long()]
    for loss, logits in zip(found.records["loss"], pair):
        exact = weight * functional.cross_entropy(logits.double(), labels, reduction="none")
        differ = guesses[0] != guesses[1]
        close = 1e-12 if dtype == torch.float64 else 1e-5
        torch.testing.assert_close(loss[differ].double(), exact[differ], rtol=close, atol=close)
