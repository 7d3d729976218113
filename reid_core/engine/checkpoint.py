"""Checkpoints that survive kills, full disks and bit rot: ``last``, ``previous`` and named ones in one folder.

``index.json`` has the sha256 of every file as a whole (what ``sha256sum`` prints), beside the one that each file
carries of its own content.

The order of a save is what makes it safe at any instant. Z and A are the files before, B the new one:

    1. B is written and fsynced under a temporary name         last A, previous Z
    2. index.json is replaced: last is B or, formerly, A; previous is A or, formerly, Z
    3. B is renamed to last                                    last B, previous Z
    4. a hard link to A is renamed to previous                 last B, previous A

Whatever is cut off, and in whatever order a power cut keeps steps 3 and 4, both files are complete and known to the
index. A damaged A is not passed on: previous then stays Z.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from reid_core.engine._encoding import Tensors, decode, encode
from reid_core.errors import CheckpointError
from reid_core.files import (
    check_space,
    json_bytes,
    link_or_copy_beside,
    remove_stale,
    sync_folder,
    write_atomically,
    write_beside,
)
from reid_core.plugins import closest

ROOM = 2.2
"""Free space asked for before saving, in sizes of the checkpoint: the new one, a copy where links fail, some air."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, read and verified.

    Attributes:
        tensors: arrays by name (``net0.*``, ``net1.*``, ...), writable.
        meta: JSON values by name.
        name: the name it was found under: ``last``, ``previous``, ``best``, ``phase_1``, ...
        fell_back: why it is not the one that was asked for, for the person at the screen; None if it is.
    """

    tensors: dict[str, NDArray[Any]]
    meta: dict[str, Any]
    name: str
    fell_back: str | None = None


class CheckpointFolder:
    """The ``checkpoints`` folder of a run. One writer at a time (the run's lock sees to that), any number of readers.

    Args:
        folder: made by the first save if need be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._on_disk: dict[str, str] | None = None  # sha256 of intact files, as far as this writer knows them

    def path(self, name: str) -> Path:
        """The file of checkpoint ``name``, there or not."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise ValueError(f"a checkpoint's name is letters, digits, - and _, got {name!r}")
        return self.folder / f"{name}.safetensors"

    def names(self) -> list[str]:
        """Names of the files that are there, sorted; nothing is verified."""
        return sorted(path.stem for path in self.folder.glob("*.safetensors"))

    def save(self, tensors: Tensors, meta: Mapping[str, Any], *, also: Sequence[str] = ()) -> None:
        """Write ``last``; the former ``last`` becomes ``previous``. At every instant a complete checkpoint is there.

        Args:
            tensors: arrays of bool, (u)int8-64 or float16-64. bfloat16 is refused: give float32 instead,
                which holds it exactly, and note the dtype in ``meta``.
            meta: JSON values; tuples come back as lists, floats to the bit, NaN and infinities included.
            also: further names for the same content, for example ``phase_1`` and ``best``.

        Raises:
            CheckpointError: no space or no access; every former checkpoint is as it was, nothing half-written is left.
            TypeError: a value that cannot be stored.
        """
        self._write(["last", *also], encode(tensors, meta), rotate=True)

    def save_as(self, name: str, tensors: Tensors, meta: Mapping[str, Any]) -> None:
        """Write the checkpoint ``name`` (for example ``best``) and touch no other. Arguments and errors as ``save``."""
        if name in ("last", "previous"):
            raise ValueError(f"{name!r} is written by save(), which rotates")
        self._write([name], encode(tensors, meta), rotate=False)

    def load(self, name: str = "last") -> Checkpoint:
        """Read and verify ``name``; for ``last``, fall back to ``previous`` and say so.

        Raises:
            CheckpointError: there is none, or none that is intact; the message says which file, why, and what to do.
        """
        reasons = []
        for candidate in (name, "previous") if name == "last" else (name,):
            try:
                found = self._read(candidate)
            except CheckpointError as error:
                reasons.append(str(error))
                continue
            if not reasons:
                return found
            why = f"{reasons[0]} Went back to {self.path(candidate)}, the checkpoint before it, which is intact."
            _LOG.warning("%s", why)
            return Checkpoint(found.tensors, found.meta, candidate, why)
        there = [other for other in self.names() if other not in (name, "previous")]
        if not self.names():
            hint = f"Nothing has been saved in {self.folder} yet: start the run anew under another name."
        elif there:
            hint = f"Other checkpoints there: {', '.join(there)}.{closest(name, there)}"
        else:
            hint = (
                "There is no other checkpoint in the folder: restore it from a copy, or start anew under another name."
            )
        raise CheckpointError(" ".join([*reasons, hint]))

    def _read(self, name: str) -> Checkpoint:
        """Verify against the index; a reader that comes between the steps of a save looks again."""
        path = self.path(name)
        while True:
            index = self._index_bytes()
            data = _read_bytes(path)
            known = _known(index, name)
            if known is None:
                _LOG.warning("%s has no entry for %s: its own checksum is used", self.folder / "index.json", path.name)
            elif hashlib.sha256(data).hexdigest() not in known:
                if self._index_bytes() != index:
                    continue
                raise CheckpointError(
                    f"{path} is damaged: its sha256 is not the one noted in index.json when it was saved "
                    f"({len(data)} bytes are there)."
                )
            tensors, meta = decode(data, path)
            return Checkpoint(tensors, meta, name)

    def _index_bytes(self) -> bytes:
        try:
            return (self.folder / "index.json").read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise CheckpointError(f"{self.folder / 'index.json'} cannot be read: {error.strerror or error}.") from error

    def _settle(self, names: list[str]) -> dict[str, str]:
        """sha256 of the intact files among ``names``; what a killed writer left is removed the first time."""
        if self._on_disk is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_stale(self.folder)
            self._on_disk = {}
        for name in names:
            if name not in self._on_disk and self.path(name).exists():
                data = _read_bytes(self.path(name))
                digest = hashlib.sha256(data).hexdigest()
                known = _known(self._index_bytes(), name)
                if digest in known if known is not None else _is_whole(data, self.path(name)):
                    self._on_disk[name] = digest
        return dict(self._on_disk)

    def _write(self, names: list[str], data: bytes, rotate: bool) -> None:
        paths = [self.path(name) for name in names]
        try:
            former = self._settle([*names, "previous"] if rotate else names)
            self._on_disk = None  # until everything is in place, what is on the disk is not known
            check_space(paths[0], len(data), ROOM)
            digest = hashlib.sha256(data).hexdigest()
            with ExitStack() as unfinished:
                moves = [(write_beside(paths[0], data, size=len(data)), paths[0])]
                unfinished.callback(moves[0][0].unlink, missing_ok=True)
                pairs = [(moves[0][0], path) for path in paths[1:]]
                now = dict.fromkeys(names, digest)
                if rotate and "last" in former:
                    pairs.append((self.path("last"), self.path("previous")))
                    now["previous"] = former["last"]
                for source, path in pairs:
                    moves.append((link_or_copy_beside(source, path), path))
                    unfinished.callback(moves[-1][0].unlink, missing_ok=True)
                self._write_index(now, former)
                for source, path in moves:
                    os.replace(source, path)
                sync_folder(self.folder)
        except OSError as error:
            raise CheckpointError(
                f"{paths[0]} could not be written: {error.strerror or error}. The checkpoints before it are intact; "
                "check that you may write to the folder and go on with --resume."
            ) from error
        self._on_disk = former | now

    def _write_index(self, now: Mapping[str, str], former: Mapping[str, str]) -> None:
        """Note the digests to come beside those that are still there; entries of files that are gone are dropped."""
        files = {name: entry for name, entry in _entries(self._index_bytes()).items() if self.path(name).exists()}
        now_is = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        for name, digest in now.items():
            files[name] = {"sha256": digest, "former": former.get(name), "saved": now_is}
        index = {"format": 1, "files": dict(sorted(files.items()))}
        write_atomically(self.folder / "index.json", json_bytes(index, indent=1))


def _entries(index: bytes) -> dict[str, Any]:
    """What the index says of each file; {} if it is missing or damaged: each file's own checksum remains."""
    try:
        files = json.loads(index)["files"]
        return {
            str(name): entry
            for name, entry in files.items()
            if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) and isinstance(entry, dict)
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _known(index: bytes, name: str) -> set[str] | None:
    """Digests under which ``name`` is complete; None if the index says nothing of it."""
    entry = _entries(index).get(name)
    return (
        None if entry is None else {entry.get(key) for key in ("sha256", "former") if isinstance(entry.get(key), str)}
    )


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is not there.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error


def _is_whole(data: bytes, path: Path) -> bool:
    try:
        decode(data, path)
    except CheckpointError:
        return False
    return True


def read_checkpoint(file: Path) -> Checkpoint:
    """Read one checkpoint file wherever it lies, verified by the checksum it carries.

    Raises:
        CheckpointError: it cannot be read, is damaged, or is none of ours.
    """
    tensors, meta = decode(_read_bytes(file), file)
    return Checkpoint(tensors, meta, file.stem)


def read_weights(file: Path, network: int | None = None) -> dict[str, NDArray[Any]]:
    """The weights in one of our checkpoint files, wherever it lies.

    Args:
        file: the checkpoint.
        network: its weights alone, without the ``net<k>.`` before their names; None for all networks, names as stored.

    Raises:
        CheckpointError: as ``read_checkpoint``, or the file has no such network; those it has are listed.
    """
    weights = {k: v for k, v in read_checkpoint(file).tensors.items() if re.match(r"net\d+\.", k)}
    if network is None:
        return weights
    start = f"net{network}."
    chosen = {k[len(start) :]: v for k, v in weights.items() if k.startswith(start)}
    if not chosen:
        there = sorted({k.split(".")[0][3:] for k in weights}, key=int)
        raise CheckpointError(f"{file} has no network {network}; it has {', '.join(there) or 'none at all'}.")
    return chosen
