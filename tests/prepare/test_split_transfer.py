"""Placing images: nothing is lost whenever it stops, it goes on, and it can be taken back."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from killed_moves import images, kill_while_moving, tree

from reid_core.data import manifest, pid_folders
from reid_core.errors import DataError, UsageError
from reid_core.prepare import _checks, _folder, _place
from reid_core.prepare._transfer import resume, transfer
from reid_core.prepare._undo import undo
from reid_core.prepare.split_reid import SplitPlan, plan_split

OPTIONS = {"seed": 1}


def source(tmp_path: Path, ids: int = 4, images: int = 4) -> Path:
    root = tmp_path / "my crops"
    for pid in range(ids):
        folder = root / f"person {pid}"
        folder.mkdir(parents=True)
        for i in range(images):
            (folder / f"{pid}_c{i % 2 + 1}_é{i}.jpg").write_bytes(f"{pid} {i}".encode())
    (root / "notes.txt").write_text("keep me")
    return root


def planned(root: Path) -> SplitPlan:
    return plan_split(pid_folders.read(root))


@pytest.mark.parametrize("mode", ["copy", "hardlink", "symlink", "move"])
def test_round_trip(mode: str, tmp_path: Path) -> None:
    root, out = source(tmp_path), tmp_path / "new" / "data"
    before, plan = tree(root), planned(root)
    ticks: list[tuple[int, int]] = []
    transfer(root, plan.items, out, mode, OPTIONS, lambda done, total: ticks.append((done, total)))
    assert ticks[-1] == (16, 16)
    split = manifest.read(out, allow_outside=mode == "symlink")
    assert len(split.train) == 8 and len(split.query) == 4 and len(split.gallery) == 4
    for item in plan.items:
        assert (out / item.target).read_bytes() == before[item.source]
        assert (out / item.target).is_symlink() == (mode == "symlink")
    assert tree(root) == ({"notes.txt": b"keep me"} if mode == "move" else before)
    if mode == "hardlink":
        assert all(os.path.samefile(root / i.source, out / i.target) for i in plan.items)
    folders = pid_folders.read(out)  # the other reader takes it as well, with the same people
    assert [s.path for s in folders.train] == [s.path for s in split.train]
    assert [s.camid for s in folders.train] == [s.camid for s in split.train]
    assert sorted(p.name for p in out.iterdir()) == [".split.json", "gallery", "manifest.csv", "query", "train"]
    assert undo(out) == 16
    assert tree(root) == before
    assert not out.exists()


def test_undo_keeps_what_is_not_ours(tmp_path: Path) -> None:
    root, out = source(tmp_path), tmp_path / "data"
    transfer(root, planned(root).items, out)
    (out / "train" / "my notes.txt").write_text("mine")
    undo(out)
    assert tree(out) == {"train/my notes.txt": b"mine"}


def test_undo_keeps_a_copy_that_is_the_last_or_was_changed(tmp_path: Path) -> None:
    root, out = source(tmp_path), tmp_path / "data"
    plan = planned(root)
    transfer(root, plan.items, out)
    gone, changed = plan.items[0], plan.items[1]
    lost = (root / gone.source).read_bytes()
    (root / gone.source).unlink()
    (out / changed.target).write_bytes(b"retouched")
    with pytest.raises(DataError, match="2 of 16 images could not be taken back.*only copy.*differs"):
        undo(out)
    assert (out / gone.target).read_bytes() == lost and (out / changed.target).read_bytes() == b"retouched"
    assert len(images(out)) == 2
    (root / gone.source).write_bytes(lost)
    (out / changed.target).unlink()
    assert undo(out) == 16
    assert not out.exists()


def test_undo_of_a_move_never_overwrites(tmp_path: Path) -> None:
    root, out = source(tmp_path), tmp_path / "data"
    plan = planned(root)
    transfer(root, plan.items, out, "move")
    (root / plan.items[0].source).write_bytes(b"another image came here")
    with pytest.raises(DataError, match="1 of 16.*differs"):
        undo(out)
    assert (root / plan.items[0].source).read_bytes() == b"another image came here"
    assert (out / plan.items[0].target).exists()


def test_undo_of_a_split_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no split that could be undone"):
        undo(tmp_path)
    (tmp_path / ".split.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        undo(tmp_path)


def test_undo_by_a_forged_manifest_reaches_nothing_outside(tmp_path: Path) -> None:
    root, out = source(tmp_path), tmp_path / "data"
    transfer(root, planned(root).items, out, "move")
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"x")
    text = (out / "manifest.csv").read_text()
    for row in ("../secret.jpg,1,0,train,person 0/x.jpg", "train/x.jpg,1,0,train,../../x.jpg", f"{secret},1,0,train,x"):
        (out / "manifest.csv").write_text(text + row + "\n")
        with pytest.raises(DataError, match="line 18: the path is refused"):
            undo(out)
    assert secret.exists() and len(images(out)) == 16


def test_refused_before_anything_is_touched(tmp_path: Path) -> None:
    root = source(tmp_path)
    plan, before = planned(root), tree(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("")
    before = tree(tmp_path)
    for out, message in (
        (tmp_path / "full", "is not an empty folder"),
        (tmp_path / "full" / "a.txt", "is not an empty folder"),
        (root / "new", "lie in one another"),
        (root, "lie in one another"),
        (tmp_path, "lie in one another"),
    ):
        with pytest.raises(UsageError, match=message):
            transfer(root, plan.items, out)
    with pytest.raises(UsageError, match="--mode is one of"):
        transfer(root, plan.items, tmp_path / "new", "teleport")
    assert tree(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_a_link_is_not_moved(tmp_path: Path) -> None:
    root = source(tmp_path)
    (root / "person 0" / "l_c1.jpg").symlink_to("0_c1_é0.jpg")
    with pytest.raises(DataError, match=r"l_c1\.jpg is a link.*--mode copy"):
        transfer(root, planned(root).items, tmp_path / "data", "move")
    assert not (tmp_path / "data").exists()
    transfer(root, planned(root).items, tmp_path / "data", "copy")
    assert not any(p.is_symlink() for p in (tmp_path / "data").rglob("*"))


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = source(tmp_path)
    monkeypatch.setattr(_checks.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(OSError, match="are needed and 100 are free") as error:
        transfer(root, planned(root).items, tmp_path / "data")
    assert error.value.errno == errno.ENOSPC
    assert not (tmp_path / "data").exists()


def test_two_at_once(tmp_path: Path) -> None:
    root, out = source(tmp_path), tmp_path / "data"
    with _folder.locked(out), pytest.raises(UsageError, match="another command is at work"):
        transfer(root, planned(root).items, out)


def test_a_wrong_copy_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = source(tmp_path), tmp_path / "data"

    def wrong(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes().replace(b"2 2", b"2 3"))

    monkeypatch.setitem(_place._PLACE, "copy", wrong)
    with pytest.raises(DataError, match="1 of 16 images are not as they should be.*differs from its source"):
        transfer(root, planned(root).items, out)
    assert not (out / "manifest.csv").exists()


class Stop(Exception):
    """A failure nobody expects."""


@pytest.mark.parametrize("other_disk", [False, True])
@pytest.mark.parametrize("then", ["go on", "undo"])
def test_stopped_at_every_step_of_a_move(
    other_disk: bool, then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th call to the file system fails, for every n: each image is still somewhere, and both ways out work."""
    if other_disk:

        def no_links(*_: object, **__: object) -> None:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", no_links)
    calls = {name: getattr(os, name) for name in ("link", "unlink", "replace", "mkdir")}
    calls["fsync"] = lambda _: None  # a thousand real ones take a minute; that they come in order is tested elsewhere
    step, finished = 0, False
    while not finished:
        step += 1
        root, out = source(tmp_path / str(step), ids=3, images=2), tmp_path / str(step) / "data"
        before, plan, left = tree(root), plan_split(pid_folders.read(root), "1"), [step]
        with monkeypatch.context() as patch:
            for name, real in calls.items():

                def counted(*a: object, real=real, left=left, **k: object) -> object:  # type: ignore[no-untyped-def]
                    left[0] -= 1
                    if left[0] == 0:
                        raise Stop
                    return real(*a, **k)

                patch.setattr(os, name, counted)
            try:
                transfer(root, plan.items, out, "move", OPTIONS)
                finished = True
            except Stop:
                pass
        assert set(images(root, out)) == {b for n, b in before.items() if n.endswith(".jpg")}, step
        if then == "go on":
            if (out / ".split_journal.csv").exists():
                assert resume(out, root, "move", OPTIONS) == 6
            elif not (out / "manifest.csv").exists():
                transfer(root, plan.items, out, "move", OPTIONS)
            assert len(manifest.read(out).train) == 4
            assert images(root) == [] and images(out) == sorted(b for n, b in before.items() if n.endswith(".jpg"))
            assert list(out.rglob("*.part")) == []
        if (out / ".split.json").exists():
            undo(out)
        assert tree(root) == before, step
        assert not out.exists() or not any(out.iterdir())
    assert step > 20


