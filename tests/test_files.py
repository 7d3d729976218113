"""Whole files and whole lines, or the former ones."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from reid_core import files
from reid_core.errors import CheckpointError
from reid_core.files import (
    append_line,
    json_bytes,
    read_lines,
    remove_stale,
    temporary_beside,
    truncate_lines,
    write_atomically,
)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_bytes_and_functions_are_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_atomically(path, b"one")
    assert path.read_bytes() == b"one"
    write_atomically(path, lambda file: file.writelines([b"t", b"wo"]))
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_no_space_names_path_and_bytes(tmp_path: Path, number: int) -> None:
    path = tmp_path / "a.bin"
    write_atomically(path, b"one")

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(CheckpointError) as caught:
        write_atomically(path, fail, size=1234)
    assert all(part in str(caught.value) for part in (str(path), "1234 bytes", "bytes are free", os.strerror(number)))
    assert path.read_bytes() == b"one"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt()])
def test_what_the_writer_raises_is_passed_on(tmp_path: Path, error: BaseException) -> None:
    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        write_atomically(tmp_path / "a.bin", fail)
    assert names(tmp_path) == []


def test_space_is_looked_at_first(tmp_path: Path) -> None:
    def never(file: BinaryIO) -> None:
        raise AssertionError("written to")

    with pytest.raises(CheckpointError, match=r"\d+ bytes must be free \(2.2 times its 10{17} bytes\)"):
        write_atomically(tmp_path / "a.bin", never, size=10**17, room=2.2)
    with pytest.raises(CheckpointError, match="check that the folder exists"):
        write_atomically(tmp_path / "no" / "a.bin", b"")
    assert names(tmp_path) == []


def test_only_unfinished_files_are_stale(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_atomically(path, b"one")
    temporary_beside(path).write_bytes(b"half")
    temporary_beside(path).write_bytes(b"half")
    assert remove_stale(tmp_path) == 2
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": (1, 2.5, None, True)}, '{"a": [1, 2.5, null, true]}'),
        ([float("nan"), float("inf"), -0.5], "[null, null, -0.5]"),
        ({1: np.float32(0.5), "x": np.arange(3)}, '{"1": 0.5, "x": [0, 1, 2]}'),
        (np.array([0.5, np.nan]), "[0.5, null]"),
        (Path("a") / "b", '"a/b"'),
        ("Läufer 跑", '"Läufer 跑"'),
        ("undecodable \udcff", '"undecodable \\udcff"'),
    ],
)
def test_json(value: Any, text: str) -> None:
    assert json_bytes(value).decode() == text
    assert json.loads(json_bytes(value)) == json.loads(text)


def test_lines_are_appended_and_read(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    assert read_lines(path) == []
    for epoch in range(3):
        append_line(path, {"epoch": epoch, "name": "a\nb"})
    assert path.read_text().count("\n") == 3
    assert read_lines(path) == [{"epoch": e, "name": "a\nb"} for e in range(3)]


@pytest.mark.parametrize("torn", [b'{"epoch": 1', b'{"epoch": 1}', b"x" * 10_000])
def test_a_torn_last_line_is_left_out_and_overwritten(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"epoch": 0}\n' + torn)
    assert read_lines(path) == [{"epoch": 0}]
    append_line(path, {"epoch": 2})
    assert path.read_bytes() == b'{"epoch": 0}\n{"epoch": 2}\n'


def test_a_file_of_nothing_but_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"x" * 5000)
    append_line(path, 1)
    assert path.read_bytes() == b"1\n"


def test_truncated_to_the_lines_to_keep(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    assert truncate_lines(path, lambda _: False) == 0
    for epoch in range(4):
        append_line(path, {"epoch": epoch})
    before = path.stat().st_ino
    assert truncate_lines(path, lambda line: line["epoch"] < 9) == 0
    assert path.stat().st_ino == before  # nothing to drop: not even touched
    with open(path, "ab") as file:
        file.write(b'{"ep')
    assert truncate_lines(path, lambda line: line["epoch"] < 2) == 3
    assert path.read_bytes() == b'{"epoch": 0}\n{"epoch": 1}\n'


def test_a_damaged_line_is_named_and_nothing_dropped(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"epoch": 0}\n{"ep\n{"epoch": 2}\n')
    for read in (read_lines, lambda p: truncate_lines(p, lambda _: False)):
        with pytest.raises(CheckpointError, match="line 2"):
            read(path)
    assert path.read_bytes().count(b"\n") == 3


def test_a_line_that_does_not_fit_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "m.jsonl"
    append_line(path, {"epoch": 0})
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, hard))
    try:
        with pytest.raises(CheckpointError, match="m.jsonl could not be written: File too large"):
            append_line(path, {"epoch": 1})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before


def test_folders_that_cannot_be_synced_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refused)
    files.sync_folder(tmp_path)
