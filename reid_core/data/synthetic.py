"""A generated data set of small pedestrian crops in the layout Market-1501 is released in, for demos and tests.

An identity is a combination of clothes, proportions, texture and a carried thing. Six cameras differ in the side they see,
light, colour, blur, resolution, noise and scene; poles, bushes and other people stand in the way, boxes are off centre or
cut. No file is needed and nothing is downloaded: everything follows from a seed.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reid_core.data._synthetic_folder import contents, installed, whole_or_nothing
from reid_core.data._synthetic_looks import PLAN, stream
from reid_core.data._synthetic_scene import CAMERAS
from reid_core.data._synthetic_shot import render, render_junk
from reid_core.errors import DataError, UsageError
from reid_core.plugins import load
from reid_core.types import Split

__all__ = ["GENERATOR", "ensure", "read", "render", "render_junk", "write"]

GENERATOR = 1
"""Version of the pictures: raised whenever equal parameters would give other ones."""

TRAIN_DEFAULTS = {
    "data_dir": "data/synthetic",
    "noise_ratio": 0.2,
    "schedule": "default",
    "epochs": 28,
    "arch": "resnet10t",
    "neck": "fc512",
    "neck_dim": 256,
    "image_size": (64, 64),
    "lr": 0.05,
    "new_layer_mult": 1.0,
    "eval_every": 14,
    "amp": "auto",
    "workers": 0,
}
"""Settings with which it trains on two processor cores in minutes; flags and configuration files win over them."""

NUM_IDS = 60
NUM_TEST_IDS = 30
IMAGES_PER_CAMERA = 3
FOLDERS = ("bounding_box_train", "bounding_box_test", "query")

_MARKER = "synthetic.json"
_DISTRACTORS = 100_000  # identities from here on are nobody's
_QUALITY = 90


def write(
    out: Path,
    *,
    ids: int = NUM_IDS,
    test_ids: int = NUM_TEST_IDS,
    images_per_camera: int = IMAGES_PER_CAMERA,
    seed: int = 0,
    size: tuple[int, int] = (128, 64),
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the data set, whole or not at all: into a folder beside ``out`` that is renamed at the end.

    The same parameters again change nothing. An identity is seen by two to six cameras, ``images_per_camera`` give or take
    one times by each; the first picture of a test identity by each camera is a query. ``bounding_box_test`` also gets two
    distractors (``0000_``: people outside the identities) and one junk crop (``-1_``) for every test identity.
    ``synthetic.json`` tells the parameters.

    Args:
        out: folder to make; its parents are made too.
        ids, test_ids: training and test identities, numbered 1 to ``ids`` and on to ``ids + test_ids``.
        images_per_camera: at least 1.
        seed: from 0.
        size: (height, width) of the crops.
        progress: called with (images done, images in all).

    Raises:
        UsageError: a parameter is out of range, or ``out`` was written with other parameters.
        DataError: ``out`` holds something else, or a written data set of which files are missing.
    """
    asked = _parameters(ids=ids, test_ids=test_ids, images_per_camera=images_per_camera, seed=seed, size=size)
    out, size = Path(out), (size[0], size[1])  # a list, as from a configuration file, will do
    if _is_written(out, asked):
        return
    plan = list(_plan(ids, test_ids, images_per_camera, seed))
    with whole_or_nothing(out) as folder:
        for name in FOLDERS:
            (folder / name).mkdir()
        for done, (name, identity, camera, shot) in enumerate(plan, 1):
            if identity is None:
                image = render_junk(shot, camera, seed=seed, size=size)
            else:
                image = render(identity, camera, shot, seed=seed, size=size)
            packed = io.BytesIO()
            image.save(packed, "JPEG", quality=_QUALITY)
            (folder / name).write_bytes(packed.getvalue())
            if progress is not None:
                progress(done, len(plan))
        stated = {"generator": GENERATOR, "parameters": asked, "files": contents(folder, FOLDERS)}
        (folder / _MARKER).write_text(json.dumps(stated, indent=1) + "\n", encoding="utf-8")
        if not installed(folder, out) and not _is_written(out, asked):  # somebody else was quicker
            raise DataError(
                f"{out} appeared while the synthetic data were being drawn; look at it, or choose another folder."
            )


def ensure(root: Path, **parameters: Any) -> Path:
    """``root`` with a synthetic data set in it: written if absent, else as it is.

    Only the parameters given here are compared with those of an existing folder; ``progress`` is none of them.

    Raises:
        UsageError: an unknown or unsuitable parameter, or the folder was written with another value of a given one.
        DataError: ``root`` holds something else, or files are missing.
    """
    root = Path(root)
    progress = parameters.pop("progress", None)
    asked = _parameters(**parameters)
    if not _is_written(root, {key: asked[key] for key in parameters}):
        write(root, progress=progress, **parameters)
    return root


