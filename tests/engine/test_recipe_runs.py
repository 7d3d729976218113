"""Whole runs with the parts of the recipe: two kinds of network, growing images, averages, frozen phases."""

import json

import numpy as np
import pytest
import torch
from training_help import SilentScreen, metrics, train, weights

from reid_core.engine.loading import load_networks
from reid_core.engine.signals import StopRequest
from reid_core.errors import CheckpointError, Interrupted, UsageError
from reid_core.methods import baseline
from reid_core.types import Phase

EVERYTHING = {
    "arch": ("test_vit", "test_resnet"),
    "neck": "bnneck",
    "optimizer": "adamw",
    "lr": 0.002,
    "new_layer_mult": 1.0,
    "lr_schedule": "cosine",
    "warmup_epochs": 1.0,
    "clip_grad": 1.0,
    "accumulate": 2,
    "ema": 0.9,
    "augment": "classes",
    "image_size": (32, 32),
    "small_size": (16, 16),
    "small_share": 0.5,
    "layer_decay": "on",
    "eval_every": 2,
}


@pytest.fixture(scope="module")
def everything(tiny_market, tmp_path_factory):
    return train(tiny_market, tmp_path_factory.mktemp("runs"), "whole", **EVERYTHING)[0]


def test_two_kinds_of_network_learn_and_their_averages_are_measured_beside_them(everything):
    result, lines = json.loads((everything / "result.json").read_text()), metrics(everything)
    assert len(result["networks"]) == len(result["ema"]["networks"]) == 2
    assert result["ema"]["mAP"] == lines[-1]["ema"]["evaluation"]["mAP"] != result["mAP"]
    assert result["mAP"] == lines[-1]["evaluation"]["mAP"]
    assert [line["image_size"] for line in lines] == [[16, 16]] * 2 + [[32, 32]] * 2
    assert lines[1]["losses"][0] < lines[0]["losses"][0]
    # One epoch of three updates warms up; then a cosine over three epochs, the rates as they were in the last update.
    head = [max(line["lr"][0]) / 0.002 for line in lines]
    expected = [1.0, *((1 + np.cos(np.pi * (e - 1 + 2 / 3) / 3)) / 2 * 0.99 + 0.01 for e in (1, 2, 3))]
    assert head == pytest.approx(expected)
    assert [len(line["lr"]) for line in lines] == [2] * 4 and lines[0]["lr"][0] != lines[0]["lr"][1]


def test_the_run_can_be_loaded_and_measured_at_each_of_its_sizes(everything):
    last = load_networks(everything)
    assert last.identity["arch"] == ["test_vit", "test_resnet"] and last.identity["image_size"] == [32, 32]
    assert type(last.networks[0].backbone) is not type(last.networks[1].backbone)
    assert load_networks(everything, "phase_0").identity["image_size"] == [16, 16]
    averaged = load_networks(everything, averaged=True)
    one, other = (found.networks[1].neck.classifier.weight for found in (last, averaged))
    assert not torch.equal(one, other)
    assert torch.equal(other, torch.from_numpy(weights(everything)["ema1.neck.classifier.weight"]))
    assert last.networks[0].normalise is not None  # timm's ViT wants 0.5, 0.5, 0.5


@pytest.mark.parametrize(("epoch", "step"), [(0, 3), (1, 6), (2, 4)])
def test_with_everything_on_interrupted_and_resumed_is_uninterrupted(epoch, step, everything, tiny_market, tmp_path):
    stop = StopRequest()
    screen = SilentScreen(lambda e, s: setattr(stop, "requested", 15 if (e, s) == (epoch, step) else stop.requested))
    with pytest.raises(Interrupted):
        train(tiny_market, tmp_path, "cut", screen=screen, stop=stop, **EVERYTHING)
    # Two batches make an update: step 3 is in the middle of one, and the run stops when it is done.
    assert screen.steps[-1] == (epoch, step + step % 2)
    again, screen = train(tiny_market, tmp_path, "cut", resume=True, **EVERYTHING)
    assert len(screen.steps) < 24
    assert metrics(again) == metrics(everything)
    mine, theirs = weights(again), weights(everything)
    assert mine.keys() == theirs.keys()
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


