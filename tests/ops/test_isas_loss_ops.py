"""Every instruction set of this machine keeps the bars; REID_CORE_ISA chooses one."""

import pytest
import torch
from loss_cases import CLASSES, DTYPES, LOSSES, assert_within_the_bars, built, random_logits

from eval_lib import _native

pytestmark = built
module, _ = _native._load()
ISAS = sorted(module.isas()) if module else ["plain"]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_of_the_definition(name, isa, monkeypatch):
    monkeypatch.setenv("REID_CORE_ISA", isa)
    for dtype in DTYPES:
        for classes in CLASSES:
            assert_within_the_bars(name, *random_logits(3, classes, dtype))
    assert_within_the_bars(name, *random_logits(3, 4099, scale=1e4))
    assert_within_the_bars(name, *random_logits(2, 50_000, scale=0.5))
    a, b = random_logits(4, 600)
    a[:, ::3] = b[1::2, ::3] = -torch.inf
    if name not in ("smoothed", "balanced_smoothed"):  # infinite, and their gradients may be anything
        assert_within_the_bars(name, a, b)


def test_the_sets_differ(monkeypatch):
    """Else the variable is not looked at: with and without one rounding a step, some last bit changes."""
    a, b = random_logits(50, 1000)
    found = set()
    for isa in ISAS:
        monkeypatch.setenv("REID_CORE_ISA", isa)
        found.add(torch.ops.reid_core.co_refine_pair(a, b, 1.0, 1.0, 1.0)[0].numpy().tobytes())
    assert len(found) >= min(2, len(ISAS))


def test_an_unknown_set_is_named(monkeypatch):
    monkeypatch.setenv("REID_CORE_ISA", "abacus")
    with pytest.raises(RuntimeError, match="REID_CORE_ISA is 'abacus'; this machine has plain"):
        torch.ops.reid_core.confidence_penalty(torch.zeros(2, 3))
