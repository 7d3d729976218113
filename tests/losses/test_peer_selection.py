"""Peer selection: the worked example of peer learning, slow loops, and every set that can be empty."""

import math

import loss_backends
import pytest
import torch
from torch.nn import functional

from reid_core.losses.peer_selection import PeerSelection, peer_selection, select_peers

backend = loss_backends.backend


def random_batch(rows=40, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, rows, classes, generator=generator, dtype=torch.float64)
    b[::2] += 2 * a[::2]  # many agree
    return a, b, torch.randint(classes, (rows,), generator=generator)


def slow(a, b, labels, drop_rate):
    """Python's lists: picks of both networks, and the sizes they are made of."""
    rows = range(len(labels))
    guesses = [[row.index(max(row)) for row in logits.tolist()] for logits in (a, b)]
    agreed = [i for i in rows if guesses[0][i] == guesses[1][i]]
    losses = []
    for logits in (a, b):
        totals = [math.log(sum(math.exp(z) for z in row)) for row in logits.tolist()]
        losses.append([totals[i] - logits[i, labels[i]].item() for i in rows])
    kept = math.floor((1 - drop_rate) * len(agreed) + 1e-9)
    picks = [sorted(agreed, key=lambda i, of=of: (of[i], i))[:kept] for of in losses]
    return guesses, agreed, losses, [[i in pick for i in rows] for pick in picks]


def with_losses(losses, agree, drop_rate):
    """The selection from given losses; ``agree`` says where predictions are the same."""
    agree = torch.tensor(agree, dtype=torch.int64)
    return select_peers(torch.stack([torch.zeros_like(agree), 1 - agree]), torch.tensor(losses), drop_rate)


def picked(selection):
    return [row.nonzero().flatten().tolist() for row in selection.picks]


def test_worked_example():
    losses = [[0.1, 0.9, 0.4, 0.2, 2.0], [0.5, 0.2, 0.3, 0.8, 1.0]]
    selection = with_losses(losses, [1, 1, 1, 1, 0], 0.25)
    assert picked(selection) == [[0, 2, 3], [0, 1, 2]]
    # What each learns from: the samples not agreed on and the other's picks.
    used = ~selection.agreement | selection.picks.flip(0)
    mean = (selection.losses * used).sum(1) / used.sum(1)
    assert mean.tolist() == pytest.approx([0.850, 0.650])


@pytest.mark.parametrize("drop_rate", [0.0, 0.1, 1 / 3, 0.9, 1.0])
def test_slow_loops(drop_rate):
    for seed in range(5):
        batch = random_batch(seed=seed)
        guesses, agreed, losses, picks = slow(*batch, drop_rate)
        selection = peer_selection(*batch, drop_rate)
        assert selection.predictions.tolist() == guesses
        assert selection.agreement.nonzero().flatten().tolist() == agreed
        torch.testing.assert_close(selection.losses, torch.tensor(losses, dtype=torch.float64))
        assert selection.picks.tolist() == picks


def test_the_losses_are_plain_cross_entropy_without_gradient():
    a, b, labels = random_batch()
    selection = peer_selection(a.requires_grad_(), b.requires_grad_(), labels, 0.5)
    for loss, logits in zip(selection.losses, (a, b)):
        torch.testing.assert_close(loss, functional.cross_entropy(logits.detach(), labels, reduction="none"))
    assert not selection.losses.requires_grad
    assert selection.picks.dtype == selection.agreement.dtype == torch.bool


def test_the_given_label_plays_no_part_in_the_agreement():
    a, b, labels = random_batch()
    assert torch.equal(
        peer_selection(a, b, labels, 0.2).agreement, peer_selection(a, b, (labels + 1) % 3, 0.2).agreement
    )


def test_a_count_that_rounds_just_below_a_whole_number_is_that_number():
    assert (1 - 0.9) * 10 < 1
    assert picked(with_losses([[float(k) for k in range(10)]] * 2, [1] * 10, 0.9)) == [[0], [0]]


