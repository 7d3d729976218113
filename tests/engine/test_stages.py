"""Two stages: which phases a run has, what either stage alone walks, and runs of them."""

import json

import numpy as np
import pytest
from training_help import TINY, metrics, train, weights

from reid_core.config import merge
from reid_core.engine.phases import PhaseWalk
from reid_core.engine.resolve import recipe_of, resolve
from reid_core.engine.stages import part_asked_for
from reid_core.errors import UsageError
from reid_core.plugins import names

METHODS = names("reid_core.methods")


def config(**settings):
    return resolve(merge([TINY, {"epochs": 12, "switch": "8"}, settings]))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_have_a_first_stage(name):
    plain = recipe_of(config(method=name))
    first, *rest = recipe_of(config(method=name, stage1_epochs=5, stage1_lr=0.3))
    assert first.frozen and (first.epochs, first.lr, first.end_when) == (5, 0.3, None)
    assert type(first.method) is type(plain[0].method)
    assert first.method is not rest[0].method  # the ramps of the second stage begin anew
    assert [(p.name, p.epochs, p.frozen, p.lr) for p in rest] == [(p.name, p.epochs, False, None) for p in plain]
    # The rate of the run falls 5 epochs later, that of the first stage not at all.
    walk, before = PhaseWalk([first, *rest]), PhaseWalk(plain)
    assert walk.epochs == 17 and [walk.rate(e) for e in range(5)] == [1.0] * 5
    assert [walk.rate(e + 5) for e in range(12)] == [before.rate(e) for e in range(12)]


def test_no_first_stage_unless_asked_for():
    assert [phase.frozen for phase in recipe_of(config(method="peer"))] == [False]


@pytest.mark.parametrize(
    ("settings", "phases", "first"),
    [
        ({"method": "peer", "stage1_epochs": 5}, 2, 0),
        ({"method": "peer", "stage1_epochs": 5, "stage1": True}, 1, 0),
        ({"method": "peer", "stage1_epochs": 5, "stage2": True}, 2, 1),
        ({"method": "peer", "stage1_epochs": 5, "plain_epochs": 2, "stage2": True}, 3, 1),
        ({"method": "core", "stage1": True}, 1, 0),
        ({"method": "core", "stage2": True}, 2, 1),
        ({"method": "core", "stage1_epochs": 5, "stage2": True}, 3, 1),
    ],
)
def test_either_stage_alone(settings, phases, first):
    asked = config(**settings, **({"from_self": ("x",)} if settings.get("stage2") else {}))
    walked, position = part_asked_for(recipe_of(asked), asked)
    assert (len(walked), position) == (phases, first)


def test_stages_that_there_are_not():
    for stage, more in (("stage1", {}), ("stage2", {"from_self": ("x",)})):
        asked = config(method="peer", **{stage: True}, **more)
        with pytest.raises(UsageError, match=f"--{stage}: --method peer has one phase; --stage1_epochs"):
            part_asked_for(recipe_of(asked), asked)
    with pytest.raises(UsageError, match="exclude each other"):
        config(stage1=True, stage2=True, from_self=("x",))
    with pytest.raises(UsageError, match="--stage1_lr must be a positive number"):
        config(stage1_epochs=1, stage1_lr=0.0)
    with pytest.raises(UsageError, match="--stage1_epochs must be at least 0"):
        config(stage1_epochs=-1)


STAGES = {"method": "peer", "stage1_epochs": 1, "stage1_lr": 0.1, "epochs": 2, "switch": "1", "drop_ramp": 1}


@pytest.fixture(scope="module")
def both(tiny_market, tmp_path_factory):
    """A run of both stages."""
    return train(tiny_market, tmp_path_factory.mktemp("runs"), "both", **STAGES)[0]


def test_both_stages_in_one_run(both):
    lines = metrics(both)
    assert [line["phase_name"] for line in lines] == ["heads (peer)", "peer", "peer"]
    assert [line["method"]["drop_rate"] for line in lines] == [0.0, 0.0, 0.25]
    assert (both / "checkpoints" / "phase_0.safetensors").is_file()
    assert json.loads((both / "result.json").read_text())["epochs"] == 3


def test_a_run_goes_on_at_its_second_stage(both, tiny_market, tmp_path):
    """Stage 1 alone ends where the whole run's did; stage 2 from either trains what was left."""
    alone, _ = train(tiny_market, tmp_path, "first", **STAGES, stage1=True)
    assert [line["losses"] for line in metrics(alone)] == [metrics(both)[0]["losses"]]
    for source in (both, alone):
        second, _ = train(
            tiny_market, tmp_path, f"second-{source.name}", **STAGES, stage2=True, from_self=(str(source),)
        )
        lines = metrics(second)
        assert [(line["epoch"], line["phase_name"]) for line in lines] == [(1, "peer"), (2, "peer")]
    a, b = weights(tmp_path / "second-both"), weights(tmp_path / "second-first")
    for name, array in a.items():
        np.testing.assert_array_equal(b[name], array, err_msg=name)


def test_the_backbone_rests_in_the_first_stage(both, tiny_market, tmp_path):
    """The backbone of both networks, its statistics too, ends as the seed made it; what stands on it does not."""
    from reid_core.engine.trainer import Trainer

    start = {}
    with pytest.MonkeyPatch.context() as patch:
        fit = Trainer.fit

        def remember(trainer):
            start.update(
                {
                    f"net{k}.{n}": t.clone().numpy()
                    for k, net in enumerate(trainer.networks)
                    for n, t in net.state_dict().items()
                }
            )
            fit(trainer)

        patch.setattr(Trainer, "fit", remember)
        folder, _ = train(tiny_market, tmp_path, "first", **STAGES, stage1=True)
    end = weights(folder)
    changed = {name for name, array in start.items() if not np.array_equal(end[name], array)}
    assert any("classifier" in name for name in changed)
    resting = {name for name in start if ".backbone." in name}
    assert resting and not changed & resting
