"""One run, one folder, one process; nothing overwritten, nothing half-made, and what is written can be read again."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_core.engine import _lock, run_folder
from reid_core.engine._lock import Lock, is_alive, read_owner
from reid_core.engine.run_folder import RunFolder, default_name, read_records, read_status
from reid_core.errors import CheckpointError, Interrupted, UsageError

ROOT = Path(__file__).parents[2]


def new(out: Path, name: str | None = "a", **more: Any) -> RunFolder:
    return RunFolder.create(out, name, **more)


def everything(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_a_new_folder_and_what_is_in_it(tmp_path: Path) -> None:
    with new(tmp_path / "deep" / "runs") as run:
        assert everything(run.path) == ["checkpoints", "records", "run.lock", "status.json"]
        assert read_status(run.path)["state"] == "running"
        run.set_status("done", epoch=3, step=40)
    assert everything(run.path) == ["checkpoints", "records", "status.json"]
    status = read_status(run.path)
    assert (status["state"], status["epoch"], status["step"]) == ("done", 3, 40)
    assert status["started"] <= status["ended"]


def test_an_existing_name_is_an_error_and_nothing_changes(tmp_path: Path) -> None:
    new(tmp_path).close()
    (tmp_path / "photos").mkdir()
    before = everything(tmp_path)
    with pytest.raises(UsageError, match="--resume a"):
        new(tmp_path)
    with pytest.raises(UsageError, match="holds no run"):
        new(tmp_path, "photos")
    with pytest.raises(UsageError, match="not of a run"):
        new(tmp_path, "photos", resume=True)
    with pytest.raises(UsageError, match=r"no run .*b to go on with; runs in .*: a\."):
        new(tmp_path, "b", resume=True)
    with pytest.raises(UsageError, match="which run"):
        new(tmp_path, None, resume=True)
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "/a", "-a", "a\0b", "a\nb", "\x1b[2J", "\udcff", "x" * 201]
)
def test_names_that_are_no_folder_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="one folder name"):
        new(tmp_path / "runs", name)
    assert everything(tmp_path) == []


def test_unicode_and_blanks_in_names(tmp_path: Path) -> None:
    new(tmp_path, "Läufe 跑 1").close()
    assert read_status(tmp_path / "Läufe 跑 1")["state"] == "killed"  # it never said that it was done


def test_default_names_do_not_clash(tmp_path: Path) -> None:
    name = default_name("core", "Market 1501/x")
    assert name.startswith("core-Market_1501_x-20")
    assert [new(tmp_path, None, default="day").path.name for _ in range(3)] == ["day", "day-2", "day-3"]


@pytest.mark.parametrize("failing", ["Lock", "set_status", "mkdir"])
def test_nothing_is_left_when_the_folder_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if failing == "mkdir":
        real = Path.mkdir
        monkeypatch.setattr(Path, "mkdir", lambda self, **kw: full() if self.name == "records" else real(self, **kw))
    elif failing == "Lock":
        monkeypatch.setattr(run_folder, "Lock", full)
    else:
        monkeypatch.setattr(RunFolder, "set_status", full)
    with pytest.raises(CheckpointError, match="No space left"):
        new(tmp_path / "deep" / "runs")
    assert everything(tmp_path) == []


def test_an_out_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("mine")
    with pytest.raises(CheckpointError, match="--out"):
        new(tmp_path / "runs")
    assert (tmp_path / "runs").read_text() == "mine"


@pytest.mark.parametrize(
    ("error", "state"),
    [(Interrupted("stopped", 143), "interrupted"), (KeyboardInterrupt(), "interrupted"), (ValueError("no"), "failed")],
)
def test_how_it_ended_is_noted(tmp_path: Path, error: BaseException, state: str) -> None:
    def work() -> None:
        with new(tmp_path) as run:
            run.set_status("running", epoch=2)
            raise error

    with pytest.raises(type(error)):
        work()
    status = read_status(tmp_path / "a")
    assert (status["state"], status["epoch"]) == (state, 2)
    assert not (tmp_path / "a" / "run.lock").exists()


def test_config_says_how_to_repeat_the_run(tmp_path: Path) -> None:
    with new(tmp_path) as run:
        run.write_config(
            {"lr": np.float32(0.5), "out": tmp_path, "image_size": (256, 128)}, ["train_core", "--lr", "0.5"]
        )
    with new(tmp_path, resume=True) as run:
        assert run.resumed
        run.write_config({"lr": 9}, ["train_core", "--resume", "a"])
    found = json.loads((tmp_path / "a" / "config.json").read_text())
    assert found["config"] == {"lr": 0.5, "out": str(tmp_path), "image_size": [256, 128]}
    assert found["command"] == ["train_core", "--lr", "0.5"]
    assert found["resumed"][0]["command"] == ["train_core", "--resume", "a"]
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    if (ROOT / ".git").exists():
        assert len(found["commit"].rstrip("+")) == 40


def test_metrics_and_records_are_rewound_to_the_checkpoint(tmp_path: Path) -> None:
    run = new(tmp_path)
    for epoch in range(4):
        run.append_metrics({"epoch": epoch, "loss": [1.5, float("nan")]})
        run.write_records(epoch, {"loss": np.full(3, epoch, np.float32), "selected": np.array([True, False, True])})
    with open(run.path / "metrics.jsonl", "ab") as file:
        file.write(b'{"epoch": 4, "lo')  # killed while writing
    run.close()
    with new(tmp_path, resume=True) as run:
        run.rewind(2)
        assert run.metrics() == [{"epoch": e, "loss": [1.5, None]} for e in range(2)]
        assert sorted(p.name for p in (run.path / "records").iterdir()) == ["epoch_000.npz", "epoch_001.npz"]
        run.write_records(2, {"loss": np.zeros(3)})
        assert run.read_records(1)["loss"].tolist() == [1, 1, 1]
        assert run.read_records(1)["selected"].dtype == bool


def test_records_are_written_once_and_hold_no_objects(tmp_path: Path) -> None:
    run = new(tmp_path)
    path = run.write_records(0, {"loss": np.zeros(3)})
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="written once"):
        run.write_records(0, {"loss": np.ones(3)})
    assert path.read_bytes() == before
    with pytest.raises(TypeError, match="'x' holds Python objects"):
        run.write_records(1, {"x": np.array([{}], dtype=object)})
    with pytest.raises(CheckpointError, match="not recorded"):
        run.read_records(1)
    path.write_bytes(before[: len(before) // 2])
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_records(path)


def test_json_files_of_the_run_only(tmp_path: Path) -> None:
    run = new(tmp_path)
    assert json.loads(run.write_json("result.json", {"mAP": np.float64(0.5)}).read_text()) == {"mAP": 0.5}
    for name in ("../result.json", "a/b.json", "result.txt"):
        with pytest.raises(ValueError, match="file name"):
            run.write_json(name, {})
    with pytest.raises(TypeError, match="no JSON form"):
        run.write_json("result.json", {"mAP": object()})
    assert json.loads((run.path / "result.json").read_text()) == {"mAP": 0.5}
    assert not list(run.path.glob("*.reid_tmp"))


def test_what_a_killed_writer_left_is_removed_on_resume(tmp_path: Path) -> None:
    new(tmp_path).close()
    for sub in ("", "records", "checkpoints"):
        (tmp_path / "a" / sub / "x.npz.123-abc.reid_tmp").write_bytes(b"half")
    with new(tmp_path, resume=True) as run:
        run.checkpoints.save({"x": np.zeros(1)}, {})
        assert not [p for p in everything(run.path) if p.endswith("reid_tmp")]


@pytest.mark.skipif(os.name == "nt", reason="fork and signals")
def test_of_many_processes_exactly_one_gets_in(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("child_lock.py")), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["got_in"] == [1] * 60  # 50 rounds of two, 10 of eight
    assert found["new"] == [1] * 10
    assert found["named"] == [4] * 3  # each finds a name of its own
    assert found["late"] == [1] * 10
    assert len(found["told"]) == 50 + 70
    assert all("in use by another run (process " in message for message in found["told"])
    assert found["torch"] is False


def forged(path: Path, **changes: Any) -> dict[str, Any]:
    owner = {**_lock._myself(), **changes}
    path.write_text(json.dumps(owner))
    return owner


LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@LINUX
@pytest.mark.parametrize(
    ("changes", "alive"),
    [
        ({}, True),
        ({"started": 1}, False),  # the number went to another process
        ({"boot_id": "before the power cut"}, False),
        ({"pid": 2**22 + 1}, False),  # beyond the highest number that Linux gives
        ({"host": "elsewhere", "boot_id": "x"}, True),
        ({"machine": "another with the same name", "boot_id": "x"}, True),
        ({"pid_space": "pid:[1]", "pid": 2**22 + 1}, True),  # a container: its processes cannot be seen
        ({"pid": None}, True),
    ],
)
def test_who_counts_as_alive(tmp_path: Path, changes: dict[str, Any], alive: bool) -> None:
    path = tmp_path / "run.lock"
    owner = forged(path, **changes)
    assert is_alive(owner) is alive
    if alive:
        with pytest.raises(CheckpointError, match="in use by another run"):
            Lock(path)
        assert read_owner(path) == owner
    else:
        lock = Lock(path)
        assert read_owner(path)["pid"] == os.getpid()  # type: ignore[index]
        lock.release()
        assert not path.exists()


@LINUX
def test_a_zombie_is_dead(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read()  # it has ended, and nobody has asked how
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(forged(tmp_path / "l", pid=child.pid))
    child.wait()
    child.stdout.close()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\x80\x04"])
def test_a_lock_that_cannot_be_read_is_respected(tmp_path: Path, content: bytes) -> None:
    new(tmp_path).close()
    (tmp_path / "a" / "run.lock").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"run.lock cannot be read.*delete this file"):
        new(tmp_path, resume=True)
    assert (tmp_path / "a" / "run.lock").read_bytes() == content


def test_a_lock_that_leads_nowhere_ends(tmp_path: Path) -> None:
    (tmp_path / "run.lock").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="delete it"):
        Lock(tmp_path / "run.lock")


def test_only_the_owner_releases(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    lock = Lock(path)
    other = forged(path, token="someone else's")
    lock.release()
    assert read_owner(path) == other


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    lock = Lock(tmp_path / "run.lock")
    assert read_owner(tmp_path / "run.lock")["host"] == socket.gethostname()  # type: ignore[index]
    with pytest.raises(CheckpointError, match="in use"):
        Lock(tmp_path / "run.lock")
    lock.release()
    assert everything(tmp_path) == []
