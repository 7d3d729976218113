"""What the flags of SELF and CORE do to the losses, against the plain loss functions."""

import pytest
import torch
from torch.nn import functional

from reid_core.losses.co_refine import co_refine_loss
from reid_core.losses.self_refine import label_refine_loss
from reid_core.methods import core, self_refine
from reid_core.methods._plan import make_plan
from reid_core.types import Batch, NetOutput

B, C = 12, 4
PLAN = make_plan("default", 12, "8")


def problem():
    torch.manual_seed(1)
    logits = [3 * torch.randn(B, C) for _ in range(2)]
    logits[1][:5] = logits[0][:5] * 1.5  # they agree on some
    rows = torch.arange(B)
    return logits, [NetOutput(z, z) for z in logits], Batch(rows, rows % C, torch.zeros(B, dtype=torch.long), {})


def test_self_uses_each_networks_own_confidence():
    logits, outputs, batch = problem()
    method = core.recipe(PLAN)[0].method
    method.load_state_dict({"confidence": [0.8, 0.3]})
    for z, loss, confidence in zip(logits, method.step(outputs, batch).losses, (0.8, 0.3)):
        assert loss.item() == pytest.approx(label_refine_loss(z, batch.labels, confidence).mean().item(), rel=1e-6)
        assert loss.item() < functional.cross_entropy(z, batch.labels).item()


@pytest.mark.parametrize(("selective", "disagree_weight"), [(False, 1.0), (True, 0.0)])
@pytest.mark.parametrize("soft_weight", [1.0, 0.25])
def test_selective_and_soft_weight_reach_the_loss(selective, disagree_weight, soft_weight):
    logits, outputs, batch = problem()
    method = core.recipe(PLAN, soft_weight=soft_weight, selective=selective)[1].method
    found = method.step(outputs, batch)
    for k in range(2):
        expected = co_refine_loss(logits[k], logits[1 - k], soft_weight, 1.0, disagree_weight).mean()
        assert found.losses[k].item() == pytest.approx(expected.item(), rel=1e-6)
    assert found.records["selected"].tolist() == (logits[0].argmax(1) == logits[1].argmax(1)).tolist()
    assert found.records["refined_label"].tolist() == [logits[1].argmax(1).tolist(), logits[0].argmax(1).tolist()]


def test_confidence_from_reaches_both_recipes():
    for recipe in (core.recipe, self_refine.recipe):
        assert recipe(PLAN)[0].method.confidence_from == "base"
        assert recipe(PLAN, confidence_from="combined")[0].method.confidence_from == "combined"


def test_an_automatic_switch_is_bounded_to_the_middle_third_and_a_fixed_one_is_not_asked():
    first, second = core.recipe(make_plan("default", 12, "auto"))
    assert (first.min_epochs, first.epochs, second.epochs) == (4, 8, 4) and first.end_when is not None
    assert core.recipe(PLAN)[0].end_when is None


def test_only_cores_phase_is_watched_for_collapse():
    assert [phase.watch_collapse for phase in core.recipe(PLAN)] == [False, True]
    assert not self_refine.recipe(PLAN)[0].watch_collapse
