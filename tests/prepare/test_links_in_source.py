"""Links inside SRC are as good as files while they stay in it; one that leads out is refused by name."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from reid_core.cli._main import run
from reid_core.data import pid_folders
from reid_core.errors import DataError, UsageError
from reid_core.prepare._transfer import transfer
from reid_core.prepare.split_reid import plan_split
from reid_core.prepare.training_layout import prepare

MARKET = {
    "bounding_box_train/0002_c1s1_000451_03.jpg": b"a1",
    "bounding_box_train/0002_c2s1_000451_03.jpg": b"a2",
    "bounding_box_test/0001_c1s1_000001_00.jpg": b"g1",
    "query/0001_c2s1_001051_00.jpg": b"q1",
}
LINK = "query/0001_c3s1_000001_00.jpg"
PLACED = "query/0001/0001_c3s1_000001_00.jpg"
SECRET = b"root:x:0:0"
MODES = ("copy", "hardlink", "symlink")


def fill(root: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def market(tmp_path: Path) -> Path:
    fill(tmp_path, {"passwd": SECRET})
    return fill(tmp_path / "src", MARKET)


def crops(tmp_path: Path) -> Path:
    fill(tmp_path, {"passwd": SECRET})
    return fill(tmp_path / "src", {f"{pid}/{pid}_c{c}.jpg": f"{pid} {c}".encode() for pid in range(4) for c in (1, 2)})


@pytest.mark.parametrize("mode", MODES)
def test_a_link_to_an_image_of_the_source_is_an_image(tmp_path: Path, mode: str) -> None:
    src, out = market(tmp_path), tmp_path / "out"
    (src / "more").mkdir()
    (src / "more" / "real.jpg").write_bytes(b"more")  # in SRC, though in no folder that is read
    (src / LINK).symlink_to("../more/real.jpg")
    assert prepare("market1501", src, out, mode=mode).counts["query"] == (2, 1)
    assert (out / PLACED).read_bytes() == b"more" and (out / PLACED).is_symlink() == (mode == "symlink")
    assert prepare("market1501", src, out, mode=mode).already


def test_a_linked_folder_of_the_source_may_lie_beside_the_released_ones(tmp_path: Path) -> None:
    """The data are found one folder down; the link leaves that folder, and not SRC, itself named by a link."""
    top = market(tmp_path / "disk" / "deep")
    shutil.move(top / "query", top.parent / "queries")
    (top / "query").symlink_to("../queries")
    (tmp_path / "named").symlink_to(tmp_path / "disk" / "deep")
    assert prepare("market1501", tmp_path / "named", tmp_path / "out").counts["query"] == (1, 1)
    with pytest.raises(DataError, match="lead out"):
        prepare("market1501", top, tmp_path / "other")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["absolute", "relative", "by another link", "to a namesake"])
def test_a_link_that_leads_out_is_named_and_nothing_is_written(tmp_path: Path, mode: str, kind: str) -> None:
    src, out = market(tmp_path), tmp_path / "out"
    to = {"absolute": str(tmp_path / "passwd"), "relative": "../../passwd", "by another link": "../hop.jpg"}
    if kind == "to a namesake":  # a folder whose name only begins like SRC's
        to[kind] = str(fill(tmp_path / "src-private", {"passwd": SECRET}) / "passwd")
    (src / "hop.jpg").symlink_to(tmp_path / "passwd")
    (src / LINK).symlink_to(to[kind])
    with pytest.raises(DataError) as caught:
        prepare("market1501", src, out, mode=mode)
    assert f"1 images of {src}" in str(caught.value)
    assert f"{src / LINK} -> {(src / LINK).resolve()}" in str(caught.value) and "cp -RL" in str(caught.value)
    assert not out.exists()
    (src / "hop.jpg").unlink()
    if kind != "by another link":  # what the message advises
        shutil.copytree(src, tmp_path / "copy")
        assert prepare("market1501", tmp_path / "copy", out, mode=mode).counts["query"] == (2, 1)


def test_a_linked_folder_that_leads_out_is_named_once(tmp_path: Path) -> None:
    src = market(tmp_path)
    shutil.move(src / "bounding_box_train", tmp_path / "elsewhere")
    (src / "bounding_box_train").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError) as caught:
        prepare("market1501", src, tmp_path / "out")
    assert f"2 images of {src}" in str(caught.value)
    assert str(caught.value).count("bounding_box_train") == 1 and "/0002_" not in str(caught.value)


def test_many_links_are_counted(tmp_path: Path) -> None:
    src = market(tmp_path)
    for i in range(8):
        (src / f"query/0001_c3s1_00000{i}_00.jpg").symlink_to(tmp_path / "passwd")
    with pytest.raises(DataError, match="8 images.*and 3 more"):
        prepare("market1501", src, tmp_path / "out")


@pytest.mark.parametrize("mode", ["copy", "move"])
def test_a_link_that_came_while_it_stood_still_is_not_followed(tmp_path: Path, mode: str) -> None:
    src, out = market(tmp_path), tmp_path / "out"

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("market1501", src, out, mode=mode, progress=stop)
    last = src / "query/0001_c2s1_001051_00.jpg"
    last.unlink()
    (tmp_path / "pw").write_bytes(b"no")  # of the same size: the same plan
    last.symlink_to(tmp_path / "pw")
    with pytest.raises(UsageError if mode == "move" else DataError, match="link"):
        prepare("market1501", src, out, mode=mode)
    assert not any(path.read_bytes() == b"no" for path in out.rglob("*") if path.is_file())


def test_what_lies_behind_a_link_is_not_moved(tmp_path: Path) -> None:
    src, out = market(tmp_path), tmp_path / "out"
    (src / "gt_bbox").symlink_to("query")  # two names of one image: the second would be gone half-way
    with pytest.raises(UsageError, match="1 images are links or lie behind one.*gt_bbox"):
        prepare("market1501", src, out, mode="move")
    assert not out.exists()
    assert prepare("market1501", src, out).counts["multi-query"] == (1, 1)


def test_a_forged_note_names_no_other_folder(tmp_path: Path) -> None:
    src, out = market(tmp_path), tmp_path / "out"
    prepare("market1501", src, out, mode="move")
    note = json.loads((out / ".prepare.json").read_text())
    for top in ("..", "/etc", "a/../../b"):
        (out / ".prepare.json").write_text(json.dumps({**note, "state": "working", "top": top}))
        with pytest.raises(DataError, match="cannot be read"):
            prepare("market1501", src, out, mode="move")


@pytest.mark.parametrize("mode", MODES)
def test_a_split_refuses_it_too(tmp_path: Path, mode: str) -> None:
    src, out = crops(tmp_path), tmp_path / "out"
    (src / "0" / "inside_c3.jpg").symlink_to("../1/1_c1.jpg")
    transfer(src, plan_split(pid_folders.read(src)).items, out, mode)
    (src / "0" / "out_c3.jpg").symlink_to("../../passwd")
    with pytest.raises(DataError, match=r"0/out_c3\.jpg -> .*passwd") as caught:
        transfer(src, plan_split(pid_folders.read(src)).items, tmp_path / "other", mode)
    assert "inside" not in str(caught.value) and not (tmp_path / "other").exists()


def test_a_split_with_leave_to_follow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Links that a split made itself lead out; its manifest is read with ``--allow_outside``, and so is it split."""
    src, links, out = crops(tmp_path), tmp_path / "links", tmp_path / "out"
    assert run(["split", "reid", str(src), str(links), "--mode", "symlink"]) == 0
    assert run(["split", "reid", str(links), str(out), "--dataset", "pid_folders"]) == 3
    assert "by links that lead out" in capsys.readouterr().err and not out.exists()
    assert run(["split", "reid", str(links), str(out), "--allow_outside"]) == 0
    assert len([p for p in out.rglob("*.jpg") if not p.is_symlink()]) == 8
    assert run(["split", "reid", str(out), "--undo"]) == 0 and not os.path.lexists(out)
