"""Which parameter learns how fast and decays, for real architectures of three families, against numbers written out."""

import pytest
import torch

from reid_core.engine.optim import OptimizerSettings, backbone_layers, build_optimizer, set_rate
from reid_core.errors import UsageError
from reid_core.models._neck import build_neck
from reid_core.models._network import Network, build_network

ADAMW = OptimizerSettings("adamw", 0.001, 1.0, 0.1, weight_decay=None)
# Head, last stage, ..., first stage, stem: 0.7 to the power of 0, 1, 2, 3, 4, 5.
BY_STAGE = {"head": 1, 3: 0.7, 2: 0.49, 1: 0.343, 0: 0.2401, "stem": 0.16807}


@pytest.fixture(scope="module")
def networks():
    small = {"resnet10t": 32, "convnext_atto": 32, "swin_tiny_patch4_window7_224": 56}
    return {arch: build_network(arch, 5, neck="fc512", neck_dim=8, image_size=(s, s)) for arch, s in small.items()}


def by_name(network, optimizer):
    names = {id(p): name for name, p in network.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert name not in found, f"{name} is in two groups"
            found[name] = group
    assert found.keys() == {name for name, p in network.named_parameters() if p.requires_grad}
    return found


def stage_of(name, stages):
    """Written out from the names alone: the neck and a last norm are the head's, a downsampling opens its stage."""
    words = name.removeprefix("backbone.").split(".")
    if name.startswith("neck.") or words[0] in ("norm", "head"):
        return "head"
    return int(words[1]) if words[0] == stages else "stem"


@pytest.mark.parametrize(("arch", "stages"), [("convnext_atto", "stages"), ("swin_tiny_patch4_window7_224", "layers")])
def test_swin_and_convnext_learn_slower_from_the_head_to_the_stem(arch, stages, networks):
    network = networks[arch]
    optimizer = build_optimizer(network, ADAMW)
    set_rate(optimizer, 0.5)
    groups = by_name(network, optimizer)
    seen = set()
    for name, group in groups.items():
        stage = stage_of(name, stages)
        seen.add(stage)
        assert group["base_lr"] == pytest.approx(0.001 * BY_STAGE[stage], rel=1e-9), name
        assert group["lr"] == pytest.approx(0.0005 * BY_STAGE[stage], rel=1e-9), name
    assert seen == set(BY_STAGE)
    downsampling = next(name for name in groups if "1.downsample" in name)
    assert groups[downsampling]["base_lr"] == pytest.approx(0.001 * 0.343)


def test_other_architectures_have_two_rates(networks):
    groups = by_name(networks["resnet10t"], build_optimizer(networks["resnet10t"], ADAMW))
    for name, group in groups.items():
        assert group["base_lr"] == pytest.approx(0.001 if name.startswith("neck.") else 0.0001), name
    forced = OptimizerSettings("sgd", 0.1, 2.0, layer_decay="on")
    groups = by_name(networks["resnet10t"], build_optimizer(networks["resnet10t"], forced))
    # layer4 is one below the head and layer1 four, whose rate is twice the base; the stem is five below.
    assert groups["backbone.layer4.0.conv1.weight"]["base_lr"] == pytest.approx(0.2 * 0.7)
    assert groups["backbone.layer1.0.conv1.weight"]["base_lr"] == pytest.approx(0.2 * 0.2401)
    assert groups["backbone.conv1.0.weight"]["base_lr"] == pytest.approx(0.2 * 0.16807)
    assert groups["neck.classifier.weight"]["base_lr"] == pytest.approx(0.2)


@pytest.mark.parametrize("arch", ["convnext_atto", "swin_tiny_patch4_window7_224"])
def test_layer_decay_can_be_forbidden(arch, networks):
    off = OptimizerSettings("sgd", 0.1, 10.0, layer_decay="off")
    groups = by_name(networks[arch], build_optimizer(networks[arch], off))
    assert {round(group["base_lr"], 9) for group in groups.values()} == {0.1, 1.0}


def test_by_block_every_block_is_a_step(networks):
    network = networks["convnext_atto"]  # blocks: 2, 2, 6, 2
    settings = OptimizerSettings("adamw", 1.0, 1.0, layer_decay="block")
    groups = by_name(network, build_optimizer(network, settings))
    assert groups["backbone.head.norm.weight"]["base_lr"] == 1.0
    assert groups["backbone.stages.3.blocks.1.gamma"]["base_lr"] == pytest.approx(0.9)
    assert groups["backbone.stages.3.blocks.0.gamma"]["base_lr"] == pytest.approx(0.81)
    assert groups["backbone.stages.2.blocks.5.gamma"]["base_lr"] == pytest.approx(0.729)
    assert groups["backbone.stages.0.blocks.0.gamma"]["base_lr"] == pytest.approx(0.9**12)
    assert groups["backbone.stem.0.weight"]["base_lr"] == pytest.approx(0.9**13)
    settings = OptimizerSettings("adamw", 1.0, 1.0, layer_decay="block", layer_decay_rate=0.5)
    assert by_name(network, build_optimizer(network, settings))["backbone.stem.0.weight"]["base_lr"] == 0.5**13


def test_adamw_spares_vectors_and_what_the_architecture_exempts(networks):
    for arch, decay in (("resnet10t", 0.01), ("convnext_atto", 0.05), ("swin_tiny_patch4_window7_224", 0.05)):
        network = networks[arch]
        exempt = {f"backbone.{n}" for n in getattr(network.backbone, "no_weight_decay", set)()}
        groups = by_name(network, build_optimizer(network, ADAMW))
        parameters = dict(network.named_parameters())
        for name, group in groups.items():
            spared = parameters[name].ndim < 2 or name in exempt
            assert group["weight_decay"] == (0.0 if spared else decay), name
        assert optimizer_kind(network, ADAMW) == ("AdamW", (0.9, 0.999), 1e-8)
    tables = [name for name in groups if name.endswith("relative_position_bias_table")]
    assert len(tables) == 12 and all(groups[name]["weight_decay"] == 0 for name in tables)
    given = OptimizerSettings("adamw", weight_decay=0.3)
    assert by_name(network, build_optimizer(network, given))["neck.classifier.weight"]["weight_decay"] == 0.3
    plain = by_name(networks["resnet10t"], build_optimizer(networks["resnet10t"], OptimizerSettings()))
    assert {group["weight_decay"] for group in plain.values()} == {5e-4}  # SGD as published: everything decays


def optimizer_kind(network, settings):
    optimizer = build_optimizer(network, settings)
    return type(optimizer).__name__, optimizer.defaults["betas"], optimizer.defaults["eps"]


def test_the_head_is_what_timm_leaves_out():
    network = build_network("vit_tiny_patch16_224", 3, neck="none", image_size=(32, 32))
    layers, top = backbone_layers(network.backbone, "vit", coarse=False)
    # Patch and position embeddings, twelve blocks, then the head: timm counts the last norm with the last block.
    assert (layers["pos_embed"], layers["blocks.0.norm1.weight"], layers["blocks.11.norm1.weight"]) == (0, 1, 12)
    assert (layers["norm.weight"], top) == (12, 13)


def test_layers_are_asked_of_an_architecture_that_has_none():
    network = Network(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4)), build_neck("none", 4, 2, 1, 0.0))
    network.arch = "mine"
    with pytest.raises(UsageError, match="--arch mine does not say what its layers are.*--layer_decay off"):
        build_optimizer(network, OptimizerSettings(layer_decay="on"))
