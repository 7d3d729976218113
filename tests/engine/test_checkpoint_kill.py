"""Kills, full disks and power cuts while saving: a complete checkpoint that was saved is always there."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_core.engine.checkpoint import CheckpointFolder, encode
from reid_core.errors import CheckpointError
from reid_core.files import TMP_SUFFIX

CHILD = Path(__file__).with_name("child_checkpoint.py")
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and limits")


def child(*words: object, before: tuple[str, ...] = ()) -> dict[str, Any]:
    done = subprocess.run(
        [*before, sys.executable, str(CHILD), *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_200_kills_at_any_moment_of_a_save(tmp_path: Path) -> None:
    found = child("kill", tmp_path, 200)
    assert found["good"] == 200
    assert found["last"] == 201
    assert found["stale"] == 0
    assert found["torch"] is False
    # The kills must have hit savers at work, or this test proves nothing.
    assert found["cut_off"] >= 100
    assert found["left_unfinished"] >= 20


def test_stopped_before_every_change_of_the_disk_in_two_saves_in_a_row(tmp_path: Path) -> None:
    found = child("crash", tmp_path)
    assert found["steps"] >= 10
    assert found["tried"] >= 100
    assert found["bad"] == []


def test_file_size_limit_at_50_places(tmp_path: Path) -> None:
    found = child("starve", tmp_path, 50)
    assert (found["intact"], found["named"], found["clean"]) == (50, 50, 50)
    assert "bytes are free" in found["message"]


def test_full_disk(tmp_path: Path) -> None:
    words = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(tmp_path)]
    mounted = subprocess.run(words, capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("no right to mount a small tmpfs here")
    try:
        found = child("full", tmp_path)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    size = int(re.search(r"2\.2 times its (\d+) bytes", found["refused"]).group(1))  # type: ignore[union-attr]
    assert str(tmp_path / "last.safetensors") in found["refused"]
    assert str(tmp_path / "last.safetensors") in found["ran_out"]
    assert f"needs {size} bytes" in found["ran_out"]
    assert "No space left" in found["ran_out"]
    assert (found["unfinished"], found["kept"], found["after"]) == (0, 0, 2)


def test_fsync_before_rename_and_of_the_folder_after(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    log = tmp_path / "strace.log"
    folder = tmp_path / "checkpoints"
    calls = "openat,fsync,rename,renameat,renameat2,link,linkat"
    child("trace", folder, before=("strace", "-f", "-y", "-o", str(log), "-e", f"trace={calls}"))
    synced: set[str] = set()
    waiting: list[str] = []
    renames = 0
    for line in log.read_text().splitlines():
        if str(folder) not in line:
            continue
        if match := re.search(r"fsync\(\d+<(.*?)>\)\s+= 0", line):
            if match.group(1) == str(folder):
                waiting.clear()
            synced.add(match.group(1))
        elif match := re.search(r"\blink(?:at)?\(.*?\"(.*?)\",.*?\"(.*?)\"", line):
            if match.group(1) in synced:
                synced.add(match.group(2))  # the same file by another name
        elif match := re.search(r"rename\w*\(.*?\"(.*?)\",.*?\"(.*?)\"", line):
            source, target = match.groups()
            assert source in synced, line
            synced.add(target)
            waiting.append(target)
            renames += 1
            if target.endswith(".safetensors"):  # by now the index that knows the file is safe on the disk
                assert str(folder / "index.json") not in waiting, line
    assert renames >= 6  # 2 indexes, 2 last, previous, phase_0
    assert waiting == [], "renames that no fsync of the folder followed"


@pytest.mark.parametrize(("last", "previous"), list(itertools.product("AB", "ZA")))
def test_power_cut_that_kept_any_of_the_renames(tmp_path: Path, last: str, previous: str) -> None:
    files = {name: {"x": np.array(ord(name))} for name in "ZAB"}
    folder = CheckpointFolder(tmp_path)
    for name in "ZAB":
        folder.save(files[name], {"name": name})
    (tmp_path / "last.safetensors").write_bytes(encode(files[last], {"name": last}))
    (tmp_path / "previous.safetensors").unlink()
    (tmp_path / "previous.safetensors").write_bytes(encode(files[previous], {"name": previous}))
    found = CheckpointFolder(tmp_path).load()
    assert found.meta == {"name": last}
    assert found.fell_back is None
    assert CheckpointFolder(tmp_path).load("previous").meta == {"name": previous}


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_an_error_of_the_disk_at_every_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save({"x": np.array(0)}, {"n": 0})
    real = getattr(os, call)
    for failing in range(1, 20):
        seen = 0

        def sometimes(*args: Any, failing: int = failing, **kwargs: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == failing:
                raise OSError(5, "Input/output error")
            return real(*args, **kwargs)

        before = folder.load().meta["n"]
        with monkeypatch.context() as patch:
            patch.setattr(os, call, sometimes)
            try:
                folder.save({"x": np.array(failing)}, {"n": failing})
                failed = False
            except CheckpointError as error:
                assert "Input/output error" in str(error)
                failed = True
        assert not list(tmp_path.glob(f"*{TMP_SUFFIX}"))
        found = CheckpointFolder(tmp_path).load()
        assert found.meta["n"] in ((before, failing) if failed else (failing,))
        assert int(found.tensors["x"]) == found.meta["n"]
        if seen < failing:
            break
    else:
        pytest.fail(f"a save calls os.{call} 19 times and more?")
    assert failing >= 3
