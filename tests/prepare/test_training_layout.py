"""Released data sets become the training layout: what goes where, again and again, in every mode."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from reid_core.cli import _main
from reid_core.data import cuhk03, dukemtmc_reid, market1501, msmt17
from reid_core.errors import CheckpointError, DataError, UsageError
from reid_core.prepare import _checks, _manifest
from reid_core.prepare.training_layout import prepare

PROJECT = Path(__file__).resolve().parents[2]
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


def test_folders_that_were_not_made_here_are_left_alone(tmp_path):
    src = fill(tmp_path / "src", MARKET)
    fill(tmp_path / "out", {"diary.txt": b"mine"})
    (tmp_path / "file").write_bytes(b"mine")
    for out, message in (("out", "not empty"), ("file", "not a folder"), ("src", "not empty")):
        before = stamps(tmp_path)
        with pytest.raises(UsageError, match=message):
            prepare("market1501", src, tmp_path / out)
        assert stamps(tmp_path) == before


def test_out_inside_what_is_read_is_refused(tmp_path):
    src = fill(tmp_path / "src", MARKET)
    with pytest.raises(UsageError, match="outside"):
        prepare("market1501", src, src / "query" / "out")
    prepare("market1501", src, src / "pytorch")  # beside the released folders is where the usual script writes
    assert images(src / "pytorch") == TREE


def test_out_that_was_made_from_something_else_is_refused(tmp_path):
    src = fill(tmp_path / "src", MARKET)
    prepare("market1501", src, tmp_path / "out")
    before = stamps(tmp_path / "out")
    other = fill(tmp_path / "other", {**MARKET, "query/0001_c3s1_001051_00.jpg": b"more"})
    duke = fill(
        tmp_path / "duke",
        {
            "bounding_box_train/0002_c1_f0044158.jpg": b"1",
            "bounding_box_test/0005_c1_f0000001.jpg": b"2",
            "query/0005_c2_f0000001.jpg": b"3",
        },
    )
    for dataset, source in (("market1501", other), ("dukemtmcreid", duke)):
        with pytest.raises(UsageError, match="made from something else"):
            prepare(dataset, source, tmp_path / "out")
    assert stamps(tmp_path / "out") == before
    assert prepare("market1501", src, tmp_path / "out", mode="hardlink").already, (
        "the mode of a finished OUT is history"
    )


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2}', '{"version": 1, "items": []}', "\0"])
def test_a_damaged_journal_is_an_error(tmp_path, text):
    src = fill(tmp_path / "src", MARKET)
    prepare("market1501", src, tmp_path / "out")
    (tmp_path / "out/.prepare.json").write_text(text)
    with pytest.raises(DataError, match="cannot be read"):
        prepare("market1501", src, tmp_path / "out")


def test_a_forged_journal_moves_nothing_elsewhere(tmp_path):
    from reid_core.prepare._plan import Item, digest

    src = fill(tmp_path / "src", MARKET)
    prepare("market1501", src, tmp_path / "out", mode="move")
    note = json.loads((tmp_path / "out/.prepare.json").read_text())
    for source, target in (
        ("../secret", "train/x/y.jpg"),
        ("query/a.jpg", "../../x/y.jpg"),
        ("/etc/passwd", "val/x/y"),
    ):
        item = Item(source, target, 1, 0, "train", 1, "")
        note.update(state="working", items=[list(vars(item).values())], plan=digest([item]))
        (tmp_path / "out/.prepare.json").write_text(json.dumps(note))
        with pytest.raises(DataError, match="cannot be read"):
            prepare("market1501", src, tmp_path / "out", mode="move")


def test_empty_images_are_all_named_and_nothing_is_written(tmp_path):
    files = {**MARKET, "query/0001_c3s1_1.jpg": b"", "bounding_box_train/0002_c5s1_1.jpg": b""}
    for src in (fill(tmp_path / "src", files), pack(tmp_path / "src.zip", files)):
        with pytest.raises(DataError) as caught:
            prepare("market1501", src, tmp_path / "out")
        assert "2 images" in str(caught.value)
        assert "query/0001_c3s1_1.jpg" in str(caught.value) and "0002_c5s1_1.jpg" in str(caught.value)
        assert not (tmp_path / "out").exists()


def test_damaged_images_are_copied_unopened(tmp_path):
    files = {**MARKET, "query/0001_c3s1_1.jpg": b"\xff\xd8\xff cut"}
    prepare("market1501", fill(tmp_path / "src", files), tmp_path / "out")
    assert (tmp_path / "out/query/0001/0001_c3s1_1.jpg").read_bytes() == b"\xff\xd8\xff cut"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"query/0001_c2s1_001051_00.JPG": b"x"}, "would both become"),
        ({"query/holiday.jpg": b"x"}, "'holiday.jpg'"),
        ({"bounding_box_train/0000_c1s1_1.jpg": b"x"}, "belong to the gallery"),
    ],
)
def test_sources_that_do_not_fit(tmp_path, extra, message):
    with pytest.raises(DataError, match=message):
        prepare("market1501", fill(tmp_path / "src", {**MARKET, **extra}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_sources_are_explained(tmp_path):
    with pytest.raises(DataError, match="there is nothing at"):
        prepare("market1501", tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(DataError, match="expected bounding_box_train, query, bounding_box_test"):
        prepare("market1501", fill(tmp_path / "photos", {"a.jpg": b"x"}), tmp_path / "out")
    prepare("market1501", fill(tmp_path / "src", MARKET), tmp_path / "made")
    with pytest.raises(DataError, match="prepared already"):
        prepare("market1501", tmp_path / "made", tmp_path / "out")
    fill(tmp_path / "two" / "a", MARKET)
    fill(tmp_path / "two" / "b", MARKET)
    with pytest.raises(DataError, match="several folders"):
        prepare("market1501", tmp_path / "two", tmp_path / "out")
    os.symlink("nowhere", tmp_path / "src/query/0001_c5s1_1.jpg")
    with pytest.raises(DataError, match="link to nothing"):
        prepare("market1501", tmp_path / "src", tmp_path / "out")


def test_a_pipe_among_the_images_does_not_hang(tmp_path):
    src = fill(tmp_path / "src", MARKET)
    os.mkfifo(src / "query/0001_c5s1_1.jpg")
    with pytest.raises(DataError, match="no regular file"):
        prepare("market1501", src, tmp_path / "out")


def test_modes_that_the_source_cannot_give(tmp_path):
    packed = pack(tmp_path / "src.zip", MARKET)
    for mode in ("hardlink", "symlink", "move"):
        with pytest.raises(UsageError, match="use --mode copy"):
            prepare("market1501", packed, tmp_path / "out", mode=mode)
    src = fill(tmp_path / "src", MARKET)
    with pytest.raises(UsageError, match="'hardlink'"):
        prepare("market1501", src, tmp_path / "out", mode="hardlinks")
    (tmp_path / "real.jpg").write_bytes(b"x")
    os.symlink(tmp_path / "real.jpg", src / "query/0001_c5s1_1.jpg")
    with pytest.raises(UsageError, match="are links"):
        prepare("market1501", src, tmp_path / "out", mode="move")
    assert not (tmp_path / "out").exists() and set(MARKET) <= set(tree(src))


def test_too_little_space_is_said_before_anything_is_written(tmp_path, monkeypatch):
    src = fill(tmp_path / "src", MARKET)
    monkeypatch.setattr(_checks.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(CheckpointError, match="10 free"):
        prepare("market1501", src, tmp_path / "out")
    assert not (tmp_path / "out").exists()


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


def run(*argv: object) -> int:
    return _main.run([str(word) for word in argv])


def test_command(tmp_path, capsys):
    src, out = fill(tmp_path / "src", MARKET), tmp_path / "out"
    assert run("prepare", "market1501", src, out) == 0
    shown = capsys.readouterr()
    assert ["train_all", "6", "3", "12,936", "751", "differs"] in [line.split() for line in shown.out.splitlines()]
    assert "warning: the counts of train_all, train, val, query, gallery, multi-query" in shown.err
    assert run("prepare", "market1501", src, out, "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["counts"]["train"] == {"images": 4, "identities": 3}
    assert "complete already; nothing was changed" in shown.err


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("prepare", "market1501", "SRC"), 2),
        (("prepare", "market1501", "SRC", "OUT", "x"), 2),
        (("prepare", "market1501", "SRC", "OUT", "--ids", "3"), 2),
        (("prepare", "market1501", "SRC", "OUT", "--images", "labeled"), 2),
        (("prepare", "market1501", "SRC", "OUT", "--mode", "move"), 2),  # no terminal to ask at
        (("prepare", "markt1501", "SRC", "OUT"), 2),
        (("prepare", "market1501", "SRC/query", "OUT"), 3),
    ],
)
def test_command_mistakes(tmp_path, capsys, argv, code):
    src, out = fill(tmp_path / "src", MARKET), tmp_path / "out"
    assert run(*(a.replace("SRC", str(src)).replace("OUT", str(out)) for a in argv)) == code
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("reid-core prepare: error: ") and shown.err.count("\n") == 1
    assert not out.exists() and tree(src) == MARKET


def test_command_moves_with_yes(tmp_path):
    src, out = fill(tmp_path / "src", MARKET), tmp_path / "out"
    assert run("prepare", "market1501", src, out, "--mode", "move", "--yes") == 0
    assert images(out) == TREE


def test_tool(tmp_path):
    """The script of a checkout, from another folder, with a disk that takes no more: exit 4, then on to the end."""
    src, out = fill(tmp_path / "src", {**MARKET, "query/0001_c3s1_1.jpg": bytes(200_000)}), tmp_path / "out"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
    tool = str(PROJECT / "tools/prepare_market1501.py")
    start = f"import runpy, sys; sys.argv = [{tool!r}, {str(src)!r}, {str(out)!r}]; runpy.run_path({tool!r}, run_name='__main__')"
    full = subprocess.run(
        [sys.executable, "-c", limit + start], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert full.returncode == 4, full.stderr
    assert "free some space" in full.stderr and "Traceback" not in full.stderr
    left = images(out)
    assert left and all(TREE[path] == data for path, data in left.items()), "what is there is whole"
    assert not (out / ".prepare.part").exists() and not (out / "manifest.csv").exists()
    done = subprocess.run([sys.executable, tool, src, out], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "train_all" in done.stdout, done.stderr
    assert images(out) == {**TREE, "query/0001/0001_c3s1_1.jpg": bytes(200_000)}


def test_synthetic_is_wired(tmp_path, monkeypatch, capsys):
    from types import SimpleNamespace

    from reid_core.cli import prepare as verb

    called = []
    fake = SimpleNamespace(write=lambda out, **given: called.append((out, given["ids"], given["seed"])))
    monkeypatch.setattr(verb, "resolve_name", lambda text: text)
    monkeypatch.setattr(verb.plugins, "load", lambda package, name: fake)
    assert run("prepare", "synthetic", tmp_path / "out", "--ids", 12, "--seed", 3) == 0
    assert called == [(tmp_path / "out", 12, 3)]
    for argv in (("extra", "--ids", 3), (), ("--ids", 3, "--mode", "move")):
        assert run("prepare", "synthetic", tmp_path / "out", *argv) == 2
    assert len(called) == 1 and "needs --ids" in capsys.readouterr().err


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
