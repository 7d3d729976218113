"""Class folders from the command line: what the screen says of a run, and what doctor says of the folders."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import pytest
from conftest import write_tiny_classes

from reid_core.cli import train
from reid_core.cli._main import run
from reid_core.data._guess import guess_dataset

TINY = (
    "--dataset image_folder --arch test_resnet --neck none --image_size 16 16 --augment none --batchsize 8 --workers 0 "
    "--threads 1 --method core --epochs 2 --switch 1 --lr 0.05 --new_layer_mult 1 --device cpu --eval_every 1"
).split()


def test_what_a_run_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_tiny_classes(tmp_path / "data", names=("ant", "bee", "cat", "dog", "elk"))
    (data / "train" / "ant" / "notes.txt").write_text("mine")
    words = ["train", *TINY, "--data_dir", str(data), "--out", str(tmp_path), "--name", "run", "--val_images", "0.2"]
    assert run([*words, "--noise", "symmetric", "--noise_ratio", "0.2"]) == 0
    shown = capsys.readouterr()
    assert "image_folder: 48 training images of 5 classes" in shown.err and "15 test images" in shown.err
    assert "validation: 12 more images of 5 classes by given label" in shown.err
    assert "made wrong (symmetric)" in shown.err
    assert "; images of 16 x 16; run folder" in shown.err
    line = next(line for line in shown.err.splitlines() if line.startswith("epoch   2/2"))
    assert "accuracy " in line and " balanced " in line and "validation balanced " in line and "mAP" not in line
    head = shown.out.splitlines()[0].split()
    assert head[:4] == ["accuracy", "top-5", "balanced", "geometric"] and head[-1] == "few"
    assert "both" in shown.out and "15 test images of 5 classes" in shown.out and "chosen by validation" in shown.out
    assert "confusion.png" in shown.out and "cmc.png" not in shown.out
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert config["noise_ratio"] == 0.2 and config["image_size"] == [16, 16]

    shutil.rmtree(data / "train")
    assert run(["evaluate", str(tmp_path / "run"), str(data), "--workers", "0", "--threads", "1"]) == 0
    assert "15 test images of 5 classes" in capsys.readouterr().out
    assert run([*words, "--name", "another"]) == 3
    assert "there is no training image; they were expected in 'train', there is 'test'." in capsys.readouterr().err


def test_doctor_of_class_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_tiny_classes(tmp_path / "data", counts=(3, 1), names=("ant", "bee"))
    (data / "train" / "ant" / "notes.txt").write_text("mine")
    assert run(["doctor", str(data)]) == 0
    shown = capsys.readouterr()
    assert "looks like --dataset image_folder" in shown.err and "1 files are no images" in shown.err
    assert "single image" in shown.out and "classification" in shown.out
    assert run(["doctor", str(data), "--protocol", "any-camera"]) == 2
    (data / "test" / "bee").rename(data / "test" / "wasp")
    assert run(["doctor", str(data)]) == 3
    assert "only in train ('bee'); 1 only in test ('wasp')" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ([], (224, 224)),
        (["--arch", "resnet10t"], (176, 176)),  # what timm trained it at
        (["--arch", "resnet10t", "vit_base_patch16_384"], (384, 384)),
        (["--arch", "no_such_network"], (224, 224)),  # said later, by its name
        (["--arch", "resnet10t", "--image_size", "64", "32"], (64, 32)),
    ],
)
def test_images_are_as_large_as_timm_names_for_the_architecture(words: list[str], size: tuple[int, int]) -> None:
    parser = argparse.ArgumentParser()
    train.configure(parser)
    for dataset, expected in (("image_folder", size), ("market1501", size if "--image_size" in words else (256, 128))):
        assert train.configuration(parser.parse_args(["--dataset", dataset, *words]))[0].image_size == expected


def test_a_test_folder_alone_is_taken_for_class_folders(tmp_path: Path) -> None:
    data = write_tiny_classes(tmp_path / "data")
    shutil.rmtree(data / "train")
    assert guess_dataset(data) == "image_folder"
    (data / "0001").mkdir()
    assert guess_dataset(data) == "pid_folders"
