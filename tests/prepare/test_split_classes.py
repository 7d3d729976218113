"""Splitting class folders: the same share of every class, every image once, and nothing lost whenever it stops."""

from __future__ import annotations

import errno
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from killed_moves import images, kill_while_moving, tree

from reid_core.data import image_folder
from reid_core.errors import DataError, UsageError
from reid_core.prepare import _place
from reid_core.prepare._transfer import resume, transfer
from reid_core.prepare._undo import undo
from reid_core.prepare.split_classes import class_root, plan_classes, validation_count

PROJECT = Path(__file__).resolve().parents[2]
OPTIONS: dict[str, str | int] = {"val": "0.25", "seed": 0, "min_per_class": 1}


def photos(root: Path, counts: dict[str, int]) -> Path:
    """Class folders with images (of text: nothing here opens them) whose contents are all different."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            (root / name / f"{i:03d}.jpg").write_bytes(f"{name} {i}".encode())
    return root


@pytest.mark.parametrize(
    ("images", "val", "least", "expected"),
    [
        (1, 0.1, 1, 0),
        (2, 0.1, 1, 1),
        (4, 0.1, 1, 1),
        (5, 0.1, 1, 1),
        (15, 0.1, 1, 2),  # 1.5 goes up
        (25, 0.1, 1, 3),
        (100, 0.1, 1, 10),
        (10, 0.99, 1, 9),
        (2, 0.9, 1, 1),
        (10, 0.1, 5, 5),
        (4, 0.1, 5, 3),
        (1, 0.5, 5, 0),
    ],
)
def test_how_many_validate(images: int, val: float, least: int, expected: int) -> None:
    assert validation_count(images, val, least) == expected


@given(st.lists(st.integers(1, 40), min_size=2, max_size=8), st.floats(0.01, 0.99), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_every_image_goes_to_one_place_and_every_class_gives_its_share(sizes: list[int], val: float, seed: int) -> None:
    if max(sizes) < 2:
        return
    with tempfile.TemporaryDirectory() as folder:
        root = photos(Path(folder) / "x", {f"class {c}": n for c, n in enumerate(sizes)})
        plan = plan_classes(root, val, seed)
        assert sorted(item.source for item in plan.items) == sorted(
            str(path.relative_to(root)) for path in root.rglob("*.jpg")
        )
        assert all(item.target == f"{item.split}/{item.source}" for item in plan.items)
        assert plan.class_names == tuple(sorted(f"class {c}" for c in range(len(sizes))))
        for c, n in enumerate(sizes):
            expected = min(max(math.floor(n * val + 0.5), 1), n - 1)
            assert plan.counts()[f"class {c}"] == (n - expected, expected)


def test_the_seed_decides_and_additions_do_not_shuffle(tmp_path: Path) -> None:
    root = photos(tmp_path / "x", {"cat": 40, "dog": 40})
    first = {item.source: item.split for item in plan_classes(root, 0.25).items}
    assert first == {item.source: item.split for item in plan_classes(root, 0.25).items}
    assert first != {item.source: item.split for item in plan_classes(root, 0.25, seed=1).items}
    names = [[i.source[4:] for i in plan_classes(root).items if i.split == "val_split" and i.pid == c] for c in (0, 1)]
    assert names[0] != names[1]  # a class's draw is its own
    (root / "dog" / "999.jpg").write_bytes(b"one more")
    after = {item.source: item.split for item in plan_classes(root, 0.25).items}
    assert {name: part for name, part in after.items() if name.startswith("cat")} == {
        name: part for name, part in first.items() if name.startswith("cat")
    }


@pytest.mark.parametrize("mode", ["copy", "hardlink", "symlink", "move"])
def test_round_trip(mode: str, tmp_path: Path) -> None:
    root, out = photos(tmp_path / "my photos", {"Zebra é": 5, "apple": 9, "one": 1}), tmp_path / "new" / "data"
    (root / "apple" / "notes.txt").write_text("mine")
    (root / "apple" / "below").mkdir()
    (root / "apple" / "000.jpg").rename(root / "apple" / "below" / "000.JPG")
    before, plan = tree(root), plan_classes(root, 0.25)
    assert plan.others == ("apple/notes.txt",) and plan.size == sum(map(len, before.values())) - 4
    transfer(root, plan.items, out, mode, plan.options, kind="classes")
    assert sorted(p.name for p in out.iterdir()) == [
        ".split.json", "classes.txt", "split_manifest.csv", "train_split", "val_split",
    ]  # fmt: skip
    assert (out / "classes.txt").read_text() == "Zebra é\napple\none\n"
    assert plan.counts() == {"Zebra é": (4, 1), "apple": (7, 2), "one": (1, 0)}
    for item in plan.items:
        assert (out / item.target).read_bytes() == before[item.source]
        assert (out / item.target).is_symlink() == (mode == "symlink")
    assert tree(root) == ({"apple/notes.txt": b"mine"} if mode == "move" else before)
    assert undo(out) == 15
    assert tree(root) == before and not out.exists()


def test_what_it_makes_is_read_as_class_folders(tmp_path: Path) -> None:
    root, out = photos(tmp_path / "x", {"cat": 8, "dog": 4}), tmp_path / "data"
    plan = plan_classes(root, 0.25)
    transfer(root, plan.items, out, "copy", plan.options, kind="classes")
    split = image_folder.read(out)
    assert (split.train_folder, split.class_names, len(split.train), len(split.test)) == (
        "train_split", ("cat", "dog"), 9, 3,
    )  # fmt: skip
    assert {s.path for s in split.test} == {i.target for i in plan.items if i.split == "val_split"}


def test_undo_leaves_a_list_of_classes_that_was_edited(tmp_path: Path) -> None:
    root, out = photos(tmp_path / "x", {"cat": 8, "dog": 4}), tmp_path / "data"
    transfer(root, plan_classes(root).items, out, kind="classes")
    (out / "classes.txt").write_text("Katze\nHund\n")
    undo(out)
    assert tree(out) == {"classes.txt": b"Katze\nHund\n"}


def test_a_forged_kind_is_refused(tmp_path: Path) -> None:
    root, out = photos(tmp_path / "x", {"cat": 8, "dog": 4}), tmp_path / "data"
    transfer(root, plan_classes(root).items, out, kind="classes")
    state = json.loads((out / ".split.json").read_text())
    for kind in ("../x", ["classes"], None):
        (out / ".split.json").write_text(json.dumps({**state, "kind": kind}))
        with pytest.raises(DataError, match="cannot be read"):
            undo(out)
    assert len(images(out)) == 12


def test_where_the_classes_are(tmp_path: Path) -> None:
    laid_out = tmp_path / "a"
    photos(laid_out / "train", {"cat": 2, "dog": 2})
    photos(laid_out / "test", {"cat": 2, "dog": 2})
    assert class_root(laid_out) == laid_out / "train"
    vehicles = photos(tmp_path / "b", {"bus": 2, "train": 2})
    assert class_root(vehicles) == vehicles
    (vehicles / "train" / "steam").mkdir()
    assert class_root(vehicles) == vehicles
    with pytest.raises(DataError, match="is not a folder"):
        class_root(tmp_path / "none")


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"val": 0.0}, UsageError, r"in \(0, 1\), got 0.0"),
        ({"val": 1.0}, UsageError, r"in \(0, 1\), got 1.0"),
        ({"val": math.nan}, UsageError, "got nan"),
        ({"min_per_class": 0}, UsageError, "--min_per_class must be 1 or more"),
        ({"seed": -1}, UsageError, "--seed 0 or more"),
    ],
)
def test_settings_that_cannot_be_meant(
    more: dict[str, float], error: type[Exception], message: str, tmp_path: Path
) -> None:
    root = photos(tmp_path / "x", {"cat": 8, "dog": 4})
    with pytest.raises(error, match=message):
        plan_classes(root, **more)  # type: ignore[arg-type]


def test_folders_that_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds one class, 'cat'"):
        plan_classes(photos(tmp_path / "one", {"cat": 8}))
    with pytest.raises(DataError, match="every class has a single image"):
        plan_classes(photos(tmp_path / "single", {"cat": 1, "dog": 1}))
    with pytest.raises(DataError, match="1 of 2 class folders hold no JPEG or PNG image: 'dog'"):
        plan_classes(photos(tmp_path / "empty", {"cat": 8, "dog": 0}))
    with pytest.raises(DataError, match="would both become"):
        plan_classes(photos(tmp_path / "case", {"cat": 3, "Cat": 3}))
    nothing = photos(tmp_path / "nothing", {"cat": 3, "dog": 3})
    (nothing / "cat" / "000.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="are empty"):
        plan_classes(nothing)


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder that, where the machine has one, lies on another file system than the tests' folder."""
    place = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


