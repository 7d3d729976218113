"""One network's update: frozen parts, skipped steps, overflow, clipping and gathered gradients, by hand."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from reid_core.engine.ema import MovingAverage
from reid_core.engine.learner import Learner
from reid_core.engine.optim import OptimizerSettings, build_optimizer
from reid_core.errors import NumericalError
from reid_core.models._network import build_network


class Line(nn.Module):
    """Two numbers of a backbone, and a neck that does nothing."""

    arch = "by hand"

    def __init__(self, weight=(3.0, 4.0)):
        super().__init__()
        self.backbone, self.neck = nn.Module(), nn.Module()
        self.backbone.weight = nn.Parameter(torch.tensor(weight))

    @property
    def weight(self):
        return self.backbone.weight


def learner(network=None, **more):
    network = network or Line()
    return Learner(network, build_optimizer(network, OptimizerSettings(lr=0.5, momentum=0.0, weight_decay=0.0)), **more)


def gather(one, losses_and_weights):
    one.begin()
    for loss, weight in losses_and_weights:
        one.scaled(loss, weight).backward()


@pytest.mark.parametrize("arch", ["resnet10t", "convnext_atto", "test_vit"])
def test_a_frozen_backbone_keeps_every_bit_and_thaws(arch):
    network = build_network(arch, 4, neck="bnneck", image_size=(32, 32))
    settings = OptimizerSettings("adamw", 0.1, weight_decay=0.5)  # decay alone would move a weight
    one = Learner(network, build_optimizer(network, settings))
    images, labels = torch.randn(6, 3, 32, 32), torch.arange(6) % 4

    def step(frozen):
        before = copy.deepcopy(network.state_dict())
        one.prepare(frozen=frozen, dropout=True)
        gather(one, [(functional.cross_entropy(network(images).logits, labels), 1.0)])
        assert one.update("a test") == "made"
        return {n for n, t in network.state_dict().items() if not torch.equal(t, before[n])}

    for _ in range(2):
        changed = step(frozen=True)
        assert changed and all(name.startswith("neck.") for name in changed)
        assert {"neck.classifier.weight", "neck.norm.running_mean"} <= changed
    assert not network.neck.norm.bias.requires_grad
    changed = step(frozen=False)
    assert any(name.startswith("backbone.") and name.endswith("weight") for name in changed)
    assert any(name.endswith("running_mean") for name in changed if name.startswith("backbone.")) == (
        arch == "resnet10t"
    )
    assert not network.neck.norm.bias.requires_grad  # what was never trained is not thawed


def test_without_a_loss_optimizer_and_average_skip_the_step():
    one = learner(average=None)
    one.optimizer.param_groups[0]["momentum"] = 0.9
    one.average = MovingAverage(Line(), 0.9)
    gather(one, [(one.network.weight.sum(), 1.0)])
    one.update("a test")
    before = one.network.weight.detach().clone()
    one.begin()
    assert one.update("a test") == "no loss"
    assert torch.equal(one.network.weight, before) and one.average.steps == 1
    assert torch.equal(one.optimizer.state[one.network.weight]["momentum_buffer"], torch.ones(2))


def test_gathered_gradients_are_the_mean_over_all_rows():
    """Batches of 3, 3 and 1 rows: the mean of 7 rows, not of three means; a batch without a loss counts nothing."""
    rows, one, whole = torch.randn(7, 2), learner(), learner()
    parts = [rows[:3], rows[3:6], rows[6:]]
    gather(one, [((part @ one.network.weight).square().mean(), len(part) / 3) for part in parts])
    gather(whole, [((rows @ whole.network.weight).square().mean(), 1.0)])
    one.update("a test")
    whole.update("a test")
    torch.testing.assert_close(one.network.weight, whole.network.weight)
    gather(one, [((rows[:2] @ one.network.weight).square().mean(), 2 / 3)])  # the other batches had no loss
    gather(whole, [((rows[:2] @ whole.network.weight).square().mean(), 1.0)])
    one.update("a test")
    whole.update("a test")
    torch.testing.assert_close(one.network.weight, whole.network.weight)


@pytest.mark.parametrize(("clip", "moved"), [(0.0, (3.0, 4.0)), (1.0, (0.6, 0.8)), (5.5, (3.0, 4.0))])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_norm_is_clipped_after_the_scale_is_taken_off(clip, moved, scaled):
    one = learner(clip=clip, scaler=torch.amp.GradScaler("cpu", init_scale=1024.0) if scaled else None)
    gather(one, [(one.network.weight.square().sum() / 2, 1.0)])  # the gradient is the weight: its norm is 5
    one.update("a test")
    expected = torch.tensor([3.0, 4.0]) - 0.5 * torch.tensor(moved)
    torch.testing.assert_close(one.network.weight.detach(), expected)


def test_an_overflow_skips_that_networks_step_alone():
    learners = [learner(scaler=torch.amp.GradScaler("cpu", init_scale=2.0**16)) for _ in range(2)]
    for one in learners:
        one.average = MovingAverage(one.network, 0.9)
    for one, factor in zip(learners, (1e36, 1.0)):
        gather(one, [(one.network.weight.sum() * factor, 1.0)])
    assert [one.update("a test") for one in learners] == ["overflow", "made"]
    assert learners[0].network.weight.tolist() == [3.0, 4.0] and learners[1].network.weight.tolist() == [2.5, 3.5]
    assert [one.average.steps for one in learners] == [0, 1]
    assert [one.scaler.get_scale() for one in learners] == [2.0**15, 2.0**16]
    other = learner(scaler=torch.amp.GradScaler("cpu"))
    other.average = MovingAverage(other.network, 0.9)
    other.load_state_dict(learners[1].state_dict())
    assert other.state_dict() == learners[1].state_dict()
    assert other.state_dict()["scaler"]["_growth_tracker"] == 1 and other.average.steps == 1


@pytest.mark.parametrize(
    ("more", "advice"),
    [
        ({"clip": 1.0}, "lower --new_layer_mult"),
        ({"watch": True}, "--amp off"),
        ({"clip": 1.0, "watch": True}, "--amp off"),
    ],
)
def test_a_broken_gradient_is_an_error_before_it_breaks_the_weights(more, advice):
    """Half precision is blamed only where there is any."""
    one = learner(**more)
    gather(one, [(one.network.weight.sum() * float("inf"), 1.0)])
    with pytest.raises(NumericalError, match=f"epoch 3, step 4.*{advice}"):
        one.update("epoch 3, step 4")
    assert one.network.weight.tolist() == [3.0, 4.0]


def test_another_image_size_takes_over_parameters_and_forgets_their_state_only():
    network = build_network("test_vit", 4, neck="none", image_size=(32, 32))
    one = Learner(network, build_optimizer(network, OptimizerSettings("adamw")), average=MovingAverage(network, 0.9))
    images = torch.randn(2, 3, 32, 32)
    gather(one, [(network(images).logits.square().sum(), 1.0)])
    one.update("a test")
    old, kept = network.backbone.pos_embed, network.neck.classifier.weight
    one.set_image_size((48, 32))
    new = network.backbone.pos_embed
    assert new is not old and new.shape[1] == old.shape[1] + 2 and old not in one.optimizer.state
    assert kept in one.optimizer.state
    inside = {id(p) for group in one.optimizer.param_groups for p in group["params"]}
    assert inside == {id(p) for p in network.parameters() if p.requires_grad}
    one.prepare(frozen=False, dropout=True)
    before = new.detach().clone()
    gather(one, [(network(torch.randn(2, 3, 48, 32)).logits.square().sum(), 1.0)])
    assert one.update("a test") == "made" and not torch.equal(new, before)
    assert one.average.shadow.backbone.pos_embed.shape == new.shape