def test_gathered_batches_equal_larger_ones_without_batch_norm(tiny_market, tmp_path):
    """48 images: updates of 10, 10, 10, 10 and 8, the last from batches of 5 and 3."""
    settings = {"arch": "test_convnext", "neck": "none", "method": "baseline", "epochs": 2, "switch": "1", "lr": 0.01}
    settings["image_size"] = (32, 32)
    large, _ = train(tiny_market, tmp_path, "large", batchsize=10, **settings)
    small, _ = train(tiny_market, tmp_path, "small", batchsize=5, accumulate=2, **settings)
    one, other = weights(large), weights(small)
    for name in (name for name in one if name.startswith("net0.")):
        np.testing.assert_allclose(other[name], one[name], rtol=1e-3, atol=2e-5, err_msg=name)


def test_a_frozen_phase_has_its_own_rate_and_size_and_moves_the_head_alone(tiny_market, tmp_path, monkeypatch):
    def recipe(plan):
        method, rate = baseline.Baseline(), plan.single_phase_rate()
        return [
            Phase("head", method, 2, rate, frozen=True, lr=0.2, image_size=(16, 16)),
            Phase("all", method, 2, rate),
        ]

    monkeypatch.setattr(baseline, "recipe", recipe)
    settings = {"method": "baseline", "switch": "4", "optimizer": "adamw", "weight_decay": 0.5, "backbone_mult": 0.1}
    folder, _ = train(tiny_market, tmp_path, "r", **settings)
    lines = metrics(folder)
    assert [max(line["lr"][0]) for line in lines] == pytest.approx([0.2, 0.2, 0.05, 0.05])
    assert [line["image_size"] for line in lines] == [[16, 16]] * 2 + [[32, 16]] * 2
    first = load_networks(folder, "phase_0").networks[0].state_dict()
    # What the seed gives is what the frozen phase leaves behind, batch norm's statistics included.
    from reid_core.models._network import build_network

    start = build_network("test_resnet", 8, neck="fc512", neck_dim=32, image_size=(32, 16), seed=1).state_dict()
    moved = {name for name in first if not torch.equal(first[name], start[name])}
    assert moved and all(name.startswith("neck.") for name in moved)
    last = load_networks(folder).networks[0].state_dict()
    assert not torch.equal(last["backbone.conv1.0.weight"], start["backbone.conv1.0.weight"])


def test_the_best_epoch_is_chosen_among_those_of_the_last_size():
    from reid_core.engine.validation import best_epoch, reported

    lines = [
        {"epoch": e, "image_size": [s, s], "validation": {"networks": [{"mAP": m}]}, "ema": {"evaluation": {"mAP": e}}}
        for e, (s, m) in enumerate([(16, 0.9), (16, 0.95), (32, 0.5), (32, 0.6), (32, 0.55)])
    ]
    assert [best_epoch(lines[:n]) for n in range(1, 6)] == [0, 1, 2, 3, 3]
    assert reported(lines)["chosen_epoch"] == 3 and reported(lines)["ema"] == {"mAP": 3}


def test_the_baseline_that_makes_a_pattern_is_one_network(tiny_market, tmp_path):
    settings = {"arch": ("test_resnet", "test_convnext"), "noise": "patterned", "epochs": 1, "switch": "1"}
    settings["image_size"] = (32, 32)
    folder, _ = train(tiny_market, tmp_path, "p", **settings)
    assert json.loads((tmp_path / "p-pattern" / "config.json").read_text())["config"]["arch"] == ["test_resnet"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "baseline", "arch": ("test_resnet", "test_vit")}, "--arch test_resnet test_vit: --method baseline"),
        ({"method": "baseline", "weights": ("none", "none")}, "--weights none none: .*trains one network"),
        ({"weights": ("none",) * 3}, "trains 2 networks; give one, or one for each"),
        ({"arch": ("test_resnet", "test_restnet")}, "no such architecture.*test_resnet"),
        ({"arch": "test_vit", "image_size": (50, 32)}, "50 x 32: .*nearest sizes it takes are --image_size 48 32 and"),
        ({"arch": "test_vit", "image_size": (32, 32), "small_size": (20, 16)}, "20 x 16: .*--image_size 16 16"),
        ({"amp": "fp16"}, "--amp fp16: cpu does not"),
        ({"ema": 1.0}, "--ema"),
        ({"layer_decay_rate": 0.0}, "--layer_decay_rate"),
        ({"accumulate": 0}, "--accumulate"),
        ({"random_erasing": 1.5}, "--random_erasing"),
        ({"small_size": (4, 4)}, "--small_size"),
    ],
)
def test_refused_before_anything_is_trained(settings, words, tiny_market, tmp_path):
    screen = SilentScreen()
    with pytest.raises(UsageError, match=words):
        train(tiny_market, tmp_path / "runs", "r", screen=screen, **settings)
    assert not screen.steps and not (tmp_path / "runs").exists()