def test_another_file_system_that_runs_full_loses_nothing(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is full after seven images: all are still somewhere, whole, and both ways out work."""
    for then in ("go on", "undo"):
        root, out = photos(tmp_path / then, {"cat": 8, "dog": 8}), elsewhere / then
        before, plan, left = tree(root), plan_classes(root, 0.25), [7]

        def full(*a: object, left: list[int] = left, write: Callable[..., str] = _place._write, **k: object) -> str:
            left[0] -= 1
            if left[0] < 0:
                Path(str(a[1])).write_bytes(b"ha")  # what had room before the disk was full
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(*a, **k)

        def no_links(*_: object, **__: object) -> None:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        with monkeypatch.context() as patch:
            patch.setattr(_place, "_write", full)
            patch.setattr(os, "link", no_links)
            with pytest.raises(OSError, match="No space left"):
                transfer(root, plan.items, out, "move", OPTIONS, kind="classes")
            assert sorted(images(root) + images(out)) == sorted(before.values())
            assert len(images(out)) == 7 and not list(out.rglob("*.part"))
        if then == "go on":
            assert resume(out, root, "move", OPTIONS) == 16
            assert images(out) == sorted(before.values()) and images(root) == []
            assert (out / "split_manifest.csv").is_file() and (out / "classes.txt").is_file()
        undo(out)
        assert tree(root) == before and not out.exists()


KILLED = """
import sys
from pathlib import Path
from reid_core.prepare._transfer import resume, transfer
from reid_core.prepare.split_classes import plan_classes
root, out = Path(sys.argv[1]), Path(sys.argv[2])
options = {"val": "0.25", "seed": 0, "min_per_class": 1}
print("ready", flush=True)
if not resume(out, root, "move", options):
    transfer(root, plan_classes(root, 0.25).items, out, "move", options, kind="classes")
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("other_disk", [False, True])
def test_killed_while_moving(other_disk: bool, tmp_path: Path, elsewhere: Path) -> None:
    root = photos(tmp_path / "photos", {f"class {c}": 12 for c in range(25)})
    kill_while_moving(KILLED, root, (elsewhere if other_disk else tmp_path) / "data", 12)
