"""--val_ids on the command line: what is shown, measured again, and refused."""

import json

import pytest

from reid_core.cli._main import run

TINY = (
    "--arch test_resnet --neck fc512 --neck_dim 16 --image_size 32 16 --batchsize 8 --workers 0 --threads 1 "
    "--epochs 3 --switch 1 --lr 0.05 --device cpu --eval_every 1"
).split()


def test_what_is_shown_and_evaluated_again(tiny_market, tmp_path, capsys):
    argv = ["train", "--data_dir", str(tiny_market), "--out", str(tmp_path), *TINY, "--name"]
    assert run([*argv, "r", "--val_ids", "0.25"]) == 0
    shown = capsys.readouterr()
    result = json.loads((tmp_path / "r" / "result.json").read_text())
    assert f"figures of epoch {result['chosen_epoch'] + 1} of 3, chosen by validation" in shown.out
    assert "validation.csv" in shown.out and (tmp_path / "r" / "suspected_labels.csv").is_file()
    assert shown.err.count("  validation mAP ") == 3 and "of 2 other identities by given label" in shown.err
    again = ["evaluate", str(tmp_path / "r"), str(tiny_market), "--workers", "0", "--json"]
    assert run([*again, "--checkpoint", "best"]) == 0
    assert json.loads(capsys.readouterr().out)["networks"] == result["networks"]
    assert run([*argv, "plain"]) == 0
    shown = capsys.readouterr()
    assert "figures of epoch 3 of 3, the last" in shown.out and "validation" not in shown.out + shown.err
    again[1] = str(tmp_path / "plain")
    assert run([*again, "--checkpoint", "best"]) == 2
    error = capsys.readouterr().err
    assert "best.safetensors" in error and "--val_ids" in error and "last, phase_0" in error


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        ("1", 2, "--val_ids must be in [0, 1), got 1.0"),
        ("-0.1", 2, "--val_ids must be in [0, 1)"),
        ("nan", 2, "--val_ids must be in [0, 1)"),
        ("0.9", 2, "both sides need at least two"),
    ],
)
def test_mistakes_are_explained_before_training(value, code, words, tiny_market, tmp_path, capsys):
    argv = ["train", "--data_dir", str(tiny_market), "--out", str(tmp_path / "runs"), *TINY, f"--val_ids={value}"]
    assert run(argv) == code
    captured = capsys.readouterr()
    assert words in captured.err and "Traceback" not in captured.err
    assert not (tmp_path / "runs").exists()


def test_another_share_is_another_run(tiny_market, tmp_path, capsys):
    argv = ["train", "--data_dir", str(tiny_market), "--out", str(tmp_path), *TINY, "--name", "r", "--val_ids", "0.25"]
    assert run(argv) == 0
    assert run(["train", "--resume", str(tmp_path / "r"), "--val_ids", "0.5"]) == 2
    assert "--val_ids 0.5 (was 0.25) would make it another run" in capsys.readouterr().err
