"""Released data sets become the training layout: what goes where, again and again, in every mode."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import pytest
from conftest import PROJECT
from released_market import MARKET, TREE, fill, images, pack, stamps, tree

from reid_core.data import cuhk03, dukemtmc_reid, market1501, msmt17
from reid_core.errors import DataError, UsageError
from reid_core.prepare import _manifest
from reid_core.prepare.training_layout import prepare


@pytest.mark.parametrize("source", ["folder", "nested folder", "zip", "nested zip"])
def test_what_goes_where(tmp_path, source):
    files = {**MARKET, "__MACOSX/bounding_box_train/._0002_c1s1_000451_03.jpg": b"mac"}
    if source == "folder":
        src = fill(tmp_path / "src", files)
    elif source == "nested folder":
        src = fill(tmp_path / "src" / "Market-1501-v15.09.15", files).parent
    else:
        src = pack(tmp_path / "src.zip", files, "Market-1501/" if "nested" in source else "")
    ticks = []
    done = prepare("market", src, tmp_path / "out", progress=lambda *tick: ticks.append(tick))
    assert images(tmp_path / "out") == TREE
    assert set(tree(tmp_path / "out")) - set(TREE) == {"manifest.csv", ".prepare.json"}
    assert not done.already
    assert ticks[-1] == (18, 18) and [t[0] for t in ticks] == sorted(t[0] for t in ticks)
    assert done.counts == {
        "train_all": (6, 3),
        "train": (4, 3),
        "val": (2, 2),
        "query": (1, 1),
        "gallery": (3, 1),
        "multi-query": (2, 2),
    }
    assert done.differing == list(done.counts)


def test_the_reader_reads_what_was_prepared(tmp_path):
    prepare("market1501", fill(tmp_path / "src", MARKET), tmp_path / "out")
    split = market1501.read(tmp_path / "out")
    assert sorted(s.path for s in split.train) == sorted(p for p in TREE if p.startswith("train/"))
    assert {(s.pid, s.role) for s in split.gallery} == {(-1, "junk"), (0, "distractor"), (1, "identity")}
    assert len(market1501.read(tmp_path / "out", train_split="train_all").train) == 6


def test_without_gt_bbox_there_is_no_multi_query(tmp_path):
    files = {path: data for path, data in MARKET.items() if not path.startswith("gt_bbox")}
    done = prepare("market1501", fill(tmp_path / "src", files), tmp_path / "out")
    assert "multi-query" not in done.counts and not (tmp_path / "out" / "multi-query").exists()


@pytest.mark.parametrize("mode", ["copy", "hardlink", "symlink", "move"])
def test_modes(tmp_path, mode):
    src = fill(tmp_path / "a; touch x", MARKET)
    prepare("market1501", src, tmp_path / "out", mode=mode)
    assert images(tmp_path / "out") == TREE
    first = tmp_path / "out" / "train_all/0002/0002_c1s1_000451_03.jpg"
    second = tmp_path / "out" / "train/0002/0002_c1s1_000451_03.jpg"
    assert first.is_symlink() == (mode == "symlink")
    assert first.stat().st_nlink == {"copy": 1, "hardlink": 3, "symlink": 1, "move": 2}[mode]
    assert first.samefile(second) == (mode != "copy")
    left = {"bounding_box_train/Thumbs.db", "gt_query/0001_c1s1_001051_00_good.mat", "readme.txt"}
    assert set(tree(src)) == (left if mode == "move" else set(MARKET)), "nothing but images is moved"


@pytest.mark.parametrize("mode", ["copy", "hardlink", "symlink", "move"])
def test_a_second_run_changes_nothing_and_leaks_nothing(tmp_path, mode):
    src = fill(tmp_path / "src", MARKET)
    first = prepare("market1501", src, tmp_path / "out", mode=mode)
    before = stamps(tmp_path / "out")
    second = prepare("market1501", src, tmp_path / "out", mode=mode)
    assert second.already and not second.missing
    assert second.counts == first.counts
    assert stamps(tmp_path / "out") == before
    assert not set(os.listdir(tmp_path / "out/val/0002")) & set(os.listdir(tmp_path / "out/train/0002"))


def test_a_second_run_notices_what_is_gone_and_leaves_it(tmp_path):
    src = fill(tmp_path / "src", MARKET)
    prepare("market1501", src, tmp_path / "out")
    (tmp_path / "out/train/0007/0007_c1s1_000001_00.jpg").unlink()
    (tmp_path / "out/query/0001/0001_c2s1_001051_00.jpg").write_bytes(b"shorter or longer")
    again = prepare("market1501", src, tmp_path / "out")
    assert again.missing == ("train/0007/0007_c1s1_000001_00.jpg", "query/0001/0001_c2s1_001051_00.jpg")
    assert not (tmp_path / "out/train/0007/0007_c1s1_000001_00.jpg").exists()


def test_manifest(tmp_path):
    prepare("market1501", fill(tmp_path / "src", MARKET), tmp_path / "out")
    lines = (tmp_path / "out/manifest.csv").read_text(encoding="utf-8").split("\n")
    assert lines[0] == "path,pid,camid,split,sha256" and lines[-1] == ""
    digest = hashlib.sha256(b"junk").hexdigest()
    assert f"gallery/-1/-1_c1s1_000401_03.jpg,-1,0,gallery,{digest}" in lines, "a number is not guarded"
    assert f"val/0002/0002_c10s1_000451_03.jpg,2,9,val,{hashlib.sha256(b'a2').hexdigest()}" in lines
    rows = _manifest.read(tmp_path / "out")
    assert {row.path: row.sha256 for row in rows} == {p: hashlib.sha256(d).hexdigest() for p, d in TREE.items()}


@pytest.mark.parametrize(
    "path",
    ["-1/-1_c1s1.jpg", "=1+1.jpg", "+a.jpg", "@a.jpg", "'=a.jpg", 'a,"b.jpg', "a\rb.jpg", "a\nb.jpg", "\udcff.jpg"],
)
def test_manifest_cells_are_guarded_and_come_back(tmp_path, path):
    row = _manifest.Row(path, -1, 3, "gallery", "00")
    _manifest.write(tmp_path, [row])
    cell = (tmp_path / "manifest.csv").read_bytes().split(b"\n", 1)[1].lstrip(b'"')
    assert cell[:1] not in (b"=", b"+", b"-", b"@")
    assert _manifest.read(tmp_path) == [row]


def test_manifest_that_cannot_be_read(tmp_path):
    src = fill(tmp_path / "src", MARKET)
    prepare("market1501", src, tmp_path / "out")
    (tmp_path / "out/manifest.csv").write_text("path,pid\nx")
    with pytest.raises(DataError, match="manifest.csv cannot be read"):
        prepare("market1501", src, tmp_path / "out")


def test_duke(tmp_path):
    files = {
        "DukeMTMC-reID/bounding_box_train/0002_c1_f0044158.jpg": b"1",
        "DukeMTMC-reID/bounding_box_train/0002_c8_f0044158.jpg": b"2",
        "DukeMTMC-reID/bounding_box_test/0005_c1_f0000001.jpg": b"3",
        "DukeMTMC-reID/bounding_box_test/0006_c1_f0000001.jpg": b"4",
        "DukeMTMC-reID/query/0005_c2_f0000001.jpg": b"5",
    }
    done = prepare("dukemtmcreid", pack(tmp_path / "DukeMTMC-reID.zip", files), tmp_path / "out")
    assert done.counts["gallery"] == (2, 1), "an identity without a query is a distractor"
    assert len(dukemtmc_reid.read(tmp_path / "out").train) == 1


def test_msmt17(tmp_path):
    files = {
        "MSMT17_V1/train/0000/0000_000_01_0303morning_0015_0.jpg": b"1",
        "MSMT17_V1/train/0000/0000_001_15_0303morning_0015_0.jpg": b"2",
        "MSMT17_V1/test/0000/0000_000_01_0303morning_0016_0.jpg": b"3",
        "MSMT17_V1/test/0000/0000_001_02_0303morning_0016_0.jpg": b"4",
        "MSMT17_V1/list_train.txt": b"0000/0000_000_01_0303morning_0015_0.jpg 0\n",
        "MSMT17_V1/list_val.txt": b"0000/0000_001_15_0303morning_0015_0.jpg 0\n",
        "MSMT17_V1/list_query.txt": b"0000/0000_000_01_0303morning_0016_0.jpg 0\n",
        "MSMT17_V1/list_gallery.txt": b"0000/0000_001_02_0303morning_0016_0.jpg 0\n",
    }
    done = prepare("msmt17", pack(tmp_path / "MSMT17_V1.zip", files), tmp_path / "out")
    assert done.counts == {"train_all": (2, 1), "train": (1, 1), "val": (1, 1), "query": (1, 1), "gallery": (1, 1)}
    split = msmt17.read(tmp_path / "out")
    assert split.train[0].camid == 14 and split.train[0].role == "identity"


def test_cuhk03_np(tmp_path):
    files = {}
    for kind in ("detected", "labeled"):
        for path in ("bounding_box_train/0001_c1_1.png", "bounding_box_test/0003_c1_1.png", "query/0003_c2_6.png"):
            files[f"cuhk03-np/{kind}/{path}"] = f"{kind} {path}".encode()
    src = pack(tmp_path / "cuhk03-np.zip", files)
    for kind in ("detected", "labeled"):
        prepare("cuhk03", src, tmp_path / kind, options={"images": kind})
        assert (tmp_path / kind / "query/0003/0003_c2_6.png").read_bytes().decode().startswith(kind)
        assert cuhk03.read(tmp_path / kind).protocol == "market1501"
    assert prepare("cuhk03", src, tmp_path / "detected").already, "detected is the default"
    with pytest.raises(UsageError, match="--images"):
        prepare("cuhk03", src, tmp_path / "other", options={"images": "drawn"})
    with pytest.raises(UsageError, match="no option"):
        prepare("market1501", src, tmp_path / "other", options={"images": "detected"})
    with pytest.raises(DataError, match="cuhk-03.mat"):
        prepare("cuhk03", src, tmp_path / "other", options={"protocol": "classic"})


def test_omniglot(tmp_path):
    data = Path(os.environ.get("REID_CORE_TEST_DATA", PROJECT.parent / "shared" / "data"))
    if not (data / "omniglot-reid.zip").is_file():
        pytest.skip(f"{data / 'omniglot-reid.zip'} is not there; set REID_CORE_TEST_DATA")
    done = prepare("market1501", data / "omniglot-reid.zip", tmp_path / "out")
    assert done.counts == {
        "train_all": (1720, 86),
        "train": (1634, 86),
        "val": (86, 86),
        "query": (276, 46),
        "gallery": (784, 46),
    }
    assert len(os.listdir(tmp_path / "out/gallery/0000")) == 80
    assert len(os.listdir(tmp_path / "out/gallery/-1")) == 60
    with zipfile.ZipFile(data / "omniglot-reid.zip") as packed:
        contents = {Path(n).name: packed.read(n) for n in packed.namelist() if not n.endswith("/")}
    for path, found in images(tmp_path / "out").items():
        assert contents[Path(path).name] == found
    split = market1501.read(tmp_path / "out")
    assert (len(split.train), len(split.query), len(split.gallery)) == (1634, 276, 784)
