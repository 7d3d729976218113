"""``runs/<name>/``: who may write there, what is in it, and how it is written."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reid_core.engine._environment import environment
from reid_core.engine._lock import Lock, is_alive, read_owner
from reid_core.engine.checkpoint import CheckpointFolder
from reid_core.engine.compatible import check_compatible, data_fingerprint
from reid_core.errors import CheckpointError, Interrupted, UsageError, printable
from reid_core.files import (
    append_line,
    json_bytes,
    read_lines,
    remove_stale,
    sync_folder,
    truncate_lines,
    write_atomically,
)
from reid_core.plugins import closest

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RunFolder", "check_compatible", "check_free", "data_fingerprint", "default_name", "read_status"]

STATES = ("running", "done", "interrupted", "failed")
_FOLDERS = ("checkpoints", "records")
_LOCK = "run.lock"


def default_name(method: str, dataset: str) -> str:
    """``<method>-<dataset>-<date>-<time>``, local time to the second."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", f"{method}-{dataset}") + time.strftime("-%Y%m%d-%H%M%S")


class RunFolder:
    """A run's folder, held by this process until ``close`` or the end of the ``with`` block.

    Leaving the block without an error leaves the state to the caller (``set_status("done")``); with one, a state that
    is still ``running`` becomes ``interrupted`` or ``failed`` with the error as message.

    Attributes:
        path: the folder.
        checkpoints: its ``CheckpointFolder``.
        resumed: whether the folder was there before.
    """

    def __init__(self, path: Path, lock: Lock, resumed: bool) -> None:
        """Use ``create``."""
        self.path = path
        self.resumed = resumed
        self.checkpoints = CheckpointFolder(path / "checkpoints")
        self._lock = lock

    @classmethod
    def create(cls, out: Path, name: str | None, *, resume: bool = False, default: str = "run") -> RunFolder:
        """Make ``out/name``, or with ``resume`` take the one that is there, and lock it.

        Args:
            out: folder of all runs; made if need be.
            name: one folder name; None for ``default``, with -2, -3, ... if that is taken.
            resume: the folder must be there and hold a run.
            default: see ``default_name``.

        Raises:
            UsageError: the name is taken (or, with ``resume``, unknown) or no folder name.
            CheckpointError: another process is working there, or the folder cannot be made. Nothing is left behind.
        """
        if name is not None:
            _check_name(name)
        if resume:
            if name is None:
                raise UsageError(f"which run is to go on? Give its name with --resume; {_known_runs(out, '')}")
            return cls._resume(out, name)
        made: list[Path] = []
        lock = None
        try:
            for folder in reversed([out, *out.parents]):
                if not folder.exists():
                    folder.mkdir(exist_ok=True)
                    made.append(folder)
            path = _make_new(out, name, default)
            made.append(path)
            for sub in _FOLDERS:
                (path / sub).mkdir()
                made.append(path / sub)
            lock = Lock(path / _LOCK)
            run = cls(path, lock, resumed=False)
            run.set_status("running")
            sync_folder(out)
            return run
        except BaseException as error:
            if lock is not None:
                (lock.path.parent / "status.json").unlink(missing_ok=True)
                lock.release()
            for folder in reversed(made):
                with suppress(OSError):  # another process has begun to work in that one: it stays
                    folder.rmdir()
            if isinstance(error, OSError):
                raise CheckpointError(
                    f"the run folder {out / (name or default)} could not be made: {error.strerror or error}. Nothing "
                    "was left there; choose a folder you may write to with --out."
                ) from error
            raise

    @classmethod
    def _resume(cls, out: Path, name: str) -> RunFolder:
        path = out / name
        if not path.is_dir():
            raise UsageError(f"there is no run {path} to go on with; {_known_runs(out, name)}")
        if not (path / "status.json").is_file():
            raise UsageError(f"{path} is a folder, but not of a run (it has no status.json); {_known_runs(out, name)}")
        lock = Lock(path / _LOCK)
        try:
            run = cls(path, lock, resumed=True)
            for sub in ("", *_FOLDERS):
                (path / sub).mkdir(exist_ok=True)
                remove_stale(path / sub)
            run.set_status("running")
            return run
        except BaseException:
            lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        try:
            if error is not None and self.status().get("state") == "running":
                stopped = isinstance(error, Interrupted | KeyboardInterrupt)
                self.set_status("interrupted" if stopped else "failed", message=str(error) or type(error).__name__)
        except CheckpointError:
            if error is None:
                raise  # else the error that led here says more than a status that cannot be written
        finally:
            self.close()

    def close(self) -> None:
        """Let others work in the folder."""
        self._lock.release()

    def set_status(
        self, state: str, *, epoch: int | None = None, step: int | None = None, message: str | None = None
    ) -> None:
        """Replace ``status.json``; ``epoch`` and ``step`` left out keep their values.

        Args:
            state: running, done, interrupted or failed.
            epoch: counted from 0. step: steps done in the run. message: for the reader.
        """
        if state not in STATES:
            raise ValueError(f"state must be one of {', '.join(STATES)}, got {state!r}")
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        former = self.status()
        status = {
            "state": state,
            "epoch": former.get("epoch") if epoch is None else epoch,
            "step": former.get("step") if step is None else step,
            "message": message,
            "started": former.get("started", now),
            "updated": now,
            "ended": None if state == "running" else now,
        }
        self.write_json("status.json", status)

    def status(self) -> dict[str, Any]:
        """What ``status.json`` says; {} if it is missing or damaged."""
        return _read_dict(self.path / "status.json")

    def write_config(self, config: Mapping[str, Any], command: Sequence[str]) -> None:
        """``config.json``: the resolved configuration, the command line, versions, commit and platform.

        A resumed run keeps what is there and adds the new command and versions under ``resumed``.
        """
        entry = {"command": list(command), "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **environment()}
        former = _read_dict(self.path / "config.json") if self.resumed else {}
        if former:
            former.setdefault("resumed", []).append(entry)
            self.write_json("config.json", former)
        else:
            self.write_json("config.json", {"config": config, **entry})

    def write_json(self, name: str, value: Any) -> Path:
        """Write ``value`` as the file ``name`` of the run, atomically. NaN becomes null; see ``files.json_bytes``."""
        path = self.path / name
        if path.parent != self.path or path.suffix != ".json":
            raise ValueError(f"a file name ending in .json is expected, got {name!r}")
        write_atomically(path, json_bytes(value, indent=1) + b"\n")
        return path

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add a line to ``metrics.jsonl``; it has the key ``epoch``, counted from 0, for ``rewind`` to go by."""
        if not isinstance(line.get("epoch"), int):
            raise TypeError(f"a line of metrics needs an integer 'epoch', got {line.get('epoch')!r}")
        append_line(self.path / "metrics.jsonl", line)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``, a torn last one left out."""
        return read_lines(self.path / "metrics.jsonl")

    def write_records(self, epoch: int, arrays: Mapping[str, NDArray[Any]]) -> Path:
        """``records/epoch_<epoch>.npz``: written once, never replaced.

        Raises:
            CheckpointError: it is there already (``rewind`` removes what a resumed run will write again), or no space.
            TypeError: an array of Python objects, which only pickle could store.
        """
        path = self._records_path(epoch)
        for name, array in arrays.items():
            if np.asarray(array).dtype.hasobject:
                raise TypeError(f"record {name!r} holds Python objects; numbers, booleans and text can be stored")
        if path.exists():
            raise CheckpointError(
                f"{path} is there already, and records are written once: resume the run with --resume, or use another "
                "--name."
            )
        write_atomically(path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]
        return path

    def read_records(self, epoch: int) -> dict[str, NDArray[Any]]:
        """The arrays of one epoch.

        Raises:
            CheckpointError: the file is missing, damaged, or holds Python objects, which are never loaded.
        """
        return read_records(self._records_path(epoch))

    def rewind(self, epochs: int) -> None:
        """Drop the metrics and records of epochs from ``epochs`` on: they come after the checkpoint resumed from."""
        truncate_lines(self.path / "metrics.jsonl", lambda line: line["epoch"] < epochs)
        for path in sorted((self.path / "records").glob("epoch_*.npz")):
            number = path.stem.partition("_")[2]
            if number.isdigit() and int(number) >= epochs:
                path.unlink()

    def _records_path(self, epoch: int) -> Path:
        return self.path / "records" / f"epoch_{epoch:03d}.npz"


def read_records(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of a records file; see ``RunFolder.read_records``."""
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise TypeError("one array, not an archive of arrays")
        with archive:
            arrays = {name: archive[name] for name in archive.files}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise TypeError("it holds something other than arrays")  # NumPy hands those out as raw bytes
        return arrays
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is not there: that epoch was not recorded.") from error
    except Exception as error:  # zipfile and zlib raise half a dozen kinds on damaged files
        raise CheckpointError(
            f"{path} cannot be read ({error}): it is damaged, or no file of records. Restore it from a copy, or delete "
            "it; the training does not need it to go on."
        ) from error


def read_status(path: Path) -> dict[str, Any]:
    """``status.json`` of the run folder ``path``; a run that says ``running`` but has no process is ``killed``."""
    status = _read_dict(path / "status.json")
    if status.get("state") == "running" and not ((path / _LOCK).exists() and is_alive(read_owner(path / _LOCK))):
        status["state"] = "killed"
    return status


def _read_dict(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _check_name(name: str) -> None:
    bad = (
        name in ("", ".", "..")
        or name.startswith("-")
        or name != printable(name)
        or len(name.encode(errors="replace")) > 200
    )
    if bad or "/" in name or "\\" in name:
        raise UsageError(
            f"a run's name is one folder name of printable characters, without / or a leading -, got {name!r}; "
            "the folder of all runs is given with --out."
        )


def _known_runs(out: Path, name: str) -> str:
    known = sorted(p.parent.name for p in out.glob("*/status.json"))
    return (
        f"runs in {out}: {', '.join(known[-10:])}.{closest(name, known)}" if known else f"there are no runs in {out}."
    )


def _make_new(out: Path, name: str | None, default: str) -> Path:
    """The folder is made by the call that finds it missing: of two processes with one name, one fails."""
    number = 1
    while True:
        path = out / (name or (default if number == 1 else f"{default}-{number}"))
        try:
            path.mkdir()
            return path
        except FileExistsError as error:
            if name is not None:
                raise _taken(path) from error
            number += 1


def check_free(out: Path, name: str) -> None:
    """Refuse a name that ``RunFolder.create`` would refuse, before anything that takes time; nothing is made.

    Raises:
        UsageError: the name is taken, or no folder name.
    """
    _check_name(name)
    if os.path.lexists(out / name):
        raise _taken(out / name)


def _taken(path: Path) -> UsageError:
    is_run = (path / "status.json").is_file()
    cure = f", or go on with it by --resume {path.name}" if is_run else " (it holds no run that could go on)"
    return UsageError(f"{path} is there already and nothing is ever overwritten: choose another --name{cure}.")
