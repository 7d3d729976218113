"""What stands between the pooled features and the classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn

NECKS = ("fc512", "bnneck", "none")


class BottleneckNeck(nn.Module):
    """``fc512``: linear, batch norm, leaky ReLU and dropout, for training alone; the test embedding is its input.

    Reference:
        the released program of M. Ye et al., IEEE TIP 31, 2022 (their paper says ReLU, the program LeakyReLU 0.1).
    """

    def __init__(self, features: int, width: int, num_classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.linear = nn.Linear(features, width)
        self.norm = nn.BatchNorm1d(width)
        self.activation = nn.LeakyReLU(0.1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, num_classes)
        nn.init.kaiming_normal_(self.linear.weight, mode="fan_out")
        nn.init.zeros_(self.linear.bias)
        nn.init.normal_(self.norm.weight, 1.0, 0.02)
        nn.init.normal_(self.classifier.weight, std=0.001)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(B, F) pooled features to what the classifier is given, (B, width), and the (B, F) embedding."""
        return self.dropout(self.activation(self.norm(self.linear(pooled)))), pooled


class BatchNormNeck(nn.Module):
    """``bnneck``: batch norm with its bias fixed at 0, then a classifier without bias; its output is the embedding.

    Reference:
        H. Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", CVPRW 2019.
    """

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(features)
        self.norm.bias.requires_grad_(False)
        self.classifier = nn.Linear(features, num_classes, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(B, F) pooled features to what the classifier is given and the embedding: one (B, F) for both."""
        embedding = self.norm(pooled)
        return embedding, embedding


class PlainNeck(nn.Module):
    """``none``: the classifier alone; the pooled features are the embedding."""

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(features, num_classes)
        nn.init.normal_(self.classifier.weight, std=0.001)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(B, F) pooled features to what the classifier is given and the embedding: they are both."""
        return pooled, pooled


def build_neck(name: str, features: int, num_classes: int, width: int, dropout: float) -> nn.Module:
    """The neck called ``name``, freshly initialised from torch's generator; fc512 alone has a width and dropout."""
    if name == "fc512":
        return BottleneckNeck(features, width, num_classes, dropout)
    return {"bnneck": BatchNormNeck, "none": PlainNeck}[name](features, num_classes)


def keep_last_resolution(backbone: nn.Module) -> None:
    """Set the last stage of a ResNet to stride 1, so that 256 x 128 pixels give 16 x 8 positions.

    Other architectures are left as they are. (As in "Bag of Tricks", for the ``bnneck``.)
    """
    stage = getattr(backbone, "layer4", None)
    if not isinstance(stage, nn.Sequential):
        return
    block = stage[0]
    for module in block.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (1, 1)
    for name, module in block.named_modules():
        if isinstance(module, nn.AvgPool2d) and module.stride in (2, (2, 2)):
            # timm's "d" and "t" variants shrink the shortcut by pooling.
            parent = block.get_submodule(name.rpartition(".")[0])
            parent._modules[name.rpartition(".")[2]] = nn.Identity()


def count_features(backbone: nn.Module, height: int, width: int) -> int:
    """Width of the pooled features, found by a pass over one blank image of the size that will be trained on."""
    training = backbone.training
    backbone.eval()
    device = next((parameter.device for parameter in backbone.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            pooled = backbone(torch.zeros(1, 3, height, width, device=device))
    finally:
        backbone.train(training)
    if pooled.ndim != 2:
        raise ValueError(f"the backbone gives {tuple(pooled.shape)} for one image, not one row of features")
    return int(pooled.shape[1])
