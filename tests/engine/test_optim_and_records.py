"""One step of the optimizer by hand, and what the recorder keeps of a batch."""

import numpy as np
import pytest
import torch

from reid_core.engine.optim import OptimizerSettings, build_optimizer, optimizer_tensors, restore_optimizer, set_rate
from reid_core.engine.records import EpochRecorder, evidence
from reid_core.types import NetOutput


def slow_sgd(weight, gradients, lr, momentum, decay):
    """Nesterov's rule as torch documents it, without dampening."""
    velocity = 0.0
    for gradient in gradients:
        gradient = gradient + decay * weight
        velocity = momentum * velocity + gradient
        weight = weight - lr * (gradient + momentum * velocity)
    return weight


class TwoWeights(torch.nn.Module):
    """A backbone and a neck of one number each."""

    arch = "by hand"

    def __init__(self):
        super().__init__()
        self.backbone, self.neck = torch.nn.Module(), torch.nn.Module()
        for part in (self.backbone, self.neck):
            part.weight = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))


def test_steps_by_hand_new_layers_faster_and_the_rate_scaled():
    network, settings = TwoWeights(), OptimizerSettings("sgd", 0.1, 10.0, weight_decay=0.01)
    optimizer = build_optimizer(network, settings)
    old, new = network.backbone.weight, network.neck.weight
    set_rate(optimizer, 0.5)
    for gradient in (1.0, -0.5, 0.25):
        old.grad = torch.full_like(old, gradient)
        new.grad = torch.full_like(new, gradient)
        optimizer.step()
    assert old.item() == pytest.approx(slow_sgd(2.0, (1.0, -0.5, 0.25), 0.05, 0.9, 0.01), abs=1e-12)
    assert new.item() == pytest.approx(slow_sgd(2.0, (1.0, -0.5, 0.25), 0.5, 0.9, 0.01), abs=1e-12)
    set_rate(optimizer, 1.0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 1.0]
    other = build_optimizer(network, settings)
    restore_optimizer(other, optimizer_tensors(optimizer))
    for key, value in optimizer_tensors(optimizer).items():
        assert torch.equal(optimizer_tensors(other)[key], value)


def test_recorder_puts_rows_where_their_samples_are():
    recorder = EpochRecorder(5)
    recorder.add(torch.tensor([3, 0]), {"loss": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "label": torch.tensor([7, 8])})
    recorder.add(torch.tensor([4]), {"loss": torch.tensor([[5.0], [6.0]]), "label": torch.tensor([9])})
    nan = np.nan
    np.testing.assert_array_equal(recorder.arrays["loss"], [[2.0, nan, nan, 1.0, 5.0], [4.0, nan, nan, 3.0, 6.0]])
    np.testing.assert_array_equal(recorder.arrays["label"], [8, -1, -1, 7, 9])


def test_evidence_is_the_largest_probability_and_its_class_of_each_network():
    first = torch.log(torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25]]))
    second = torch.log(torch.tensor([[0.1, 0.1, 0.8], [0.3, 0.3, 0.4]]))
    found = evidence([NetOutput(first, first), NetOutput(second, second)])
    assert found["prediction"].tolist() == [[1, 0], [2, 2]]
    torch.testing.assert_close(found["confidence"], torch.tensor([[0.7, 0.5], [0.8, 0.4]]))
