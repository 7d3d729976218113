"""Market-1501 as it is released and as it is prepared, in files without content."""

from __future__ import annotations

from pathlib import Path


def fill(root: Path, *paths: str) -> Path:
    for path in paths:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"x")
    return root


MARKET = (
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0002_c2s1_000452_03.JPG",
    "bounding_box_train/0010_c3s1_000453_03.jpeg",
    "bounding_box_train/Thumbs.db",
    "bounding_box_train/._0010_c3s1_000453_03.jpg",
    "bounding_box_test/-1_c1s1_000401_03.jpg",
    "bounding_box_test/0000_c1s1_000001_00.jpg",
    "bounding_box_test/0001_c10s1_000001_00.jpg",
    "query/0001_c1s1_001051_00.jpg",
    "readme.txt",
)
PREPARED = (
    "train/0002/0002_c2s1_000452_03.jpg",
    "train_all/0002/0002_c1s1_000451_03.jpg",
    "train_all/0002/0002_c2s1_000452_03.jpg",
    "val/0002/0002_c1s1_000451_03.jpg",
    "gallery/-1/-1_c1s1_000401_03.jpg",
    "gallery/0001/0001_c10s1_000001_00.jpg",
    "query/0001/0001_c1s1_001051_00.jpg",
)
