"""Market-1501 as it is released, in files of a few bytes, and the layout that is made of it."""

from __future__ import annotations

import zipfile
from pathlib import Path

MARKET = {
    "bounding_box_train/0002_c1s1_000451_03.jpg": b"a1",
    "bounding_box_train/0002_c10s1_000451_03.jpg": b"a2",
    "bounding_box_train/0002_c2s1_000452_03.JPG": b"a3",
    "bounding_box_train/0007_c1s1_000001_00.jpg": b"alone",
    "bounding_box_train/0011_c3s2_000001_00.jpg": b"b1",
    "bounding_box_train/0011_c4s2_000001_00 \u00fc x.jpeg": b"b2",
    "bounding_box_train/Thumbs.db": b"thumbs",
    "bounding_box_test/-1_c1s1_000401_03.jpg": b"junk",
    "bounding_box_test/0000_c1s1_000001_00.jpg": b"distractor",
    "bounding_box_test/0001_c1s1_000001_00.jpg": b"g1",
    "query/0001_c2s1_001051_00.jpg": b"q1",
    "gt_bbox/0001_c2s1_001051_00.jpg": b"m1",
    "gt_bbox/0002_c2s1_001051_00.jpg": b"m2",
    "gt_query/0001_c1s1_001051_00_good.mat": b"mat",
    "readme.txt": b"read me",
}
TREE = {
    "train_all/0002/0002_c1s1_000451_03.jpg": b"a1",
    "train_all/0002/0002_c10s1_000451_03.jpg": b"a2",
    "train_all/0002/0002_c2s1_000452_03.JPG": b"a3",
    "train_all/0007/0007_c1s1_000001_00.jpg": b"alone",
    "train_all/0011/0011_c3s2_000001_00.jpg": b"b1",
    "train_all/0011/0011_c4s2_000001_00 \u00fc x.jpeg": b"b2",
    "train/0002/0002_c1s1_000451_03.jpg": b"a1",
    "train/0002/0002_c2s1_000452_03.JPG": b"a3",
    "train/0007/0007_c1s1_000001_00.jpg": b"alone",  # a single image stays in train
    "train/0011/0011_c4s2_000001_00 \u00fc x.jpeg": b"b2",
    "val/0002/0002_c10s1_000451_03.jpg": b"a2",  # "c10" sorts before "c1s"
    "val/0011/0011_c3s2_000001_00.jpg": b"b1",
    "query/0001/0001_c2s1_001051_00.jpg": b"q1",
    "gallery/-1/-1_c1s1_000401_03.jpg": b"junk",
    "gallery/0000/0000_c1s1_000001_00.jpg": b"distractor",
    "gallery/0001/0001_c1s1_000001_00.jpg": b"g1",
    "multi-query/0001/0001_c2s1_001051_00.jpg": b"m1",
    "multi-query/0002/0002_c2s1_001051_00.jpg": b"m2",
}


def fill(root: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def pack(path: Path, files: dict[str, bytes], top: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            packed.writestr(top + name, data)
    return path


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def images(root: Path) -> dict[str, bytes]:
    return {path: data for path, data in tree(root).items() if "/" in path}


def stamps(root: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_ino) for p in root.rglob("*")}
