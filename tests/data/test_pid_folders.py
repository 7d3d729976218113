"""Identity folders: pids, cameras and layouts, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from reid_core.data import pid_folders
from reid_core.data._guess import guess_dataset
from reid_core.errors import DataError
from reid_core.types import Sample


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"not opened")
    return root


def test_three_parts_with_cameras(tmp_path: Path) -> None:
    names = (
        "train/0007/0007_c1_a.jpg",
        "train/0002/x_c3.PNG",
        "query/0009/q_c1s2.jpeg",
        "gallery/0009/deep er/g_c2.jpg",
    )
    split = pid_folders.read(tree(tmp_path, *names, "gallery/-1/j_c1.jpg", "train/0007/notes.txt", "gallery/.x/h.jpg"))
    assert (split.dataset, split.train_folder, split.protocol) == ("pid_folders", "train", "market1501")
    assert split.train == (Sample("train/0002/x_c3.PNG", 2, 2), Sample("train/0007/0007_c1_a.jpg", 7, 0))
    assert split.query == (Sample("query/0009/q_c1s2.jpeg", 9, 0),)
    assert split.gallery == (
        Sample("gallery/-1/j_c1.jpg", -1, 0, "junk"),
        Sample("gallery/0009/deep er/g_c2.jpg", 9, 1),
    )


def test_words_are_numbered_over_all_parts(tmp_path: Path) -> None:
    split = pid_folders.read(
        tree(tmp_path, "train/zoé/a.jpg", "query/bob/b.jpg", "gallery/bob/c.jpg", "gallery/Amy/d.jpg")
    )
    assert split.protocol == "any-camera"
    assert [s.pid for s in (*split.train, *split.query, *split.gallery)] == [2, 1, 0, 1]
    assert [s.path for s in split.gallery] == ["gallery/Amy/d.jpg", "gallery/bob/c.jpg"]
    assert all(s.camid == -1 for s in split.train)


def test_flat(tmp_path: Path) -> None:
    split = pid_folders.read(tree(tmp_path, "0/a.jpg", "12/b.jpg", "3/c.jpg", "readme.txt"))
    assert split.train_folder == ""
    assert split.train == (Sample("0/a.jpg", 0, -1), Sample("12/b.jpg", 12, -1), Sample("3/c.jpg", 3, -1))
    assert split.query == split.gallery == ()


def test_an_identity_may_be_called_train(tmp_path: Path) -> None:
    split = pid_folders.read(tree(tmp_path, "plane/a.jpg", "train/b.jpg"))
    assert [(s.path, s.pid) for s in split.train] == [("plane/a.jpg", 0), ("train/b.jpg", 1)]


def test_test_images_alone(tmp_path: Path) -> None:
    split = pid_folders.read(tree(tmp_path, "query/a/a.jpg", "gallery/a/b.jpg"))
    assert split.train == () and len(split.query) == 1


def test_other_training_folder(tmp_path: Path) -> None:
    tree(tmp_path, "train/1/a.jpg", "train_all/1/a.jpg", "train_all/1/b.jpg", "gallery/2/c.jpg")
    assert len(pid_folders.read(tmp_path, train_split="train_all").train) == 2
    with pytest.raises(DataError, match="no folder 'trainall'"):
        pid_folders.read(tmp_path, train_split="trainall")


def test_some_names_without_a_camera(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        split = pid_folders.read(tree(tmp_path, "1/a_c1.jpg", "1/b_c2.jpg", "2/plain.jpg"))
    assert split.protocol == "any-camera" and {s.camid for s in split.train} == {-1}
    assert "2 of 3" in caplog.text and "plain.jpg" in caplog.text


def test_cameras_counted_from_zero_stay(tmp_path: Path) -> None:
    split = pid_folders.read(tree(tmp_path, "1/a_c0.jpg", "1/b_c12.jpg"))
    assert [s.camid for s in split.train] == [0, 12]


@pytest.mark.parametrize(
    ("names", "pids"),
    [
        (["0001", "1500", "-1"], {"0001": 1, "1500": 1500, "-1": -1}),
        (["1", "01", "2"], {"01": 0, "1": 1, "2": 2}),  # two names for 1 would be one person
        (["-5", "3"], {"-5": 0, "3": 1}),
        (["b", "a", "-1"], {"a": 0, "b": 1, "-1": -1}),
        (["١"], {"١": 0}),  # a digit of another script is a name
    ],
)
def test_numbers(names: list[str], pids: dict[str, int]) -> None:
    numbered = pid_folders.number_identities(names)
    assert {name: numbered[name] for name in names} == pids


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/1/a.jpg", "train/b.jpg"], "train holds images itself .1, like 'b.jpg'"),
        (["a.jpg", "b.jpg"], "holds images itself"),
        (["train/1/a.jpg", "train/2/notes.txt"], "1 identity folders hold no JPEG or PNG image: '2'"),
        (["1/a.jpg", "2/.hidden.jpg"], "1 identity folders hold no"),
        (["1/a.jpg", "1/b.webp"], "b.webp: only JPEG and PNG"),
        (["-1/a.jpg", "1/b.jpg"], "holds junk"),
        (["train/-1/a.jpg", "gallery/1/b.jpg"], "holds junk"),
        (["readme.txt"], "no identity folders"),
    ],
)
def test_refused(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        pid_folders.read(tree(tmp_path, *names))


def test_not_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        pid_folders.read(tmp_path / "none")


@pytest.mark.parametrize(
    ("names", "dataset"),
    [
        (["manifest.csv", "images/a.jpg"], "manifest"),
        (["1/a.jpg"], "pid_folders"),
        (["train/1/a.jpg", "query/2/b.jpg"], "pid_folders"),
        (["train/1/0001_c1s1_000001_00.jpg", "query/2/b.jpg"], "pid_folders"),
    ],
)
def test_guess(names: list[str], dataset: str, tmp_path: Path) -> None:
    assert guess_dataset(tree(tmp_path, *names)) == dataset


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("bounding_box_train/0002_c1s1_000451_03.jpg", "market1501"),
        ("Market/bounding_box_test/-1_c1s1_000451_03.jpg", "market1501"),
        ("train_all/0002/0002_c1s1_000451_03.jpg", "market1501"),
        ("bounding_box_train/0002_c1_f0044158.jpg", "dukemtmc_reid"),
        ("bounding_box_train/0003_c1_21.png", "cuhk03"),
        ("list_train.txt", "msmt17"),
        ("cuhk-03.mat", "cuhk03"),
    ],
)
def test_guess_released_layouts(name: str, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid_core.data._guess.names", lambda _: ["market1501", "dukemtmc_reid", "cuhk03", "msmt17"])
    tree(tmp_path, name)
    assert guess_dataset(tmp_path) == dataset


def test_guess_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the known layouts"):
        guess_dataset(tree(tmp_path, "readme.txt"))
    with pytest.raises(DataError, match="no such"):
        guess_dataset(tmp_path / "none")
    assert guess_dataset(tree(tmp_path, "a.csv") / "a.csv") == "manifest"
