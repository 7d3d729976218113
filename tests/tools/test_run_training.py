"""The two-stage launcher: what it runs, in which order, and what stops it before anything is trained."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import PROJECT
from PIL import Image

from reid_core.config import read_toml
from reid_core.data import image_folder

SCRIPT = PROJECT / "tools" / "run_training.sh"
CONFIG = PROJECT / "tools" / "configs" / "peer_two_stage.toml"
VARIABLES = "CUDA_VISIBLE_DEVICES DATA_PATH NUM_CLASSES NET1_ARCH NET2_ARCH BATCH_SIZE EPOCHS BASE_LR".split()

# Stands for Python: notes what it was asked, and leaves the checkpoint that stage 1 would.
STUB = """#!/usr/bin/env bash
if [ "$1" = -c ]; then exit "${MISSING:-0}"; fi
echo "CUDA=$CUDA_VISIBLE_DEVICES $*" >> "$LOG"
name=""; stage=2
while [ $# -gt 0 ]; do
    [ "$1" = --name ] && name=$2
    [ "$1" = --resume ] && name=${2##*/}
    [ "$1" = --stage1 ] && stage=1
    shift
done
[ "$stage" = "${FAIL_AT:-0}" ] && exit 5
mkdir -p "$OUT/$name/checkpoints"
[ "${FORGET:-0}" = 1 ] || echo weights > "$OUT/$name/checkpoints/phase_0.safetensors"
"""


@pytest.fixture
def launch(tmp_path):
    """Starts the script in a folder of its own with three classes; gives (exit code, stderr, what was asked for)."""
    for name in ("a", "b", "c", ".hidden"):
        (tmp_path / "data" / "train" / name).mkdir(parents=True)
    (tmp_path / "data" / "train" / "notes.txt").write_text("no class")
    stub = tmp_path / "python"
    stub.write_text(STUB)
    stub.chmod(0o755)
    log = tmp_path / "log"

    def start(*arguments, **environment):
        log.write_text("")
        kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        values = {"PYTHON": str(stub), "LOG": str(log), "OUT": "runs", "NUM_CLASSES": "3", "DATA_PATH": "data"}
        found = subprocess.run(
            [SCRIPT, *arguments], cwd=tmp_path, env={**kept, **values, **environment}, capture_output=True, text=True
        )
        return found.returncode, found.stderr, log.read_text().splitlines()

    return start


def flag(line, name):
    words = line.split()
    return words[words.index(name) + 1]


def test_both_stages_in_order_with_the_values_at_its_top(launch):
    status, _, (first, second) = launch()
    assert status == 0
    assert "--stage1 " in f"{first} " and "--stage2" not in first
    assert "--stage2" in second and "--stage1 " not in f"{second} "
    assert flag(second, "--from_self") == "runs/peer-stage1/checkpoints/phase_0.safetensors"
    for line in (first, second):
        assert line.startswith("CUDA=0 -m reid_core train ") and flag(line, "--config") == str(CONFIG)
        assert "--arch convnext_tiny swin_tiny_patch4_window7_224 " in line
        assert [flag(line, name) for name in ("--batchsize", "--epochs", "--lr")] == ["64", "100", "1e-4"]
        assert [flag(line, name) for name in ("--stage1_epochs", "--stage1_lr")] == ["20", "1e-3"]


def test_every_value_may_come_from_the_environment(launch, tmp_path):
    (tmp_path / "data").rename(tmp_path / "other data")
    given = {"CUDA_VISIBLE_DEVICES": "", "DATA_PATH": "other data", "NET1_ARCH": "x", "NET2_ARCH": "y"}
    status, _, lines = launch("--device", "cpu", **given, BATCH_SIZE="7", EPOCHS="8", BASE_LR="0.9", NAME="n")
    assert status == 0 and len(lines) == 2
    for number, line in enumerate(lines, start=1):
        assert (
            line.startswith("CUDA= -m") and "--data_dir other data --arch x y --batchsize 7 --epochs 8 --lr 0.9" in line
        )
        assert flag(line, "--name") == f"n-stage{number}" and line.endswith("--device cpu")


@pytest.mark.parametrize("number", ["2", "4"])
def test_another_number_of_classes_is_refused_before_anything(launch, number):
    status, said, asked = launch(NUM_CLASSES=number)
    assert (status, asked) == (3, [])
    assert f"NUM_CLASSES is {number}, but data/train has 3 class folders" in said


def test_no_training_folder_is_refused_before_anything(launch):
    status, said, asked = launch(DATA_PATH="nowhere")
    assert (status, asked) == (3, []) and "nowhere holds neither train/ nor train_split/" in said


def test_the_folder_of_the_split_tool_counts_too(launch, tmp_path):
    (tmp_path / "data" / "train").rename(tmp_path / "data" / "train_split")
    assert launch()[0] == 0


def test_a_missing_package_is_not_installed_but_said(launch):
    status, said, asked = launch(MISSING="1")
    assert (status, asked) == (2, [])
    assert f"-m pip install --no-build-isolation {PROJECT}" in said


def test_it_stops_at_the_first_failure(launch):
    status, _, asked = launch(FAIL_AT="1")
    assert status == 5 and len(asked) == 1


def test_a_failure_of_the_second_stage_is_its_own(launch):
    assert launch(FAIL_AT="2")[0] == 5


def test_stage_2_needs_the_checkpoint_of_stage_1(launch):
    status, said, asked = launch(FORGET="1")
    assert status == 4 and len(asked) == 1
    assert "without runs/peer-stage1/checkpoints/phase_0.safetensors" in said


def test_started_again_it_goes_on_at_the_stage(launch):
    launch(FAIL_AT="2")
    status, said, (first, second) = launch()
    assert status == 0 and "goes on with the settings it was begun with" in said
    assert first == "CUDA=0 -m reid_core train --resume runs/peer-stage1"
    assert "--stage2" in second


def test_the_variables_its_users_know_stand_at_the_top():
    top = SCRIPT.read_text(encoding="utf-8").split("rarely changed")[0]
    assert [name for name in VARIABLES if f"{name}=" not in top] == []


def test_the_configuration_has_no_unknown_setting():
    found = read_toml(CONFIG)
    assert (found["method"], found["stage1_epochs"], found["epochs"]) == ("peer", 20, 100)
    assert (found["stage1_lr"], found["lr"], found["ema"], len(found["arch"])) == (1e-3, 1e-4, 0.9999, 2)
    assert (found["clip_grad"], found["amp"]) == (1.0, "auto")


def test_class_folders_have_the_prior_and_smoothing_of_long_tails():
    defaults = image_folder.TRAIN_DEFAULTS
    assert (defaults["tau"], defaults["smoothing"]) == (1.0, 0.1)


def test_a_real_run_of_both_stages(tmp_path):
    """Tiny networks and images; it shows that the flags of the script are flags of the command."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 2)):
        for c in range(3):
            folder = tmp_path / "data" / part / f"class{c}"
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 60, (32, 32, 3)) + np.eye(3, dtype=int)[c] * 190
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    config = tmp_path / "tiny.toml"
    dropped = ("weights", "image_size", "batchsize", "ema")
    lines = [line for line in CONFIG.read_text(encoding="utf-8").splitlines() if not line.startswith(dropped)]
    config.write_text("\n".join([*lines, "image_size = [32, 32]", "workers = 0", 'device = "cpu"', "threads = 1"]))
    values = {"DATA_PATH": "data", "NUM_CLASSES": "3", "NET1_ARCH": "test_resnet", "NET2_ARCH": "test_vit"}
    more = {"STAGE1_EPOCHS": "1", "EPOCHS": "2", "BATCH_SIZE": "8", "CONFIG": str(config), "PYTHON": sys.executable}
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), **values, **more}
    found = subprocess.run([SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stderr[-3000:]
    assert (tmp_path / "runs" / "peer-stage2" / "result.json").is_file()