def test_weights_for_each_network(tiny_market, tmp_path):
    files = []
    for k, arch in enumerate(("test_resnet", "test_convnext")):
        import timm
        from safetensors.torch import save_file

        model = timm.create_model(arch, num_classes=0)
        torch.nn.init.constant_(list(model.parameters())[-1], 0.5 + k)
        files.append(str(tmp_path / f"{arch}.safetensors"))
        save_file(model.state_dict(), files[-1])
    settings = {
        "arch": ("test_resnet", "test_convnext"),
        "weights": tuple(files),
        "epochs": 1,
        "switch": "1",
        "lr": 1e-9,
    }
    settings["image_size"] = (32, 32)
    folder, _ = train(tiny_market, tmp_path, "r", **settings)
    networks = load_networks(folder).networks
    for k, network in enumerate(networks):
        last = list(network.backbone.parameters())[-1]
        torch.testing.assert_close(last, torch.full_like(last, 0.5 + k), rtol=1e-4, atol=1e-4)
    with pytest.raises(CheckpointError, match="does not fit"):
        train(tiny_market, tmp_path, "x", **{**settings, "weights": tuple(files[::-1])})


def test_position_tables_of_a_file_are_fitted_to_other_image_sizes(tiny_market, tmp_path):
    """timm's own resampling of the table for 160 x 160 is what the network starts from at 32 x 32."""
    import timm
    from safetensors.torch import save_file

    model = timm.create_model("test_vit", num_classes=0)
    torch.nn.init.normal_(model.pos_embed)
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    model.set_input_size(img_size=(32, 32))
    settings = {"arch": "test_vit", "weights": str(tmp_path / "vit.safetensors"), "method": "baseline", "lr": 1e-9}
    folder, screen = train(tiny_market, tmp_path, "r", image_size=(32, 32), epochs=1, switch="1", **settings)
    found = load_networks(folder).networks[0].backbone.pos_embed
    torch.testing.assert_close(found, model.pos_embed, rtol=1e-4, atol=1e-4)
    assert not any("of another shape" in note for note in screen.notes)


def test_a_run_of_an_earlier_version_is_read_as_it_was(tiny_market, tmp_path):
    """One name for both networks, ImageNet's normalisation: its networks are measured on the images they know."""
    from reid_core.engine.checkpoint import CheckpointFolder

    folder, _ = train(tiny_market, tmp_path, "r", epochs=1, switch="1", normalisation="imagenet")
    checkpoints = CheckpointFolder(folder / "checkpoints")
    last = checkpoints.load("last")
    identity = {k: v for k, v in last.meta["identity"].items() if k not in ("normalisation", "view")}
    meta = {k: v for k, v in last.meta.items() if k not in ("learners", "image_size")}
    checkpoints.save(last.tensors, {**meta, "identity": {**identity, "arch": "test_resnet"}})
    networks = load_networks(folder).networks
    assert len(networks) == 2 and all(network.normalise is None for network in networks)
    again, _ = train(tiny_market, tmp_path, "r", resume=True, epochs=1, switch="1", normalisation="imagenet")
    assert (again / "result.json").is_file()
    with pytest.raises(CheckpointError, match="normalisation of the images: imagenet in the checkpoint, timm now"):
        train(tiny_market, tmp_path, "r", resume=True, epochs=1, switch="1")
