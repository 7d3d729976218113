"""Killed at every step, a preparation goes on to the same folder, and no image is ever lost.

The child process dies by ``os._exit`` at the n-th file it opens, makes, renames or removes, for every n: no handler
runs, as with SIGKILL. A few trials use SIGKILL itself at random times.
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from reid_core.errors import DataError, UsageError
from reid_core.prepare import _place
from reid_core.prepare.training_layout import prepare

if not hasattr(os, "fork"):
    pytest.skip("needs fork", allow_module_level=True)

# The child of a fork only opens and renames files; threads of other tests do not matter to it.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

FILES = {
    "bounding_box_train/0002_c1s1_000451_03.jpg": b"a1",
    "bounding_box_train/0002_c2s1_000451_03.jpg": b"a2",
    "bounding_box_train/0007_c1s1_000001_00.jpg": b"alone",
    "bounding_box_test/-1_c1s1_000401_03.jpg": b"junk",
    "query/0001_c2s1_001051_00.jpg": b"q1",
}
CHANGES = {"os.rename", "os.link", "os.symlink", "os.remove", "os.mkdir", "os.rmdir"}


def fill(root: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def tree(root: Path) -> dict[str, bytes | str]:
    """Everything in ``root``: contents of files, and folders as folders; of the journal what does not name a place."""
    found: dict[str, bytes | str] = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        found[name] = "folder" if path.is_dir() else path.read_bytes()
    if ".prepare.json" in found:
        note = json.loads(found[".prepare.json"])
        found[".prepare.json"] = json.dumps({**note, "source": ""})
    return found


def dies_at(step: int, work) -> bool:
    """Run ``work`` in a child that is gone at its ``step``-th use of a file; True if it came so far."""
    child = os.fork()
    if child == 0:
        count = 0

        def hook(event: str, args: tuple[object, ...]) -> None:
            nonlocal count
            if event in CHANGES or event == "open":
                count += 1
                if count == step:
                    os._exit(9)

        try:
            sys.addaudithook(hook)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9), f"step {step}: exit status {status}"
    return status == 9


@pytest.fixture(autouse=True)
def quick_sync(monkeypatch):
    monkeypatch.setattr(os, "sync", lambda: None)
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def lost(src: Path, out: Path) -> set[bytes]:
    """Images that are neither in the source nor in OUT."""
    kept = {data for root in (src, out) if root.exists() for data in tree(root).values() if isinstance(data, bytes)}
    return set(FILES.values()) - kept


@pytest.mark.parametrize(
    ("mode", "far"), [("copy", False), ("hardlink", False), ("symlink", False), ("move", False), ("move", True)]
)
def test_killed_at_every_step(tmp_path, monkeypatch, mode, far):
    if far:  # two file systems
        link = os.link

        def crossing(a, b):
            if Path(a).parts[: len(tmp_path.parts) + 2] != Path(b).parts[: len(tmp_path.parts) + 2]:
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            link(a, b)

        monkeypatch.setattr(os, "link", crossing)
    prepare("market1501", fill(tmp_path / "0" / "src", FILES), tmp_path / "0" / "out", mode=mode)
    expected = tree(tmp_path / "0" / "out")
    step = 0
    while True:
        step += 1
        home = tmp_path / str(step)
        src, out = fill(home / "src", FILES), home / "out"
        died = dies_at(step, lambda src=src, out=out: prepare("market1501", src, out, mode=mode))
        assert not lost(src, out), f"step {step}"
        halves = [p for p in out.rglob("*.jpg") if p.is_file() and p.read_bytes() not in FILES.values()]
        assert not halves, f"step {step}"
        if died:  # and once more while it goes on
            dies_at(1 + step % 7, lambda src=src, out=out: prepare("market1501", src, out, mode=mode))
            assert not lost(src, out), f"step {step}"
        again = prepare("market1501", src, out, mode=mode)
        assert tree(out) == expected, f"step {step}"
        assert again.already or died
        assert prepare("market1501", src, out, mode=mode).already
        assert {k: v for k, v in tree(src).items() if v != "folder"} == ({} if mode == "move" else FILES)
        if not died:
            break
    assert step > 20, "the hook saw the work"


def test_half_written_leftovers_are_removed(tmp_path):
    src, out = fill(tmp_path / "src", FILES), tmp_path / "out"
    fill(out, {".prepare.part": b"{half"})
    assert not prepare("market1501", src, out).already, "a folder with nothing but our leftover counts as empty"
    assert not (out / ".prepare.part").exists()
    dies_at(12, lambda: prepare("market1501", src, tmp_path / "other"))
    fill(tmp_path / "other", {".prepare.part": b"half"})
    prepare("market1501", src, tmp_path / "other")
    assert tree(tmp_path / "other") == tree(out)


def cut_short(src: Path, out: Path, mode: str = "copy") -> None:
    """A preparation of which some images are placed."""
    step = 10
    while not any(path.is_file() for path in out.rglob("*.jpg")):
        assert dies_at(step, lambda: prepare("market1501", src, out, mode=mode))
        step += 1
    assert json.loads((out / ".prepare.json").read_text())["state"] == "working"
    assert not (out / "manifest.csv").exists()


def test_what_was_placed_before_is_compared_and_mended(tmp_path):
    src, out = fill(tmp_path / "src", FILES), tmp_path / "out"
    cut_short(src, out)
    placed = next(path for path in sorted(out.rglob("*.jpg")) if path.is_file())
    expected = placed.read_bytes()
    placed.write_bytes(expected[::-1] + b"!")  # what a power cut may leave
    prepare("market1501", src, out)
    assert placed.read_bytes() == expected


def test_a_wrong_second_place_of_a_moved_image_is_mended(tmp_path):
    src, out = fill(tmp_path / "src", FILES), tmp_path / "out"

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("market1501", src, out, mode="move", progress=stop)
    second = next((out / "val").rglob("*.jpg"))
    expected = second.read_bytes()
    second.unlink()
    second.write_bytes(b"!")
    prepare("market1501", src, out, mode="move")
    assert second.read_bytes() == expected and not lost(src, out)


@pytest.mark.parametrize("mode", ["hardlink", "symlink"])
def test_what_stands_for_a_link_is_made_a_link(tmp_path, mode):
    src, out = fill(tmp_path / "src", FILES), tmp_path / "out"
    cut_short(src, out, mode)
    placed = next(path for path in sorted(out.rglob("*.jpg")))
    expected = placed.read_bytes()
    for wrong in ("a file", "a dead link", "a link elsewhere", "a copy"):
        placed.unlink()
        if "link" in wrong:
            placed.symlink_to(tmp_path / "nowhere" if "dead" in wrong else src / "query/0001_c2s1_001051_00.jpg")
        else:
            placed.write_bytes(expected if wrong == "a copy" else b"something else")
        prepare("market1501", src, out, mode=mode)
        assert placed.read_bytes() == expected and placed.is_symlink() == (mode == "symlink"), wrong
        assert mode == "symlink" or placed.stat().st_nlink > 1, wrong
        note = json.loads((out / ".prepare.json").read_text())
        (out / ".prepare.json").write_text(json.dumps({**note, "state": "working"}))


def test_the_images_are_on_the_disk_before_the_note_says_so(tmp_path, monkeypatch):
    src, out = fill(tmp_path / "src", FILES), tmp_path / "out"
    seen = []
    monkeypatch.setattr(os, "sync", lambda: seen.append((out / "manifest.csv").exists()), raising=False)
    prepare("market1501", src, out)
    assert seen == [False]


def test_a_changed_source_or_mode_is_not_mixed_in(tmp_path):
    src, out = fill(tmp_path / "src", FILES), tmp_path / "out"
    cut_short(src, out)
    before = tree(out)
    with pytest.raises(UsageError, match="--mode copy instead of hardlink"):
        prepare("market1501", src, out, mode="hardlink")
    fill(src, {"query/0001_c5s1_1.jpg": b"new"})
    with pytest.raises(UsageError, match="other files"):
        prepare("market1501", src, out)
    assert tree(out) == before


def test_a_moved_image_that_vanished_is_named(tmp_path):
    src, out = fill(tmp_path / "src", FILES), tmp_path / "out"
    cut_short(src, out, "move")
    moved = next(path for path in sorted(out.rglob("*.jpg")))
    for path in out.rglob(moved.name):
        path.unlink()
    with pytest.raises(DataError, match="is gone"):
        prepare("market1501", src, out, mode="move")


def test_two_at_once_are_refused(tmp_path):
    src, out = fill(tmp_path / "src", FILES), tmp_path / "out"
    seen = []

    def second(done: int, total: int) -> None:
        if not seen:
            with pytest.raises(UsageError, match="at work") as caught:
                prepare("market1501", src, out)
            seen.append(caught)

    prepare("market1501", src, out, progress=second)
    assert len(seen) == 1
    assert prepare("market1501", src, out).already


@pytest.mark.parametrize("mode", ["copy", "move"])
def test_every_failing_write_is_an_error_and_goes_on_later(tmp_path, monkeypatch, mode):
    """The disk is full at the n-th file, for every n (a move here is one between file systems)."""
    if mode == "move":

        def crossing(a, b):
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", crossing)
    prepare("market1501", fill(tmp_path / "0" / "src", FILES), tmp_path / "0" / "out", mode=mode)
    expected = tree(tmp_path / "0" / "out")
    write = _place._write
    for n in range(1, 6):
        src, out = fill(tmp_path / str(n) / "src", FILES), tmp_path / str(n) / "out"
        calls = Counter()

        def full(pieces, part, target, durable=False, n=n, calls=calls):
            calls["write"] += 1
            if calls["write"] == n:
                part.write_bytes(b"ha")  # as far as it came
                raise OSError(errno.ENOSPC, "No space left on device", str(target))
            return write(pieces, part, target, durable)

        monkeypatch.setattr(_place, "_write", full)
        with pytest.raises(OSError, match="No space left"):
            prepare("market1501", src, out, mode=mode)
        assert not (out / ".prepare.part").exists() and not list(out.rglob("*.part")) and not lost(src, out)
        monkeypatch.setattr(_place, "_write", write)
        prepare("market1501", src, out, mode=mode)
        assert tree(out) == expected


def test_a_start_that_fails_leaves_nothing(tmp_path, monkeypatch):
    src = fill(tmp_path / "src", FILES)

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        prepare("market1501", src, tmp_path / "a" / "b" / "out")
    assert sorted(os.listdir(tmp_path)) == ["src"]


CHILD = """
import sys, time
from reid_core.prepare.training_layout import prepare
print("ready", flush=True)
prepare("market1501", sys.argv[1], sys.argv[2], mode=sys.argv[3], progress=lambda done, total: time.sleep(0.0005))
"""


@pytest.mark.parametrize("mode", ["copy", "move"])
def test_sigkill_at_random_times(tmp_path, mode):
    files = {
        f"{folder}/{pid:04d}_c{cam}s1_000001_00.jpg": f"{folder} {pid} {cam}".encode() * 50
        for folder, pids in (("bounding_box_train", range(1, 30)), ("bounding_box_test", (40, 41)), ("query", (40, 41)))
        for pid in pids
        for cam in range(1, 5)
    }
    prepare("market1501", fill(tmp_path / "0" / "src", files), tmp_path / "0" / "out", mode=mode)
    expected = tree(tmp_path / "0" / "out")
    dice = random.Random(7)
    killed = 0
    for trial in range(1, 9):
        src, out = fill(tmp_path / str(trial) / "src", files), tmp_path / str(trial) / "out"
        command = [sys.executable, "-c", CHILD, str(src), str(out), mode]
        with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None and child.stdout.readline() == b"ready\n"
            time.sleep(dice.uniform(0, 0.25))
            child.send_signal(signal.SIGKILL)
            killed += child.wait() == -signal.SIGKILL
        prepare("market1501", src, out, mode=mode)
        assert tree(out) == expected
    assert killed, "no child was killed in time"
