"""Manifest reader: what a CSV becomes, and that no row opens anything outside its folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reid_core.data import manifest
from reid_core.data._paths import unsafe
from reid_core.errors import DataError
from reid_core.types import Sample


def folder(tmp_path: Path, rows: str, header: str = "path,pid,camid,split", images: tuple[str, ...] = ()) -> Path:
    root = tmp_path / "my data"
    root.mkdir(exist_ok=True)
    (root / "manifest.csv").write_text(f"{header}\n{rows}", encoding="utf-8")
    for name in images:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"not opened")
    return root


def test_by_hand(tmp_path: Path) -> None:
    rows = "b/é 1.jpg,7,1,train\na.jpg,0,0,train\nq.png,3,0,query\ng.png,3,1,gallery\nj.png,-1,1,gallery\n"
    root = folder(tmp_path, rows, images=("b/é 1.jpg", "a.jpg", "q.png", "g.png", "j.png"))
    for given in (root, root / "manifest.csv"):
        split = manifest.read(given)
        assert (split.dataset, split.root, split.train_folder, split.protocol) == ("manifest", root, "", "market1501")
        assert split.train == (Sample("a.jpg", 0, 0), Sample("b/é 1.jpg", 7, 1))  # pid 0 is a person like any other
        assert split.query == (Sample("q.png", 3, 0),)
        assert split.gallery == (Sample("g.png", 3, 1), Sample("j.png", -1, 1, "junk"))


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("path,pid,split", "a.jpg,1,train\nb.jpg,2,gallery\n"),
        ("path,pid,camid,split", "a.jpg,1,,train\nb.jpg,2,-1,gallery\n"),
        ("split,sha256,pid,PATH", "train,00,1,a.jpg\ngallery,11,2,b.jpg\n"),
    ],
)
def test_without_cameras(header: str, rows: str, tmp_path: Path) -> None:
    split = manifest.read(folder(tmp_path, rows, header, ("a.jpg", "b.jpg")))
    assert split.protocol == "any-camera"
    assert split.train == (Sample("a.jpg", 1, -1),) and split.gallery == (Sample("b.jpg", 2, -1),)


def test_other_training_splits(tmp_path: Path) -> None:
    rows = (
        "train_all/a.jpg,1,0,train_all\ntrain/a.jpg,1,0,train\nval/a.jpg,1,1,val\nmulti-query/a.jpg,1,1,multi-query\n"
    )
    images = ("train_all/a.jpg", "train/a.jpg", "val/a.jpg", "multi-query/a.jpg")
    root = folder(tmp_path, rows, images=images)
    assert [s.path for s in manifest.read(root).train] == ["train/a.jpg"]
    assert [s.path for s in manifest.read(root, train_split="train_all").train] == ["train_all/a.jpg"]
    with pytest.raises(DataError, match="Did you mean 'train_all'"):
        manifest.read(root, train_split="trainall")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "no rows"),
        ("a.jpg,x1,0,train\n", "line 2: pid must be an integer.*'x1'.*pid_folders"),
        ("a.jpg,1.0,0,train\n", "line 2: pid.*'1.0'"),
        ("a.jpg,-2,0,gallery\n", "line 2: pid"),
        ("a.jpg,99999999999999999999,0,train\n", "line 2: pid"),
        ("a.jpg,-1,0,train\n", "line 2: pid -1 marks junk.*train"),
        ("a.jpg,-1,0,query\n", "line 2: pid -1 marks junk.*query"),
        ("a.jpg,1,c3,train\n", "line 2: camid.*'c3'"),
        ("a.jpg,1,-7,train\n", "line 2: camid"),
        ("a.jpg,1,0,trian\n", "line 2: split must be.*'trian'.*Did you mean 'train'"),
        ("a.jpg,1,0,train\na.jpg,1,0,train\n", "line 3: 'a.jpg' stands in train already, in line 2"),
        ("a.jpg,1,0,query\na.jpg,2,0,gallery\n", "line 3: 'a.jpg' has pid 2 here and 1 in line 2"),
        ("a.jpg,1,0,train\nb.jpg,1,,train\n", "line 3 has no camid, line 2 has one"),
        (
            "a.jpg,1,0,train\nc.jpg,1,0,train\nd/e.jpg,1,0,train\n",
            "2 of 3 images are not there: line 3 'c.jpg'; line 4",
        ),
        (",1,0,train\n", "line 2: a path was expected"),
        ("a.jpg,1,train\n", "line 2: 4 cells"),
    ],
)
def test_what_can_be_wrong(rows: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as error:
        manifest.read(folder(tmp_path, rows, images=("a.jpg", "b.jpg")))
    assert "manifest.csv" in str(error.value)


def test_nothing_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match="cannot be read"):
            manifest.read(path)


OUTSIDE = [
    "../secret.jpg",
    "../../my data/../secret.jpg",
    "x/../../secret.jpg",
    "./../secret.jpg",
    "..",
    "../",
    ".",
    "./secret.jpg",
    "x/./../../secret.jpg",
    "x//../../secret.jpg",
    "x//secret.jpg",
    "//secret.jpg",
    "///secret.jpg",
    "/{secret}",
    "{secret}",
    "/etc/passwd",
    "//etc/passwd",
    "/proc/self/environ",
    "~/secret.jpg",
    "~root/secret.jpg",
    "$HOME/secret.jpg",
    "file:///{secret}",
    "http://127.0.0.1/secret.jpg",
    "..\\secret.jpg",
    "x\\..\\..\\secret.jpg",
    "\\secret.jpg",
    "\\\\server\\share\\secret.jpg",
    "\\\\?\\C:\\secret.jpg",
    "C:\\secret.jpg",
    "C:/secret.jpg",
    "C:secret.jpg",
    "..%2fsecret.jpg",
    "%2e%2e/secret.jpg",
    "%2e%2e%2fsecret.jpg",
    "..%5csecret.jpg",
    "..%c0%afsecret.jpg",
    "..\u2215secret.jpg",
    "\uff0e\uff0e/secret.jpg",
    "a.jpg/../../secret.jpg",
    "a.jpg::$DATA",
    "../secret.jpg::$DATA",
    "out/secret.jpg",  # a link to the folder above
    "leaf.jpg",  # a link to the secret
    "hop.jpg",  # a link to a link to it
    " ../secret.jpg",
    "'../secret.jpg",
]


@pytest.mark.parametrize("payload", OUTSIDE)
def test_nothing_outside_is_reached(payload: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    root = folder(tmp_path, "", images=("a.jpg", "x/b.jpg"))
    (root / "out").symlink_to(tmp_path)
    (root / "leaf.jpg").symlink_to(secret)
    (root / "hop.jpg").symlink_to(root / "leaf.jpg")
    folder(tmp_path, f'"{payload.format(secret=secret)}",1,0,train\n')
    with pytest.raises(DataError, match="line 2"):
        manifest.read(root)


def test_nul_in_a_path(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        manifest.read(folder(tmp_path, "a.jpg\0.txt,1,0,train\n", images=("a.jpg",)))


def test_neighbour_whose_name_starts_alike_is_outside(tmp_path: Path) -> None:
    """``/data-secret`` starts with ``/data`` and is not below it."""
    (tmp_path / "my data-secret").mkdir()
    (tmp_path / "my data-secret" / "s.jpg").write_bytes(b"")
    root = folder(tmp_path, "s.jpg,1,0,train\n")
    (root / "s.jpg").symlink_to(tmp_path / "my data-secret" / "s.jpg")
    with pytest.raises(DataError, match="a link on the way leads elsewhere.*--allow_outside"):
        manifest.read(root)


def test_allowed_when_asked_for(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"")
    root = folder(tmp_path, f"../secret.jpg,1,0,train\n{secret},1,0,query\n")
    split = manifest.read(root, allow_outside=True)
    assert (split.root / split.train[0].path).resolve() == (split.root / split.query[0].path).resolve() == secret


def test_links_inside_and_a_linked_root_are_fine(tmp_path: Path) -> None:
    root = folder(tmp_path, "link.jpg,1,0,train\n", images=("a.jpg",))
    (root / "link.jpg").symlink_to("a.jpg")
    (tmp_path / "linked").symlink_to(root)
    assert [s.path for s in manifest.read(tmp_path / "linked").train] == ["link.jpg"]


def test_no_image_is_opened(tmp_path: Path) -> None:
    root = folder(tmp_path, "a.jpg,1,0,train\n", images=("a.jpg",))
    os.chmod(root / "a.jpg", 0)
    assert len(manifest.read(root).train) == 1


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("x/../a.jpg", "holds .."),  # stays inside, and is refused all the same: what x is may change
        ("..", "holds .."),
        ("/a.jpg", "absolute"),
        ("c:a.jpg", "absolute"),
        ("x\\a.jpg", "backslash"),
        ("x//a.jpg", "empty part"),
        ("./a.jpg", "empty part"),
        ("a.jpg/", "empty part"),
        ("a\0.jpg", "NUL"),
        ("a.jpg::$DATA", "stream"),
        ("..a/b...jpg", ""),
        ("12:30:01 é.jpg", ""),
        ("%2e%2e/a.jpg", ""),
    ],
)
def test_the_rule_itself(path: str, reason: str) -> None:
    assert reason in unsafe(path) and bool(unsafe(path)) == bool(reason)