def test_equal_losses_go_by_place_in_the_batch():
    assert picked(with_losses([[1.0] * 6, [2.0, 1.0, 1.0, 1.0, 1.0, 1.0]], [1, 0, 1, 1, 1, 1], 0.4)) == [
        [0, 2, 3],
        [2, 3, 4],
    ]


@pytest.mark.parametrize(
    ("agree", "drop_rate", "expected"),
    [
        ([0, 0, 0], 0.0, []),  # nothing is agreed on
        ([1, 1, 1], 0.0, [0, 1, 2]),  # everything is, and nothing refused
        ([1, 1, 1], 1.0, []),  # everything is refused
        ([1, 0, 0], 0.5, []),  # half of one sample is none
        ([1], 0.1, []),  # a batch of one
        ([1], 0.0, [0]),
        ([], 0.5, []),  # an empty batch
    ],
)
def test_sets_that_are_empty(agree, drop_rate, expected):
    losses = [[0.5] * len(agree)] * 2
    selection = with_losses(losses, agree, drop_rate)
    assert picked(selection) == [expected, expected]
    assert selection.picks.shape == (2, len(agree))


def test_an_empty_batch_of_logits():
    selection = peer_selection(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 0.5)
    assert selection.predictions.shape == selection.losses.shape == selection.picks.shape == (2, 0)
    assert selection.agreement.shape == (0,)


def test_losses_of_infinity_and_nan_come_last_but_before_those_not_agreed_on():
    losses = [[math.nan, 0.1, math.inf, 3.0], [math.inf, 0.1, math.nan, math.nan]]
    assert picked(with_losses(losses, [1, 0, 1, 1], 0.0)) == [[0, 2, 3]] * 2
    assert picked(with_losses(losses, [1, 0, 1, 1], 0.3)) == [[2, 3], [0, 2]]


def test_picks_follow_a_permutation():
    batch, order = random_batch(), torch.randperm(40, generator=torch.Generator().manual_seed(1))
    selection, moved = peer_selection(*batch, 0.4), peer_selection(*(values[order] for values in batch), 0.4)
    assert torch.equal(moved.picks, selection.picks[:, order])


def test_networks_that_are_the_same_pick_the_same():
    a, _, labels = random_batch()
    selection = peer_selection(a, a, labels, 0.3)
    assert selection.agreement.all() and torch.equal(*selection.picks) and selection.picks.sum() == 2 * 28


def test_bad_arguments_are_named():
    a, b, labels = random_batch()
    for rate in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=rf"drop_rate must lie in \[0, 1\], got {rate}"):
            peer_selection(a, b, labels, rate)
    with pytest.raises(ValueError, match=r"logits_a \(40, 3\) and logits_b \(40, 2\)"):
        peer_selection(a, b[:, :2], labels, 0.1)
    with pytest.raises(TypeError, match="float64.*float32"):
        peer_selection(a, b.float(), labels, 0.1)
    with pytest.raises(ValueError, match=r"got 3 at row 39"):
        peer_selection(a, b, torch.tensor([0] * 39 + [3]), 0.1)


def test_it_cannot_be_changed():
    selection = peer_selection(*random_batch(), 0.1)
    with pytest.raises(AttributeError):
        selection.picks = selection.agreement
    assert isinstance(selection, PeerSelection)


@pytest.mark.parametrize(
    ("agree", "drop_rate", "min_keep", "expected"),
    [
        ([1, 1, 1, 0], 1.0, 0, []),
        ([1, 1, 1, 0], 1.0, 1, [2]),
        ([1, 1, 1, 0], 1.0, 2, [0, 2]),
        ([1, 1, 1, 0], 1.0, 9, [0, 1, 2]),  # never more than are agreed on
        ([1, 1, 1, 0], 0.3, 1, [0, 2]),  # floor(2.1) is more already
        ([0, 0, 0, 0], 0.5, 1, []),
    ],
)
def test_so_many_are_kept_at_least(agree, drop_rate, min_keep, expected):
    agree = torch.tensor(agree)
    losses = torch.tensor([[0.2, 0.3, 0.1, 0.05]] * 2)
    selection = select_peers(torch.stack([torch.zeros_like(agree), 1 - agree]), losses, drop_rate, min_keep)
    assert picked(selection) == [expected, expected]
