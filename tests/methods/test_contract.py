"""Every file in ``reid_core/methods`` keeps the contract: a new method is covered before its own test exists."""

import math

import numpy as np
import pytest
import torch

from reid_core.engine.records import EpochRecorder, evidence
from reid_core.methods._plan import make_plan
from reid_core.plugins import load, names
from reid_core.types import Batch, Classifier, NetOutput

METHODS = names("reid_core.methods")
B, C = 9, 6


def phases_of(name):
    return load("reid_core.methods", name).recipe(make_plan("default", 12, "8"))


CASES = [(name, i) for name in METHODS for i in range(len(phases_of(name)))]


def ready(name, phase, epochs=12):
    """The method of a phase as it is in its last of so many epochs."""
    method = phases_of(name)[phase].method
    method.begin(np.arange(B) % C, C)
    for epoch in range(epochs):
        method.start_epoch(epoch)
    return method


def problem(num_networks, seed=0):
    torch.manual_seed(seed)
    nets = [torch.nn.Linear(4, C) for _ in range(num_networks)]
    images = torch.randn(B, 4)
    outputs = [NetOutput(net(images), images) for net in nets]
    batch = Batch(torch.arange(B), torch.arange(B) % C, torch.zeros(B, dtype=torch.long), {"weak": images})
    return nets, outputs, batch


@pytest.mark.parametrize(("name", "phase"), CASES)
def test_losses_are_finite_and_reach_their_own_network_only(name, phase):
    method = ready(name, phase)
    nets, outputs, batch = problem(method.num_networks)
    result = method.step(outputs, batch)
    assert len(result.losses) == method.num_networks
    for k, loss in enumerate(result.losses):
        assert loss is not None, "random logits leave something to learn from"
        assert loss.shape == () and math.isfinite(loss.item())
        for net in nets:
            net.zero_grad(set_to_none=True)
        loss.backward(retain_graph=True)
        for j, net in enumerate(nets):
            reached = net.weight.grad is not None and bool(net.weight.grad.any())
            assert reached == (j == k), f"loss {k} and network {j}"


@pytest.mark.parametrize(("name", "phase"), CASES)
def test_records_are_detached_and_have_a_row_a_sample(name, phase):
    method = ready(name, phase)
    _, outputs, batch = problem(method.num_networks)
    result = method.step(outputs, batch)
    assert {"loss", "given_loss"} <= set(result.records)
    for name_, rows in result.records.items():
        assert not rows.requires_grad
        assert rows.shape in ((B,), (method.num_networks, B)), name_
    # The mean over the samples that the network learnt from; NaN stands for the others.
    for k, loss in enumerate(result.losses):
        assert loss.item() == pytest.approx(result.records["loss"][k].nanmean().item(), rel=1e-6)
    # Aligned with the batch: a permuted batch gives permuted records.
    order = torch.tensor([4, 1, 7, 0, 8, 2, 6, 3, 5])
    moved = [NetOutput(o.logits[order], o.embedding[order]) for o in outputs]
    again = method.step(moved, Batch(batch.index[order], batch.labels[order], batch.camids[order], {}))
    for name_, rows in result.records.items():
        torch.testing.assert_close(again.records[name_], rows[..., order], equal_nan=True)


@pytest.mark.parametrize(("name", "phase"), CASES)
def test_state_round_trip_gives_the_same_next_step(name, phase):
    first, second = ready(name, phase, epochs=1), ready(name, phase, epochs=0)
    _, outputs, batch = problem(first.num_networks)
    recorder = EpochRecorder(B)
    recorder.add(batch.index, {**evidence(outputs), **first.step(outputs, batch).records})
    first.end_epoch(recorder.arrays)
    second.load_state_dict(first.state_dict())
    first.start_epoch(1)
    second.start_epoch(1)
    for a, b in zip(first.step(outputs, batch).losses, second.step(outputs, batch).losses):
        assert torch.equal(a, b)


def test_self_confidence_is_one_over_one_plus_the_sample_weighted_mean():
    method = load("reid_core.methods", "core").recipe(make_plan("default", 12, "8"))[0].method
    assert method.confidence == [0.0, 0.0]
    given = np.array([[2.0, 2.0, 2.0, 2.0], [0.5, 0.5, 0.5, np.nan]], np.float32)
    method.end_epoch({"given_loss": given, "loss": np.zeros_like(given)})
    assert method.confidence == pytest.approx([1 / 3, 2 / 3])
    method.end_epoch({"given_loss": np.full((2, 3), math.log(751), np.float32), "loss": np.zeros((2, 3))})
    assert method.confidence == pytest.approx([0.1312, 0.1312], abs=5e-5)


