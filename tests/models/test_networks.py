"""Networks of three families, necks as published, and initial weights that follow their seed alone."""

import warnings

import pytest
import timm
import torch

from reid_core.errors import UsageError
from reid_core.models._input import set_input_size
from reid_core.models._network import build_network
from reid_core.types import NetOutput


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit", "test_efficientnet"])
@pytest.mark.parametrize("neck", ["fc512", "bnneck", "none"])
def test_output_has_the_same_type_in_both_modes(arch, neck):
    network = build_network(arch, 7, neck=neck, neck_dim=16, image_size=(64, 32))
    images = torch.randn(3, 3, 64, 32)
    for mode in (True, False):
        output = network.train(mode)(images)
        assert output.logits.shape == (3, 7)
        assert output.embedding.shape[0] == 3 and output.embedding.ndim == 2
    assert network.eval()(images[:1]).embedding.shape[0] == 1


def test_fc512_as_published():
    network = build_network("test_resnet", 11, neck="fc512", neck_dim=512, image_size=(32, 32))
    neck, features = network.neck, network.neck.linear.in_features
    assert [type(m).__name__ for m in neck.children()] == ["Linear", "BatchNorm1d", "LeakyReLU", "Dropout", "Linear"]
    assert neck.activation.negative_slope == 0.1 and neck.dropout.p == 0.5
    assert neck.linear.weight.shape == (512, features) and neck.classifier.weight.shape == (11, 512)
    assert neck.linear.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.05)  # Kaiming, fan out
    assert neck.norm.weight.mean().item() == pytest.approx(1, abs=0.01)
    assert neck.norm.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert neck.classifier.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert not neck.linear.bias.any() and not neck.classifier.bias.any()
    # The bottleneck exists for training alone: the embedding is its input.
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network.eval()(images).embedding, network.backbone(images))


def test_bnneck_as_published():
    network = build_network("resnet10t", 5, neck="bnneck", image_size=(64, 32))
    assert network.neck.classifier.bias is None and not network.neck.norm.bias.requires_grad
    # Last stride 1: 64 x 32 pixels give 4 x 2 positions, not 2 x 1.
    assert network.backbone.forward_features(torch.randn(1, 3, 64, 32)).shape[2:] == (4, 2)
    plain = build_network("resnet10t", 5, neck="fc512", image_size=(64, 32))
    assert plain.backbone.forward_features(torch.randn(1, 3, 64, 32)).shape[2:] == (2, 1)


def test_the_unused_imagenet_classifier_is_gone():
    network = build_network("test_resnet", 5, image_size=(32, 32))
    assert not [name for name, _ in network.backbone.named_parameters() if name.startswith(("fc.", "head.fc"))]


def test_initial_weights_depend_on_seed_and_position_alone():
    def first(seed, position):
        return build_network("test_resnet", 5, image_size=(32, 32), seed=seed, position=position).state_dict()

    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = first(1, 0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    two = first(1, 0)
    assert all(torch.equal(one[name], two[name]) for name in one)
    key = "neck.classifier.weight"
    assert not torch.equal(one[key], first(1, 1)[key]) and not torch.equal(one[key], first(2, 0)[key])


def test_mistakes_are_named():
    with pytest.raises(UsageError, match="resnet18"):
        build_network("resnet_18", 5)
    with pytest.raises(UsageError, match="fc512, bnneck, none"):
        build_network("resnet18", 5, neck="neck")
    assert "test_resnet" in timm.list_models()


@pytest.mark.parametrize("neck", ["fc512", "bnneck", "none"])
def test_too_many_classes_make_no_logits_before_they_are_asked_for(neck):
    made = [
        build_network("test_resnet", 7, neck=neck, neck_dim=16, image_size=(64, 32), chunk_classes=limit).eval()
        for limit in (7, 6)
    ]
    made[1].load_state_dict(made[0].state_dict())
    images = torch.randn(3, 3, 64, 32)
    plain, chunked = (network(images).float() for network in made)
    assert plain.classifier is None and chunked.made_logits is None
    torch.testing.assert_close(chunked.logits, plain.logits)
    torch.testing.assert_close(chunked.embedding, plain.embedding)


def test_an_output_needs_logits_or_a_classifier():
    with pytest.raises(ValueError, match="neither logits nor a classifier"):
        NetOutput(None, torch.zeros(2, 3)).logits  # noqa: B018


def test_images_are_normalised_as_the_architecture_wants_them():
    pixels = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    mean, std = (
        torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    given = ((pixels - mean) / std).float()
    wanted = ((pixels - 0.5) / 0.5).float()  # timm's configuration of test_vit
    network = build_network("test_vit", 3, neck="none", image_size=(32, 32), normalisation="timm").eval()
    torch.testing.assert_close(network.normalise(given), wanted)
    torch.testing.assert_close(network(given).embedding, network.backbone(wanted), rtol=1e-4, atol=1e-5)
    assert not [name for name in network.state_dict() if name.startswith("normalise")]  # old checkpoints still fit
    for arch, normalisation in (("resnet10t", "timm"), ("test_vit", "imagenet")):
        assert build_network(arch, 3, image_size=(32, 32), normalisation=normalisation).normalise is None


def test_swin_keeps_its_window_when_the_images_grow():
    from reid_core.models._input import common_interpolation

    network = build_network("swin_tiny_patch4_window7_224", 3, neck="none", image_size=(224, 224)).eval()
    before = dict(network.named_parameters())
    with torch.no_grad():
        network.set_image_size((256, 128))
        assert network(torch.zeros(1, 3, 256, 128)).logits.shape == (1, 3)
    assert network.backbone.layers[0].blocks[0].window_size == (7, 7)
    changed = {name for name, p in network.named_parameters() if p.shape != before[name].shape}
    assert all(name.startswith("backbone.layers.3.") for name in changed)  # 8 x 4 positions are fewer than a window
    assert common_interpolation(["swin_tiny_patch4_window7_224", "resnet10t"]) == "bicubic"
    assert (
        common_interpolation(["test_resnet"]) == "bilinear"
        and common_interpolation(["test_resnet", "resnet10t"]) == "bicubic"
    )


def test_what_timm_warns_of_while_tables_are_made_anew_is_not_shown(recwarn):
    class Told(torch.nn.Linear):
        def set_input_size(self, img_size):
            warnings.warn("a matter between timm and torch", stacklevel=1)
            self.told = img_size

    backbone = Told(2, 2)
    set_input_size(backbone, (32, 16), None)
    assert backbone.told == (32, 16) and not recwarn.list


def test_weights_that_cannot_be_fetched_are_not_blamed_on_the_image_size(monkeypatch):
    def unreachable(*args, **more):
        raise OSError("no connection")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(
        UsageError, match=r"^--weights imagenet: the weights of resnet10t could not be fetched \(OSError"
    ):
        build_network("resnet10t", 3, image_size=(32, 32), pretrained=True)
