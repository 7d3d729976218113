"""Whole runs learn alike whether compiled ops, plain PyTorch or chunks of classes work out the losses."""

import pytest
import torch
from training_help import metrics, train

from reid_core import ops
from reid_core.losses import linear_co_refine, linear_cross_entropy

SLOW = {"lr": 0.005}
FIGURES = ("losses", "given_loss", "confidence")  # shares of images jump where one prediction does


def learning_curve(folder):
    """Figures of both networks in every epoch: SELF in the first two, CORE in the others."""
    lines = metrics(folder)
    assert [line["phase_name"] for line in lines] == ["self_refine", "self_refine", "core", "core"]
    return [value for line in lines for name in FIGURES for value in torch.tensor(line[name]).flatten().tolist()]


@pytest.fixture(scope="module")
def plain_curve(tiny_market, tmp_path_factory):
    """The curve of plain PyTorch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ops, "use_native", lambda device_type, backend="auto": False)
        folder, _ = train(tiny_market, tmp_path_factory.mktemp("runs"), "plain", **SLOW)
    return learning_curve(folder)


def assert_same(curve, plain_curve):
    """Losses fall by hundredths at the small rate, at which rounding does not grow: a wrong gradient shows."""
    assert curve == pytest.approx(plain_curve, rel=1e-4)


@pytest.mark.skipif(bool(ops.why_missing()), reason=f"no ops: {ops.why_missing()}")
def test_compiled_ops_are_the_default_and_give_the_same_curve(tiny_market, tmp_path, monkeypatch, plain_curve):
    calls = []
    real = ops.co_refine_pair
    monkeypatch.setattr(ops, "co_refine_pair", lambda *args, **more: calls.append(1) or real(*args, **more))
    folder, _ = train(tiny_market, tmp_path, "compiled", **SLOW)
    assert len(calls) == 12  # two epochs of six batches
    assert_same(learning_curve(folder), plain_curve)


def test_chunks_of_classes_give_the_same_curve(tiny_market, tmp_path, monkeypatch, plain_curve):
    calls = []
    for module, name in ((linear_co_refine, "linear_loss"), (linear_cross_entropy, "linear_loss")):
        real = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda loss, classifiers, chunk, real=real: calls.append(1) or real(loss, classifiers, 3)
        )
    folder, _ = train(tiny_market, tmp_path, "chunks", **SLOW, chunk_classes=0)
    assert len(calls) == 36  # two epochs of six batches with a loss each for two networks, and two with one for both
    assert_same(learning_curve(folder), plain_curve)


def test_another_loss_gives_another_curve(tiny_market, tmp_path, plain_curve):
    folder, _ = train(tiny_market, tmp_path, "selective", **SLOW, selective=True)
    with pytest.raises(AssertionError):
        assert_same(learning_curve(folder), plain_curve)
