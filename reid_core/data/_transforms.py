"""From a PIL image to a normalised tensor, for training and for measuring."""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
AUGMENTATIONS = ("reid", "small", "none")

Transform = Callable[[Image.Image], Tensor]


def train_transform(name: str, size: tuple[int, int]) -> Transform:
    """The training transform called ``name``, to (3, H, W) float32; it draws from torch's generator.

    Args:
        name: ``reid`` resizes to 9/8 of the size, crops at random and flips half of the images; ``small`` rotates by
            up to 10 degrees, scales by 0.875 to 1.125 and shifts by up to 10 %, without a flip; ``none`` resizes.
        size: (height, width).
    """
    height, width = size
    steps: dict[str, list[torch.nn.Module]] = {
        "reid": [
            v2.Resize((round(height * 9 / 8), round(width * 9 / 8)), InterpolationMode.BICUBIC),
            v2.RandomCrop((height, width)),
            v2.RandomHorizontalFlip(0.5),
        ],
        "small": [
            v2.Resize((height, width), InterpolationMode.BICUBIC),
            v2.RandomAffine(10, (0.1, 0.1), (0.875, 1.125), interpolation=InterpolationMode.BILINEAR),
        ],
        "none": [v2.Resize((height, width), InterpolationMode.BICUBIC)],
    }
    return _compose(steps[name])


def eval_transform(size: tuple[int, int]) -> Transform:
    """Resize to (height, width) and normalise; nothing is drawn."""
    return _compose([v2.Resize(size, InterpolationMode.BICUBIC)])


def _compose(steps: list[torch.nn.Module]) -> Transform:
    tail = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    transform: Transform = v2.Compose([*steps, *tail])
    return transform