KILLED = """
import sys
from pathlib import Path
from reid_core.data import pid_folders
from reid_core.prepare._transfer import resume, transfer
from reid_core.prepare.split_reid import plan_split
root, out = Path(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
if not resume(out, root, "move", {"seed": 1}):
    transfer(root, plan_split(pid_folders.read(root)).items, out, "move", {"seed": 1})
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_killed_while_moving(tmp_path: Path) -> None:
    kill_while_moving(KILLED, source(tmp_path, ids=40, images=10), tmp_path / "data", 12)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_killed_two_hundred_times(tmp_path: Path) -> None:
    kill_while_moving(KILLED, source(tmp_path, ids=40, images=10), tmp_path / "data", 200)


def test_going_on_must_be_the_same_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = source(tmp_path), tmp_path / "data"
    assert resume(out, root, "copy", OPTIONS) == 0

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_place, "_write", full)
        with pytest.raises(OSError, match="No space"):
            transfer(root, planned(root).items, out, "copy", OPTIONS)
    assert images(out) == [] and not list(out.rglob("*.part"))
    for mode, options in (("move", OPTIONS), ("copy", {"seed": 2})):
        with pytest.raises(UsageError, match="interrupted split.*repeat that command"):
            resume(out, root, mode, options)
    with pytest.raises(UsageError, match="interrupted split"):
        resume(out, tmp_path / "elsewhere", "copy", OPTIONS)
    assert resume(out, root / "manifest.csv" if (root / "manifest.csv").exists() else root, "copy", OPTIONS) == 16
    assert json.loads((out / ".split.json").read_text())["state"] == "complete"
    assert images(out) == images(root)


def begun(root: Path, out: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> SplitPlan:
    """A transfer that stopped before its first image."""
    plan = planned(root)

    def stop(*_: object) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setitem(_place._PLACE, mode, stop)
        with pytest.raises(Stop):
            transfer(root, plan.items, out, mode, OPTIONS)
    return plan


def test_another_file_in_the_way_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = source(tmp_path), tmp_path / "data"
    item = begun(root, out, "move", monkeypatch).items[3]
    (out / item.target).parent.mkdir(parents=True, exist_ok=True)
    (out / item.target).write_bytes(b"somebody's")
    mine = (root / item.source).read_bytes()
    with pytest.raises(DataError, match="is there already and differs.*both were kept"):
        resume(out, root, "move", OPTIONS)
    assert (out / item.target).read_bytes() == b"somebody's" and (root / item.source).read_bytes() == mine


@pytest.mark.parametrize("mode", ["copy", "hardlink", "symlink"])
def test_what_was_retouched_meanwhile_is_kept(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = source(tmp_path), tmp_path / "data"
    item = begun(root, out, mode, monkeypatch).items[3]
    (out / item.target).parent.mkdir(parents=True, exist_ok=True)
    (out / item.target).write_bytes(b"retouched")
    with pytest.raises(DataError, match="1 of 16 images are not as they should be.*differs from its source"):
        resume(out, root, mode, OPTIONS)
    assert (out / item.target).read_bytes() == b"retouched" and not (out / "manifest.csv").exists()
    (out / item.target).unlink()
    assert resume(out, root, mode, OPTIONS) == 16


@pytest.mark.parametrize("mode", ["copy", "move"])
def test_dates_and_rights_come_along(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    root, out = source(tmp_path), tmp_path / "data"
    monkeypatch.setattr(os, "link", no_links)
    item = planned(root).items[0]
    (root / item.source).chmod(0o440)
    os.utime(root / item.source, (1, 10**9))
    transfer(root, planned(root).items, out, mode)
    assert (out / item.target).stat().st_mtime == 10**9 and (out / item.target).stat().st_mode & 0o777 == 0o440


def test_half_copies_left_behind_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for mode in ("go on", "undo"):
        root, out = source(tmp_path / mode), tmp_path / mode / "data"
        item = begun(root, out, "copy", monkeypatch).items[3]
        (out / item.target).parent.mkdir(parents=True, exist_ok=True)
        (out / item.target).with_name(".reid_core.4242.part").write_bytes(b"ha")
        if mode == "go on":
            resume(out, root, "copy", OPTIONS)
            assert not list(out.rglob("*.part"))
        else:
            undo(out)
            assert not out.exists()


def test_to_another_disk_the_original_goes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that came out short is noticed before its original is removed, and a good one is on the disk by then."""

    def no_links(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    write = _place._write

    def short(pieces: Iterator[bytes], *rest: object) -> str:
        return write(iter([b"".join(pieces)[:-1]]), *rest)

    one, other = tmp_path / "one.jpg", tmp_path / "other.jpg"
    one.write_bytes(b"picture")
    one.chmod(0o444)
    monkeypatch.setattr(os, "link", no_links)
    with monkeypatch.context() as patch:
        patch.setattr(_place, "_write", short)
        with pytest.raises(DataError, match="both were kept"):
            _place._move(one, other)
    assert one.read_bytes() == b"picture"
    other.unlink()
    steps: list[str] = []
    real = {name: getattr(os, name) for name in ("fsync", "unlink", "replace")}
    for name in real:
        monkeypatch.setattr(os, name, lambda *a, name=name: (steps.append(name), real[name](*a))[1])
    _place._move(one, other)
    assert other.read_bytes() == b"picture" and not one.exists()
    assert [s for s in steps if s != "unlink"] == ["fsync", "replace", "fsync", "fsync"] and steps[-1] == "unlink"
