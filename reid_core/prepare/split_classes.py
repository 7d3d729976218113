"""Cut class folders into training and validation images, the same share of every class.

Every draw is the order of SHA-256 over the seed and a name (``_draw``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reid_core.data.image_folder import TEST_FOLDERS, TRAIN_FOLDERS, list_classes, subfolders
from reid_core.errors import DataError, UsageError
from reid_core.prepare._draw import draw_order
from reid_core.prepare._plan import Item, check

PARTS = ("train_split", "val_split")


@dataclass(frozen=True)
class ClassSplitPlan:
    """Where every image goes.

    Attributes:
        root: the folder of class folders.
        class_names: sorted; their places are the ``pid`` of the items.
        items: sorted by target.
        others: files that are no images and stay where they are.
        options: what decided the plan, in plain values.
        size: bytes of all images.
    """

    root: Path
    class_names: tuple[str, ...]
    items: tuple[Item, ...]
    others: tuple[str, ...]
    options: Mapping[str, str | int] = field(default_factory=dict)
    size: int = 0

    def counts(self) -> dict[str, tuple[int, int]]:
        """(training, validation) images of every class, in the order of the names."""
        found = Counter((item.pid, item.split) for item in self.items)
        return {name: (found[c, PARTS[0]], found[c, PARTS[1]]) for c, name in enumerate(self.class_names)}


def plan_classes(src: Path, val: float = 0.1, seed: int = 0, min_per_class: int = 1) -> ClassSplitPlan:
    """Decide where every image goes; nothing is touched.

    Args:
        src: one folder a class, or a folder whose ``train`` holds them.
        val: share of each class's images to validate with, in (0, 1), see ``validation_count``.
        seed: 0 or more.
        min_per_class: least number of validation images of a class.

    Raises:
        UsageError: ``val``, ``seed`` or ``min_per_class`` cannot be meant.
        DataError: no class folders, fewer than two classes, a class without an image, empty files, or no class that could
            give a validation image.
    """
    if not 0 < val < 1:
        raise UsageError(f"--val is the share of each class's images to validate with, in (0, 1), got {val}")
    if min_per_class < 1 or seed < 0:
        raise UsageError(f"--min_per_class must be 1 or more and --seed 0 or more, got {min_per_class} and {seed}")
    root = class_root(src)
    found = list_classes(root)
    if len(found.images) < 2:
        raise DataError(f"{root} holds one class, {next(iter(found.images))!r}; at least two are needed to tell apart.")
    items: list[Item] = []
    for c, (name, paths) in enumerate(found.images.items()):
        count = validation_count(len(paths), val, min_per_class)
        drawn = set(sorted(paths, key=lambda path: draw_order(seed, f"{name}/{path}"))[:count])
        for path in paths:
            source, part = f"{name}/{path}", PARTS[path in drawn]
            items.append(Item(source, f"{part}/{source}", c, -1, part, _size(root / source)))
    check(items, str(root))
    if not any(item.split == PARTS[1] for item in items):
        raise DataError(f"{root}: every class has a single image, so none can be held out for validation.")
    return ClassSplitPlan(
        root,
        tuple(found.images),
        tuple(sorted(items, key=lambda item: item.target)),
        tuple(found.others),
        {"val": f"{val:g}", "seed": seed, "min_per_class": min_per_class},
        sum(item.size for item in items),
    )


def validation_count(images: int, val: float, min_per_class: int = 1) -> int:
    """Validation images of a class: ``floor(images * val + 0.5)``, at least ``min_per_class``, but one always stays for
    training.
    """
    return min(max(math.floor(images * val + 0.5), min_per_class), images - 1)


def class_root(src: Path) -> Path:
    """The folder of class folders: ``src/train`` where ``src`` is laid out for training, else ``src``.

    A class may itself be called "train": then it holds images, or other classes stand beside it.

    Raises:
        DataError: there is no such folder.
    """
    if not src.is_dir():
        raise DataError(f"{src} is not a folder; one with a folder for each class was expected.")
    beside = set(subfolders(src)) - {*TRAIN_FOLDERS, *TEST_FOLDERS}
    return src / "train" if subfolders(src / "train") and not beside else src


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); mend or remove it. Nothing was changed.") from error
