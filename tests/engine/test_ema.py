"""The moving average of weights and buffers, for three architectures, against the formula written out."""

import pytest
import torch

from reid_core.engine.ema import MovingAverage
from reid_core.models._network import build_network

ARCHS = {"resnet10t": 32, "convnext_atto": 32, "swin_tiny_patch4_window7_224": 56}


@pytest.mark.parametrize("arch", ARCHS)
def test_two_updates_by_hand_buffers_included(arch):
    network = build_network(arch, 4, neck="fc512", neck_dim=8, image_size=(ARCHS[arch],) * 2)
    average = MovingAverage(network, 0.9999)
    expected = {name: tensor.clone().double() for name, tensor in network.state_dict().items()}
    for share in (2 / 11, 3 / 12):  # (1 + s) / (10 + s) for s = 1 and 2
        with torch.no_grad():
            for name, tensor in network.state_dict().items():
                tensor.add_(torch.ones_like(tensor) if not tensor.is_floating_point() else torch.rand_like(tensor))
                if tensor.is_floating_point():
                    expected[name] = share * expected[name] + (1 - share) * tensor.double()
                else:
                    expected[name] = tensor.clone().double()
        average.update(network)
    found = average.shadow.state_dict()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert found["neck.norm.num_batches_tracked"].item() == 2 and average.steps == 2
    assert any(name.endswith("running_mean") for name in found)
    assert not any(p.requires_grad for p in average.shadow.parameters()) and not average.shadow.training


def test_constant_weights_are_their_own_average_and_the_decay_is_a_bound():
    network = build_network("test_resnet", 4, image_size=(32, 32))
    average = MovingAverage(network, 0.5)
    for _ in range(12):
        average.update(network)
    assert all(torch.equal(t, network.state_dict()[name]) for name, t in average.shadow.state_dict().items())
    with torch.no_grad():
        network.neck.classifier.weight.fill_(1.0)
        average.shadow.neck.classifier.weight.fill_(0.0)
    average.update(network)  # s = 13: 14/23 would be more than the decay
    torch.testing.assert_close(
        average.shadow.neck.classifier.weight, torch.full_like(network.neck.classifier.weight, 0.5)
    )