def test_self_confidence_from_the_combined_loss_is_never_smaller():
    recipe = load("reid_core.methods", "self_refine").recipe
    base = recipe(make_plan("default", 12, "8"))[0].method
    combined = recipe(make_plan("default", 12, "8"), confidence_from="combined")[0].method
    records = {"given_loss": np.array([[3.0, 1.0]], np.float32), "loss": np.array([[2.0, 1.0]], np.float32)}
    base.end_epoch(records)
    combined.end_epoch(records)
    assert base.confidence == pytest.approx([1 / 3]) and combined.confidence == pytest.approx([1 / 2.5])


def test_self_stops_where_the_epoch_average_is_not_finite():
    from reid_core.errors import NumericalError

    method = load("reid_core.methods", "self_refine").recipe(make_plan("default", 12, "8"))[0].method
    with pytest.raises(NumericalError, match="network 0"):
        method.end_epoch({"given_loss": np.array([[1.0, np.inf]], np.float32), "loss": np.zeros((1, 2))})


def test_core_looks_at_no_given_label():
    method = load("reid_core.methods", "core").recipe(make_plan("default", 12, "8"))[1].method
    _, outputs, batch = problem(2)
    other = Batch(batch.index, (batch.labels + 3) % C, batch.camids, {})
    for a, b in zip(method.step(outputs, batch).losses, method.step(outputs, other).losses):
        assert torch.equal(a, b)


def test_the_networks_are_not_swapped():
    """Network 0 learns from network 1: with network 1 certain of class 2, network 0's loss is twice CE to class 2."""
    method = load("reid_core.methods", "core").recipe(make_plan("default", 12, "8"))[1].method
    uncertain = torch.randn(B, C)
    certain = torch.zeros(B, C)
    certain[:, 2] = 100.0
    result = method.step([NetOutput(uncertain, uncertain), NetOutput(certain, certain)], problem(2)[2])
    expected = 2 * torch.nn.functional.cross_entropy(uncertain, torch.full((B,), 2))
    assert result.losses[0].item() == pytest.approx(expected.item(), rel=1e-5)
    assert (result.records["refined_label"][0] == 2).all()


@pytest.mark.parametrize(
    ("schedule", "epochs", "switch", "rates"),
    [
        ("reference", 61, 21, {0: 1, 19: 1, 20: 0.1, 21: 0.1, 49: 0.1, 50: 0.01, 60: 0.01}),
        ("paper", 60, 20, {0: 1, 19: 1, 20: 0.1, 59: 0.1}),
        ("default", 30, 20, {0: 1, 19: 1, 20: 0.1, 29: 0.1}),
    ],
)
def test_schedules(schedule, epochs, switch, rates):
    from reid_core.engine.phases import PhaseWalk

    plan = make_plan(schedule, 30 if schedule == "default" else None, "" if schedule != "default" else "20")
    for name in METHODS:
        walk = PhaseWalk(load("reid_core.methods", name).recipe(plan))
        assert walk.epochs == epochs
        if len(walk.starts) > 1:
            assert walk.starts == [0, switch]
        for epoch, rate in rates.items():
            assert walk.rate(epoch) == pytest.approx(rate), (name, epoch)


@pytest.mark.parametrize(("name", "phase"), CASES)
def test_a_batch_of_one_is_finite_or_has_no_loss(name, phase):
    """One image both networks are sure of: whatever a method refuses, no loss is the mean of nothing."""
    method = ready(name, phase)
    logits = torch.tensor([[5.0, 0, 0, 0, 0, 0]], requires_grad=True)
    outputs = [NetOutput(logits * (k + 1), logits) for k in range(method.num_networks)]
    batch = Batch(torch.tensor([0]), torch.tensor([1]), torch.tensor([0]), {})
    result = method.step(outputs, batch)
    assert all(loss is None or math.isfinite(loss.item()) for loss in result.losses)
    assert all(rows.shape in ((1,), (method.num_networks, 1)) for rows in result.records.values())


@pytest.mark.parametrize(("name", "phase"), CASES)
def test_a_classifier_instead_of_logits_gives_the_same(name, phase):
    method = ready(name, phase)
    nets, outputs, batch = problem(method.num_networks)
    chunked = [
        NetOutput(None, o.embedding, Classifier(o.embedding, *net.parameters())) for o, net in zip(outputs, nets)
    ]
    found, expected = method.step(chunked, batch), method.step(outputs, batch)
    assert found.records.keys() == expected.records.keys()
    torch.testing.assert_close(found.records, expected.records, equal_nan=True)
    weights = [net.weight for net in nets]
    torch.testing.assert_close(
        torch.autograd.grad(sum(found.losses), weights), torch.autograd.grad(sum(expected.losses), weights)
    )
