"""Schedule, balanced softmax and drop rate on networks of three families, against numbers worked out by hand.

Rates by layer and the averages of weights are checked on the same networks in test_layer_rates and test_ema.
"""

import math

import numpy as np
import pytest
import torch

from reid_core.config import TrainConfig
from reid_core.engine.learner import build_learner
from reid_core.engine.phases import PhaseWalk
from reid_core.engine.resolve import resolve
from reid_core.engine.schedule import RateSchedule
from reid_core.methods import peer
from reid_core.methods._given_loss import GivenLoss
from reid_core.methods._plan import make_plan
from reid_core.models._network import build_network
from reid_core.types import Batch, Phase

ARCHS = {"resnet10t": 32, "convnext_atto": 32, "swin_tiny_patch4_window7_224": 56}
COUNTS = [40, 3, 9, 1, 2]
LABELS = [0, 1, 2, 3, 4, 0, 0, 2, 1, 0, 2, 0]


@pytest.fixture(scope="module", params=ARCHS)
def pair(request):
    """Two networks of one kind, and what they say of twelve images."""
    size = ARCHS[request.param]
    networks = [
        build_network(request.param, 5, neck="none", image_size=(size, size), seed=0, position=k) for k in range(2)
    ]
    images = torch.randn(12, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return networks, [network.train()(images) for network in networks]


def log_softmax(row):
    norm = math.log(sum(math.exp(z) for z in row))
    return [z - norm for z in row]


@pytest.mark.parametrize(
    ("epoch", "step", "factor"),
    [
        (0, 0, 1 / 8),  # two epochs of four updates warm up
        (1, 3, 1.0),
        (2, 0, 1.0),
        (4, 0, 0.5 * (1 + math.sqrt(0.5)) * 0.99 + 0.01),  # a quarter of the rest: the cosine of 45 degrees
        (6, 0, 0.505),
    ],
)
def test_the_schedule_scales_every_groups_own_rate(pair, epoch, step, factor):
    network = pair[0][0]
    learner = build_learner(network, resolve(TrainConfig(optimizer="adamw", lr=0.001)), torch.device("cpu"))
    walk = PhaseWalk([Phase("all", None, 10, lambda epoch, local: 1.0)])
    groups = learner.optimizer.param_groups
    own = [group["lr"] for group in groups]
    learner.set_rate(RateSchedule("cosine", 2).factor(walk, epoch, step, 4))
    assert [group["lr"] for group in groups] == pytest.approx([rate * factor for rate in own], rel=1e-9)
    assert max(group["lr"] for group in groups) == pytest.approx(0.001 * factor) and len(set(own)) > 1


def test_balanced_softmax(pair):
    """The logarithm of every class's count is added to its logit, and a tenth of the label is spread over all classes."""
    given = GivenLoss(tau=1.0, smoothing=0.1)
    given.count(np.repeat(np.arange(5), COUNTS), 5)
    output = pair[1][0]
    expected = []
    for row, label in zip(output.logits.tolist(), LABELS):
        log_p = log_softmax([z + math.log(n) for z, n in zip(row, COUNTS)])
        expected.append(-0.9 * log_p[label] - 0.1 * sum(log_p) / 5)
    assert given.with_prior(output, torch.tensor(LABELS)).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("epochs", "rate"), [(1, 0.0), (5, 0.25 * 4 / 9), (10, 0.25), (12, 0.25)])
def test_the_drop_rate_ramps_and_each_picks_for_the_other(pair, epochs, rate):
    (phase,) = peer.recipe(make_plan("default", 20, "auto"))
    method, outputs = phase.method, pair[1]
    method.begin(np.array(LABELS), 5)
    for epoch in range(epochs):
        method.start_epoch(epoch)
    assert method.state_dict()["drop_rate"] == pytest.approx(rate)
    rows = [output.logits.tolist() for output in outputs]
    guesses = [[row.index(max(row)) for row in logits] for logits in rows]
    agreed = [i for i in range(12) if guesses[0][i] == guesses[1][i]]
    kept = math.floor((1 - rate) * len(agreed) + 1e-9)
    batch = Batch(torch.arange(12), torch.tensor(LABELS), torch.zeros(12, dtype=torch.long), {})
    selected = method.step(outputs, batch).records["selected"]
    for k, logits in enumerate(reversed(rows)):
        easy = sorted(agreed, key=lambda i: -log_softmax(logits[i])[LABELS[i]])[:kept]
        assert selected[k].tolist() == [i in easy or i not in agreed for i in range(12)]
