"""CUHK03 from MATLAB files: small ones in the published structure, written here with h5py and scipy."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_core.data import cuhk03
from reid_core.errors import DataError, UsageError
from reid_core.prepare.training_layout import prepare

h5py = pytest.importorskip("h5py")
scipy_io = pytest.importorskip("scipy.io")

PAIRS = (3, 2, 1, 1, 1)  # identities of each camera pair
HOLES = {(1, 2, 3), (2, 1, 10)}  # crops that are not there
KINDS = ("detected", "labeled")


def pixels(kind: str, pair: int, identity: int, image: int) -> np.ndarray:
    """(H, W, 3) uint8, taller than wide, different for every crop."""
    base = np.zeros((6, 4, 3), dtype=np.uint8)
    base[0, 0] = (pair, identity, image)
    base[5, 3] = (KINDS.index(kind), 255, 0)
    return base


def there(pair: int, identity: int, image: int) -> bool:
    return (pair, identity, image) not in HOLES


def all_crops() -> list[tuple[int, int, int]]:
    return [
        (pair, identity, image)
        for pair, count in enumerate(PAIRS, 1)
        for identity in range(1, count + 1)
        for image in range(1, 11)
        if there(pair, identity, image)
    ]


def name(pair: int, identity: int, image: int) -> str:
    return f"{pair}_{identity:03d}_{1 if image <= 5 else 2}_{image:02d}.png"


@pytest.fixture
def release(tmp_path) -> Path:
    folder = tmp_path / "cuhk03_release"
    folder.mkdir()
    with h5py.File(folder / "cuhk-03.mat", "w") as file:
        kept = file.create_group("#refs#")

        def store(data) -> object:
            return kept.create_dataset(f"r{len(kept)}", data=data).ref

        for kind in KINDS:
            tables = []
            for pair, count in enumerate(PAIRS, 1):
                table = np.empty((10, count), dtype=h5py.ref_dtype)  # transposed, as MATLAB writes
                for identity in range(1, count + 1):
                    for image in range(1, 11):
                        empty = np.zeros(2, dtype=np.uint64)
                        full = pixels(kind, pair, identity, image).T
                        table[image - 1, identity - 1] = store(full if there(pair, identity, image) else empty)
                tables.append(store(table))
            file.create_dataset(kind, data=np.array([tables], dtype=h5py.ref_dtype))
        tests = [store(np.array([[1, 1], [2, 1]]).T), store(np.array([[1, 2]]).T)]
        file.create_dataset("testsets", data=np.array([tests], dtype=h5py.ref_dtype))
    crops = all_crops()
    number = {}
    labels = [number.setdefault(crop[:2], len(number) + 1) for crop in crops]
    train = [i for i, label in enumerate(labels, 1) if label <= 4]
    query = [i for i, (crop, label) in enumerate(zip(crops, labels, strict=True), 1) if label > 4 and crop[2] in (1, 6)]
    gallery = [i for i, label in enumerate(labels, 1) if label > 4 and i not in query]
    for kind in KINDS:
        filelist = np.empty((len(crops), 1), dtype=object)
        filelist[:, 0] = [name(*crop) for crop in crops]
        scipy_io.savemat(
            folder / f"cuhk03_new_protocol_config_{kind}.mat",
            {
                "filelist": filelist,
                "labels": np.array(labels)[:, None],
                "train_idx": np.array(train)[:, None],
                "query_idx": np.array(query)[:, None],
                "gallery_idx": np.array(gallery)[:, None],
            },
        )
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_new_protocol(release, tmp_path, kind):
    done = prepare("cuhk03", release.parent, tmp_path / "out", options={"images": kind})
    # identities 1-3 of pair 1 are labels 1-3, identity 1 of pair 2 is label 4: 30 + 10 crops less two holes
    assert done.counts["train_all"] == (38, 4) and done.counts["val"] == (4, 4)
    assert done.counts["query"] == (8, 4) and done.counts["gallery"] == (32, 4)
    split = cuhk03.read(tmp_path / "out")
    assert split.protocol == "market1501"
    sample = next(s for s in split.query if s.path == "query/0005/0005_c2_06.png")
    assert (sample.pid, sample.camid) == (5, 1)
    with Image.open(tmp_path / "out" / sample.path) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels(kind, 2, 2, 6))
    assert prepare("cuhk03", release, tmp_path / "out", options={"images": kind}).already


def test_classic_protocol(release, tmp_path):
    done = prepare("cuhk03", release / "cuhk-03.mat", tmp_path / "out", options={"protocol": "classic"})
    # the first split tests identity 1 of pair 1 (10 crops) and identity 1 of pair 2 (9)
    assert done.counts["query"] == done.counts["gallery"] == (19, 2)
    assert done.counts["train_all"] == (10 * 8 - 2 - 19, 6)
    split = cuhk03.read(tmp_path / "out")
    assert split.protocol == "cuhk03"
    assert {(s.pid, s.camid) for s in split.query} == {(10_001, 0), (10_001, 1), (20_001, 2), (20_001, 3)}
    with Image.open(tmp_path / "out/gallery/2_001/2_001_2_07.png") as image:
        np.testing.assert_array_equal(np.asarray(image), pixels("detected", 2, 1, 7))
    second = prepare("cuhk03", release, tmp_path / "two", options={"protocol": "classic", "test_split": "2"})
    assert second.counts["query"] == (9, 1)
    with pytest.raises(UsageError, match=r"\[1, 2\], got 3"):
        prepare("cuhk03", release, tmp_path / "three", options={"protocol": "classic", "test_split": "3"})


def test_only_copies_can_be_made(release, tmp_path):
    with pytest.raises(UsageError, match="use --mode copy"):
        prepare("cuhk03", release, tmp_path / "out", mode="move")


def test_missing_and_wrong_files(release, tmp_path):
    (release / "cuhk03_new_protocol_config_labeled.mat").unlink()
    with pytest.raises(DataError, match="cuhk03_new_protocol_config_labeled.mat beside"):
        prepare("cuhk03", release, tmp_path / "out", options={"images": "labeled"})
    protocol = scipy_io.loadmat(release / "cuhk03_new_protocol_config_detected.mat")
    bad = {key: value for key, value in protocol.items() if not key.startswith("_")}
    bad["train_idx"] = bad["train_idx"] + 1000
    scipy_io.savemat(release / "cuhk03_new_protocol_config_detected.mat", bad)
    with pytest.raises(DataError, match="train_idx holds"):
        prepare("cuhk03", release, tmp_path / "out")
    (release / "cuhk03_new_protocol_config_detected.mat").write_bytes(b"hello")
    with pytest.raises(DataError, match="config_detected.mat is not a MATLAB file"):
        prepare("cuhk03", release, tmp_path / "out")
    (release / "cuhk-03.mat").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"not CUHK03's cuhk-03\.mat"):
        prepare("cuhk03", release, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_h5py_the_extra_is_named(release, tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(wanted, *args, **kwargs):
        if wanted == "h5py":
            raise ImportError("No module named 'h5py'")
        return real(wanted, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "h5py")
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UsageError, match=r"reid-core\[cuhk03\]"):
        prepare("cuhk03", release, tmp_path / "out")