def read(root: Path, *, train_split: str = "train") -> Split:
    """The written folder, by the Market-1501 reader.

    Raises:
        DataError: ``root`` was not written by ``write``, or files are missing.
    """
    root = Path(root)
    if not _is_written(root, {}):
        raise DataError(f"no synthetic data set in {root}: make one with 'reid-core prepare synthetic {root}'.")
    split: Split = load("reid_core.data", "market1501").read(root, train_split=train_split)
    return dataclasses.replace(split, dataset="synthetic")


def _parameters(
    *,
    ids: int = NUM_IDS,
    test_ids: int = NUM_TEST_IDS,
    images_per_camera: int = IMAGES_PER_CAMERA,
    seed: int = 0,
    size: tuple[int, int] = (128, 64),
) -> dict[str, Any]:
    """The parameters as ``synthetic.json`` holds them, checked."""
    for name, value, least in (("ids", ids, 1), ("test_ids", test_ids, 1), ("images_per_camera", images_per_camera, 1)):
        if value < least:
            raise UsageError(f"{name} of the synthetic data set must be at least {least}, got {value}.")
    if ids + test_ids > 9999:
        raise UsageError(
            f"file names hold four digits of identity: ids + test_ids must be at most 9999, got {ids} + {test_ids}."
        )
    if images_per_camera > 99:
        raise UsageError(f"images_per_camera must be at most 99, got {images_per_camera}.")
    if seed < 0:
        raise UsageError(f"the seed of the synthetic data set must be 0 or more, got {seed}.")
    if len(size) != 2 or min(size) < 16 or max(size) > 1024:
        raise UsageError(f"size is height and width, between 16 and 1024 pixels, got {size}.")
    return {"ids": ids, "test_ids": test_ids, "images_per_camera": images_per_camera, "seed": seed, "size": list(size)}


def _is_written(root: Path, asked: dict[str, Any]) -> bool:
    """Whether ``root`` holds the whole data set asked for; False where there is nothing."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    marker = root / _MARKER
    if not marker.is_file():
        raise DataError(
            f"{root} is not empty and holds no {_MARKER}, so it is no synthetic data set of ours: choose another folder."
        )
    try:
        stated = json.loads(marker.read_text(encoding="utf-8"))
        found, files, version = dict(stated["parameters"]), dict(stated["files"]), stated["generator"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{marker} cannot be understood ({error}): delete {root} and it will be written again."
        ) from error
    other = [f"{key} {found.get(key)} instead of {value}" for key, value in asked.items() if found.get(key) != value]
    if version != GENERATOR:
        other.append(f"generator version {version} instead of {GENERATOR}")
    if other:
        raise UsageError(
            f"{root} holds a synthetic data set written with other parameters: {', '.join(other)}. "
            "Nothing was changed; choose another folder, or delete this one to have it written anew."
        )
    now = contents(root, FOLDERS)
    for name, was in files.items():
        if now.get(name) != was:
            raise DataError(
                f"{root / name} should hold {was['images']} images of {was['bytes']} bytes together, but there are "
                f"{now[name]['images']} of {now[name]['bytes']}: delete {root} and it will be written again."
            )
    return True


def _plan(ids: int, test_ids: int, images_per_camera: int, seed: int) -> Iterator[tuple[str, int | None, int, int]]:
    """(path, identity or None for junk, camera, shot or number of the junk) of every image."""
    for pid in range(1, ids + test_ids + 1):
        rng = stream(seed, PLAN, pid)
        seen = rng.permutation(len(CAMERAS))[: max(2, int(rng.binomial(len(CAMERAS), 0.85)))]
        for camera in sorted(int(c) for c in seen):
            first = int(rng.integers(1, 90_000))
            shots = images_per_camera + int(rng.integers(-1, 2))
            for shot in range(max(1 if pid <= ids else 2, shots)):
                # Two pictures of one walk are 25 frames apart, as in the original.
                name = f"{pid:04d}_c{camera + 1}s{1 + first % 6}_{first + 25 * shot:06d}"
                if pid <= ids:
                    yield f"{FOLDERS[0]}/{name}_01.jpg", pid, camera, shot
                elif shot == 0:
                    yield f"{FOLDERS[2]}/{name}_00.jpg", pid, camera, shot
                else:
                    yield f"{FOLDERS[1]}/{name}_01.jpg", pid, camera, shot
    for number in range(2 * test_ids):
        camera = number % len(CAMERAS)
        yield f"{FOLDERS[1]}/0000_c{camera + 1}s1_{100 + 37 * number:06d}_01.jpg", _DISTRACTORS + number, camera, 0
    for number in range(test_ids):
        camera = number % len(CAMERAS)
        yield f"{FOLDERS[1]}/-1_c{camera + 1}s1_{100 + 37 * number:06d}_01.jpg", None, camera, number
