"""What is not prepared: folders of somebody else, damaged journals, sources that do not fit. Nothing is written then."""

import json
import os
import shutil

import pytest
from released_market import MARKET, TREE, fill, images, pack, stamps, tree

from reid_core.errors import CheckpointError, DataError, UsageError
from reid_core.prepare import _checks
from reid_core.prepare.training_layout import prepare


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
