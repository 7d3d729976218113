"""Data that many tests share."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PROJECT = Path(__file__).resolve().parents[1]


def pytest_configure(config):
    # One thread: the tests' networks are tiny, and results then do not depend on the machine's cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def test_data():
    """The folder of real data; tests that need it skip, visibly, where it is absent."""
    folder = Path(os.environ.get("REID_CORE_TEST_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is absent; set REID_CORE_TEST_DATA")
    return folder


def write_tiny_market(root, *, ids=8, shots=6, test_ids=4, size=(32, 16), seed=0):
    """A data set in the Market-1501 release layout: an identity is a colour and a stripe, cameras differ in light."""
    rng = np.random.default_rng(seed)
    height, width = size

    def crop(identity, camera):
        colour = np.random.default_rng(1000 + identity).integers(40, 215, 3)
        image = np.full((height, width, 3), colour, float)
        row = (identity * 5) % (height - 6)
        image[row : row + 5] = 255 - colour
        image = image * (0.85 + 0.06 * camera) + rng.normal(0, 8, image.shape)
        return Image.fromarray(image.clip(0, 255).astype(np.uint8))

    def save(folder, pid, camera, number):
        (root / folder).mkdir(parents=True, exist_ok=True)
        name = (
            f"{pid:04d}_c{camera + 1}s1_{number:06d}_00.jpg" if pid >= 0 else f"-1_c{camera + 1}s1_{number:06d}_00.jpg"
        )
        crop(pid if pid > 0 else 500 + number, camera).save(root / folder / name, quality=90)

    number = 0
    for pid in range(1, ids + 1):
        for shot in range(shots):
            save("bounding_box_train", pid, shot % 3, number := number + 1)
    for pid in range(101, 101 + test_ids):
        save("query", pid, 0, number := number + 1)
        for camera in range(3):
            save("bounding_box_test", pid, camera, number := number + 1)
    save("bounding_box_test", 0, 1, number := number + 1)
    save("bounding_box_test", -1, 2, number := number + 1)
    return root


def write_tiny_classes(
    root, counts=(12, 12, 12, 12, 12), test=3, names=("ant", "bee", "cat", "dog", "elk"), folder="test"
):
    """Class folders: a class is a colour and a bar, so that a tiny network learns it."""
    rng = np.random.default_rng(0)
    for c, (name, count) in enumerate(zip(names, counts)):
        for part, images in (("train", count), (folder, test)):
            (root / part / name).mkdir(parents=True, exist_ok=True)
            for i in range(images):
                pixels = np.full((16, 16, 3), np.random.default_rng(c).integers(40, 215, 3), float)
                pixels[3 * c : 3 * c + 3] = 255 * (c % 2)
                pixels += rng.normal(0, 10, pixels.shape)
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                image.save(root / part / name / f"{i:02d}.png")
    return root


@pytest.fixture(scope="session")
def tiny_market(tmp_path_factory):
    """A session-wide tiny data set; do not change it."""
    return write_tiny_market(tmp_path_factory.mktemp("tiny") / "market")
