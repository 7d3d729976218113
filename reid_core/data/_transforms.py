"""From a PIL image to a normalised tensor, for training and for measuring."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
AUGMENTATIONS = ("reid", "small", "classes", "none")
MARGIN = 256 / 224
"""``classes`` measures the middle of an image this many times as large, as classifiers of ImageNet are measured."""

Transform = Callable[[Image.Image], Tensor]


def train_transform(
    name: str,
    size: tuple[int, int],
    *,
    trivial_augment: bool = False,
    random_erasing: float = 0.0,
    mirror: bool = True,
    interpolation: str = "bicubic",
) -> Transform:
    """The training transform called ``name``, to (3, H, W) float32; it draws from torch's generator.

    Args:
        name: ``reid`` resizes to 9/8 of the size, crops at random and flips half of the images; ``small`` rotates by
            up to 10 degrees, scales by 0.875 to 1.125 and shifts by up to 10 %, without a flip; ``classes`` takes a
            crop of 0.7 to 1 of the area, 3:4 to 4:3 in shape, and flips half of the images; ``none`` resizes.
        size: (height, width).
        trivial_augment: one of 14 changes of colour or shape an image, at one of 31 strengths, after the crop.
        random_erasing: share of images of which a rectangle of 0.02 to 0.2 of the area, 0.3 to 3.3 in shape, is set
            to 0 after normalisation, which is the mean.
        mirror: False leaves the flip of ``classes`` out: for classes that are each other's mirror images.
        interpolation: of ``classes``; the others are bicubic.

    Reference:
        S. Müller and F. Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", ICCV 2021;
        Z. Zhong et al., "Random Erasing Data Augmentation", AAAI 2020.
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
        "classes": [
            v2.RandomResizedCrop((height, width), scale=(0.7, 1.0), interpolation=InterpolationMode(interpolation)),
            v2.RandomHorizontalFlip(0.5 if mirror else 0.0),
        ],
        "none": [v2.Resize((height, width), InterpolationMode.BICUBIC)],
    }
    colours: list[torch.nn.Module] = [v2.TrivialAugmentWide(num_magnitude_bins=31)] if trivial_augment else []
    holes: list[torch.nn.Module] = []
    if random_erasing > 0:
        holes = [v2.RandomErasing(random_erasing, scale=(0.02, 0.2), ratio=(0.3, 3.3), value=0)]
    return _compose([*steps[name], *colours], holes)


def eval_transform(size: tuple[int, int], *, margin: float = 1.0, interpolation: str = "bicubic") -> Transform:
    """Resize to (height, width) and normalise; nothing is drawn.

    Args:
        size: (height, width).
        margin: resize to so many times the size, and take the middle. Images keep their shape then if the size is a
            square: their shorter side is resized.
        interpolation: bicubic or bilinear.
    """
    mode = InterpolationMode(interpolation)
    if margin == 1.0:
        return _compose([v2.Resize(size, mode)])
    larger = [round(length * margin) for length in size]
    return _compose([v2.Resize(larger[:1] if size[0] == size[1] else larger, mode), v2.CenterCrop(size)])


def _compose(steps: list[torch.nn.Module], after: Sequence[torch.nn.Module] = ()) -> Transform:
    tail = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    transform: Transform = v2.Compose([*steps, *tail, *after])
    return transform
