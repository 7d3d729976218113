"""Class folders: which folders are read, what a class's number is, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from reid_core.data import image_folder
from reid_core.data._find import find_root, resolve_name
from reid_core.data._guess import guess_dataset
from reid_core.errors import DataError
from reid_core.types import Sample


def make(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"x")
    return root


SOUND = ("train/dog/b.jpg", "train/dog/a.PNG", "train/Cat/1.JPeG", "test/dog/c.jpg", "test/Cat/2.jpg")


def test_classes_are_numbered_in_the_sorted_order_of_their_folders(tmp_path: Path) -> None:
    split = image_folder.read(make(tmp_path, *SOUND))
    assert split.class_names == ("Cat", "dog")
    assert split.train == (
        Sample("train/Cat/1.JPeG", 0, -1),
        Sample("train/dog/a.PNG", 1, -1),
        Sample("train/dog/b.jpg", 1, -1),
    )
    assert split.test == (Sample("test/Cat/2.jpg", 0, -1), Sample("test/dog/c.jpg", 1, -1))
    assert (split.dataset, split.root, split.train_folder) == ("image_folder", tmp_path, "train")
    assert split.query == split.gallery == ()


def test_images_in_folders_below_a_class_belong_to_it(tmp_path: Path) -> None:
    split = image_folder.read(make(tmp_path, *SOUND, "train/dog/puppies/d.jpg", "train/dog/.hidden/e.jpg"))
    assert [s.path for s in split.train if s.pid == 1] == [
        "train/dog/a.PNG",
        "train/dog/b.jpg",
        "train/dog/puppies/d.jpg",
    ]


@pytest.mark.parametrize(
    ("folders", "asked", "train", "test"),
    [
        ("train test", "train", "train", "test"),
        ("train val", "train", "train", "val"),
        ("train val_split", "train", "train", "val_split"),
        ("train val test", "train", "train", "test"),
        ("train", "train", "train", ""),
        ("train_split val_split", "train", "train_split", "val_split"),
        ("train_split val_split", "train_split", "train_split", "val_split"),
        ("train_split val_split test", "train", "train_split", "test"),
        # The images of val_split may be among those of train: it is not measured then.
        ("train train_split val_split", "train", "train", ""),
        ("train train_split val_split val", "train", "train", "val"),
        ("train train_split val_split", "train_split", "train_split", "val_split"),
        ("clean test", "clean", "clean", "test"),
    ],
)
def test_which_folders_are_read(folders: str, asked: str, train: str, test: str, tmp_path: Path) -> None:
    make(tmp_path, *(f"{folder}/{name}/{folder}.jpg" for folder in folders.split() for name in ("cat", "dog")))
    split = image_folder.read(tmp_path, train_split=asked)
    assert split.train_folder == train and {s.path for s in split.train} == {
        f"{train}/cat/{train}.jpg",
        f"{train}/dog/{train}.jpg",
    }
    assert {s.path.split("/")[0] for s in split.test} == ({test} if test else set())


def test_what_is_left_aside_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    make(tmp_path, *SOUND, "val/dog/c.jpg", "val/Cat/2.jpg", "train/dog/notes.txt", "test/Cat/Thumbs.db", "train/x.csv")
    make(tmp_path, "train/dog/.DS_Store", "train_split/dog/1.jpg")
    split = image_folder.read(tmp_path)
    assert len(split.train) == 3
    assert "'test', 'val'; test is measured" in caplog.text.replace("and ", "")
    assert "3 files are no images and are left out: 'train/x.csv', 'train/dog/notes.txt', 'test/Cat/Thumbs.db'" in (
        caplog.text
    )
    assert "--train_split train_split" in caplog.text and "DS_Store" not in caplog.text


def test_a_test_folder_alone_has_classes_but_nothing_to_train_on(tmp_path: Path) -> None:
    make(tmp_path, "val/dog/1.jpg", "val/cat/1.jpg", "val/cat/2.jpg")
    split = image_folder.read(tmp_path)
    assert (split.train, split.class_names) == ((), ("cat", "dog"))
    assert [(sample.path, sample.pid) for sample in split.test] == [
        ("val/cat/1.jpg", 0),
        ("val/cat/2.jpg", 0),
        ("val/dog/1.jpg", 1),
    ]
    assert image_folder.read(tmp_path, train_split="train_split").train == ()
    with pytest.raises(DataError, match="no training folder 'train_all'"):
        image_folder.read(tmp_path, train_split="train_all")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "no training folder 'train'.*no folder at all.*reid-core split classes"),
        (("dog/1.jpg", "cat/1.jpg"), "no training folder 'train'.*there is 'cat', 'dog'"),
        ((*SOUND, "test/fox/1.jpg"), r"differ: 1 only in test \('fox'\)"),
        ((*SOUND, "train/fox/1.jpg"), r"differ: 1 only in train \('fox'\)"),
        (
            (*SOUND, "train/fox/1.jpg", "test/cat/1.jpg"),
            r"differ: 1 only in train \('fox'\); 1 only in test \('cat'\)",
        ),
        ((*SOUND, "train/1.jpg"), "holds images itself.*'1.jpg'"),
        ((*SOUND, "test/1.jpg"), "test holds images itself"),
        ((*SOUND, "train/fox/notes.txt", "test/fox/1.jpg"), "1 of 3 class folders hold no JPEG or PNG image: 'fox'"),
        ((*SOUND, "train/fox/1.jpg", "test/fox/x.txt"), "test: 1 of 3 class folders hold no"),
        ((*SOUND, "train/dog/1.webp"), "1.webp: only JPEG and PNG"),
        (("train/notes.txt", "test/dog/1.jpg"), "holds no class folder"),
    ],
)
def test_what_is_refused(files: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        image_folder.read(make(tmp_path, *files))


def test_neither_a_file_nor_nothing_is_read(tmp_path: Path) -> None:
    make(tmp_path, "a.csv")
    for path in (tmp_path / "a.csv", tmp_path / "none"):
        with pytest.raises(DataError, match="is not a folder"):
            image_folder.read(path)


def test_names_and_guesses(tmp_path: Path) -> None:
    assert resolve_name("ImageFolder") == resolve_name("image-folder") == "image_folder"
    make(tmp_path / "classes", *SOUND)
    assert guess_dataset(tmp_path / "classes") == "image_folder"
    assert find_root(tmp_path / "classes", "image_folder") == tmp_path / "classes"
    make(tmp_path / "split", "train_split/dog/1.jpg", "val_split/dog/2.jpg")
    assert guess_dataset(tmp_path / "split") == "image_folder"
    # Identities are searched for, and training images alone may be either: as before.
    make(tmp_path / "people", *SOUND, "query/dog/1.jpg", "gallery/dog/2.jpg")
    assert guess_dataset(tmp_path / "people") == "pid_folders"
    make(tmp_path / "alone", "train/dog/1.jpg", "train/cat/1.jpg")
    assert guess_dataset(tmp_path / "alone") == "pid_folders"
    make(tmp_path / "flat", "train/1.jpg", "test/1.jpg")
    assert guess_dataset(tmp_path / "flat") == "pid_folders"


def test_no_noise_by_default() -> None:
    assert "noise_ratio" not in image_folder.TRAIN_DEFAULTS
