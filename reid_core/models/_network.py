"""A timm backbone, a neck and a classifier become one network that gives ``NetOutput``."""

from __future__ import annotations

import copy
import warnings
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from reid_core.errors import UsageError
from reid_core.models._input import Size, largest_window, renormalise, set_input_size, too_odd
from reid_core.models._neck import NECKS, build_neck, count_features, keep_last_resolution
from reid_core.plugins import closest, load, names
from reid_core.randomness import stream_seed
from reid_core.types import Classifier, NetOutput

CHUNK_CLASSES = 250_000
"""With more classes, losses are worked out in chunks of classes. Up to here logits, probabilities and gradients of two networks
and a batch of 64 take less than half a gigabyte, and are faster."""


class Network(nn.Module):
    """Images to logits and embedding.

    Attributes:
        backbone: (B, 3, H, W) to (B, F) pooled features.
        neck: (B, F) to what its ``classifier`` is given, and embedding (B, D).
        chunk_classes: with more classes than this no logits are made, but the classifier is handed on.
        normalise: what stands before the backbone where it wants its images otherwise than normalised for ImageNet.
        arch: the name that the backbone was built by.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        chunk_classes: int = CHUNK_CLASSES,
        normalise: nn.Module | None = None,
        arch: str = "",
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.backbone = backbone
        self.neck = neck
        self.chunk_classes = chunk_classes
        self.arch = arch
        self._window = largest_window(backbone)

    def forward(self, images: Tensor) -> NetOutput:
        """(B, 3, H, W) float, normalised for ImageNet, to ``NetOutput``; the same in training and evaluation mode."""
        if self.normalise is not None:
            images = self.normalise(images)
        features, embedding = self.neck(torch.flatten(self.backbone(images), 1))
        classifier = cast(nn.Linear, self.neck.classifier)
        if len(classifier.weight) > self.chunk_classes:
            return NetOutput(None, embedding, Classifier(features, classifier.weight, classifier.bias))
        return NetOutput(classifier(features), embedding)

    def set_image_size(self, size: Size) -> None:
        """Make the backbone ready for images of (height, width) ``size``. Its position tables may become new parameters.

        Raises:
            UsageError: it cannot take them; the nearest sizes it can are offered. The network is then of no use.
        """
        reason = self._resize(self.backbone, size)
        if reason:
            raise too_odd(self.arch, size, reason, lambda other: not self._resize(copy.deepcopy(self.backbone), other))

    def _resize(self, backbone: nn.Module, size: Size) -> str:
        """Why ``backbone`` cannot be made ready for ``size``; empty if it is now."""
        try:
            set_input_size(backbone, size, self._window)
            features = count_features(backbone, *size)
        except (RuntimeError, ValueError, AssertionError) as error:
            return str(error) or "its layers do not fit"
        wanted = next((m.in_features for m in self.neck.modules() if isinstance(m, nn.Linear)), features)
        return "" if features == wanted else f"it would give {features} features instead of {wanted}"


def build_network(
    arch: str,
    num_classes: int,
    *,
    neck: str = "bnneck",
    neck_dim: int = 512,
    dropout: float = 0.5,
    image_size: tuple[int, int] = (256, 128),
    pretrained: bool = False,
    seed: int = 0,
    position: int = 0,
    chunk_classes: int = CHUNK_CLASSES,
    normalisation: str = "imagenet",
) -> Network:
    """Build network number ``position`` of a run.

    Args:
        arch: a module of ``reid_core.models`` with ``build``, or any timm name.
        num_classes: C.
        neck: fc512, bnneck or none.
        neck_dim, dropout: of the fc512 neck.
        image_size: (height, width) of the images that it will see.
        pretrained: ask timm's hub for ImageNet weights. This uses the network.
        seed, position: the initial weights depend on both, so that two networks differ.
        chunk_classes: see ``Network``.
        normalisation: ``timm``: images as the architecture's own configuration wants them; ``imagenet``: all alike.

    Raises:
        UsageError: unknown name (the closest are offered), a size the architecture cannot take, or no network.
    """
    if neck not in NECKS:
        raise UsageError(f"--neck must be one of {', '.join(NECKS)}, got {neck!r}")
    check_architecture(arch)
    height, width = image_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "init", position))
        try:
            backbone = _backbone(arch, image_size, pretrained)
            if neck == "bnneck":
                keep_last_resolution(backbone)
            features = count_features(backbone, height, width)
        except UsageError:  # of the weights; the size has no part in it
            raise
        except (RuntimeError, ValueError, AssertionError) as error:
            raise too_odd(arch, image_size, str(error), lambda size: _takes(arch, size)) from error
        head = build_neck(neck, features, num_classes, neck_dim, dropout)
        return Network(backbone, head, chunk_classes, renormalise(arch, normalisation), arch)


def _takes(arch: str, size: Size) -> bool:
    """Whether a network called ``arch`` can be built for images of ``size``; tried, as nothing else tells."""
    try:
        count_features(_backbone(arch, size, pretrained=False), *size)
    except (RuntimeError, ValueError, AssertionError, UsageError):
        return False
    return True


def check_architecture(arch: str) -> None:
    """Refuse a name that neither this package nor timm knows, before anything else is done.

    Raises:
        UsageError: the closest names are offered.
    """
    known = timm.list_models()
    if arch not in names("reid_core.models") and arch.split(".")[0] not in known:
        raise UsageError(
            f"--arch {arch}: timm has no such architecture.{closest(arch, known)} "
            "timm.list_models() in Python lists all of them"
        )


def _backbone(arch: str, image_size: tuple[int, int], pretrained: bool) -> nn.Module:
    if arch in names("reid_core.models"):
        module: nn.Module = load("reid_core.models", arch).build(image_size=image_size)
        return module
    config = timm.models.get_pretrained_cfg(arch)
    options: dict[str, Any] = {"img_size": image_size} if config is not None and config.fixed_input_size else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return timm.create_model(arch, pretrained=pretrained, num_classes=0, **options)
    except Exception as error:
        if not pretrained or isinstance(error, AssertionError):  # timm asserts what sizes can be
            raise ValueError(str(error) or type(error).__name__) from error
        raise UsageError(
            f"--weights imagenet: the weights of {arch} could not be fetched ({type(error).__name__}: {error}). "
            "Without a network, download a state dict elsewhere and give it as --weights FILE, or use --weights none"
        ) from error
