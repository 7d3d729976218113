"""Label files: what training gets from them, and every way in which they can be wrong."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from reid_core.data._labels import read_labels, write_labels
from reid_core.errors import DataError
from reid_core.types import NoisyLabels, Sample

NAMES = ["0002/a.jpg", "0002/b.jpg", "0007/été 1.jpg", "0007/=1+1.jpg"]
TRAIN = [Sample(f"train/{name}", int(name[:4]), -1) for name in NAMES]


def file(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_order_is_that_of_the_samples(tmp_path: Path) -> None:
    path = file(tmp_path, "who,path,label\nx,0007/été 1.jpg,2\n,0002/b.jpg, 0\n,0002/a.jpg,1\n,0007/=1+1.jpg,1\n")
    labels = read_labels(path, TRAIN, "train")
    assert labels.given.tolist() == [1, 0, 2, 1]
    assert labels.given.dtype == np.int64
    assert (labels.true, labels.num_classes, labels.names) == (None, 3, None)
    assert labels.to_noisy().kind == "file"


def test_names_are_numbered_in_sorted_order(tmp_path: Path) -> None:
    rows = "\n".join(f"{n},{label}" for n, label in zip(NAMES, ["zoé", "bob", "zoé", "Amy 2"]))
    labels = read_labels(file(tmp_path, f"path,label\n{rows}\n"), TRAIN, "train")
    assert labels.names == ("Amy 2", "bob", "zoé")
    assert labels.given.tolist() == [2, 1, 2, 0]


def test_runs_own_file_comes_back(tmp_path: Path) -> None:
    """Class 2 has lost its only image to noise; it still counts because the truth has it."""
    noisy = NoisyLabels(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 2]), "random", 0.5, 1)
    write_labels(tmp_path / "labels.csv", TRAIN, noisy, "train")
    assert (tmp_path / "labels.csv").read_text(encoding="utf-8") == (
        "path,label,true_label,noise\n0002/a.jpg,0,0,random\n0002/b.jpg,1,0,random\n"
        "0007/été 1.jpg,1,1,random\n0007/=1+1.jpg,1,2,random\n"
    )
    labels = read_labels(tmp_path / "labels.csv", TRAIN, "train")
    assert labels.given.tolist() == [0, 1, 1, 1]
    assert labels.true is not None and labels.true.tolist() == [0, 0, 1, 2]
    assert labels.num_classes == 3
    assert labels.to_noisy().ratio == 0.5


def test_names_a_spreadsheet_would_run_come_back(tmp_path: Path) -> None:
    train = [Sample("=1+1.jpg", 0, -1), Sample("@x.jpg", 1, -1), Sample("'a.jpg", 1, -1)]
    write_labels(tmp_path / "labels.csv", train, NoisyLabels(np.array([0, 1, 1]), None, "none", 0.0, 1))
    assert (tmp_path / "labels.csv").read_text().split("\n")[1:4] == [
        "'=1+1.jpg,0,,none",
        "'@x.jpg,1,,none",
        "''a.jpg,1,,none",
    ]
    labels = read_labels(tmp_path / "labels.csv", train)
    assert labels.given.tolist() == [0, 1, 1] and labels.true is None


def test_other_spellings_of_a_path(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "0007/été 1.jpg")
    path = file(tmp_path, f"path,label\n./0002/a.jpg,0\n0002\\b.jpg,0\n{decomposed},1\n0007/=1+1.jpg,1\n")
    assert read_labels(path, TRAIN, "train").given.tolist() == [0, 0, 1, 1]


def rows(*labels: str) -> str:
    return "path,label\n" + "".join(f"{name},{label}\n" for name, label in zip(NAMES, labels))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (rows("0", "0", "1", "1") + "9999/x.jpg,0\n", "1 rows name no training image: line 6 '9999/x.jpg'"),
        (rows("0", "0", "1") + "../0007/=1+1.jpg,1\n", "no training image.*Did you mean '0007/=1"),
        (rows("0", "0", "1") + "/etc/passwd,1\n", "no training image"),
        (rows("0", "0", "1") + "train/0007/=1+1.jpg,1\n", "relative to the training folder train.*Did you mean"),
        (rows("0", "0"), "2 of 4 training images have no row: '0007/été 1.jpg'; '0007/=1"),
        ("path,label\n", "4 of 4 training images have no row"),
        (rows("0", "0", "1", "1") + "0002/a.jpg,0\n", "1 images are labelled twice: lines 2 and 6"),
        (rows("0", "0", "2", "2"), "gaps: 2 different ones.*0 to 1, but 1 has no image and the largest is 2"),
        (rows("1", "1", "2", "2"), "gaps.*but 0 has no image"),
        (rows("0", "1", "999999999999999999", "0"), "gaps"),
        (rows("0", "1", "9" * 40, "0"), "line 4: labels are integers from 0"),
        (rows("0", "0", "-1", "1"), "line 4: labels are integers from 0, got '-1'"),
        (rows("0.0", "0.0", "1.0", "1.0"), "line 2.*'0.0'.*decimal point"),
        (rows("0", "nan", "1", "1"), "line 3.*'nan'"),
        (rows("0", "", "1", "1"), "line 3: the label is empty"),
        (rows("0", "1O", "1", "1"), "line 3: the label '1O' is a word, but others are numbers"),
        ("path,pid\n0002/a.jpg,1\n", "no column 'label'"),
        (rows("0", "0", "1", "1").encode("latin-1"), "no training image.*not UTF-8"),
        (rows("a", "b", "c", "d").replace(",b", ",Jos\xe9").replace("été", "~").encode("latin-1"), "no training"),
    ],
)
def test_what_can_be_wrong(text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as error:
        read_labels(file(tmp_path, text), TRAIN, "train")
    assert "labels.csv" in str(error.value)


def test_label_that_is_not_utf8(tmp_path: Path) -> None:
    path = file(tmp_path, b"path,label\na.jpg,Jos\xe9\n")
    with pytest.raises(DataError, match="line 2: the label .* is not UTF-8"):
        read_labels(path, [Sample("a.jpg", 0, -1)])


def test_escapes_in_a_row_are_shown_not_sent(tmp_path: Path) -> None:
    path = file(tmp_path, 'path,label\n"\x1b[2J\n[INFO] fake.jpg",0\n')
    with pytest.raises(DataError) as error:
        read_labels(path, TRAIN, "train")
    assert "\x1b" not in str(error.value) and "\n" not in str(error.value)


def test_an_endless_file_of_something_else_is_left_early(tmp_path: Path) -> None:
    path = file(tmp_path, "path,label\n" + "x.jpg,0\n" * 100_000)
    with pytest.raises(DataError, match="1005 rows name no"):
        read_labels(path, TRAIN, "train")


def test_lengths_must_agree(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="4 images, 3 given"):
        write_labels(tmp_path / "a.csv", TRAIN, NoisyLabels(np.zeros(3, np.int64), None, "none", 0.0, 1))
    assert os.listdir(tmp_path) == []
