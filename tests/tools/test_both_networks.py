"""The tool that compares two ways of taking networks together."""

import sys
from pathlib import Path

import pytest
from conftest import PROJECT, write_tiny_classes

sys.path.insert(0, str(PROJECT / "tools"))
sys.path.insert(0, str(PROJECT / "tests" / "engine"))
import both_networks
from training_help import train


def shown(folder: Path, monkeypatch, capsys) -> str:
    monkeypatch.setattr(sys, "argv", ["both_networks.py", str(folder)])
    both_networks.main()
    return capsys.readouterr().out


def test_unlike_networks_have_no_mean_embedding(tiny_market, tmp_path, monkeypatch, capsys):
    settings = {
        "arch": ("test_resnet", "test_convnext"),
        "neck": "none",
        "image_size": (32, 32),
        "epochs": 2,
        "switch": "1",
    }
    folder, _ = train(tiny_market, tmp_path, **settings)
    out = shown(folder, monkeypatch, capsys)
    assert "mean of distances    mAP" in out and "none: they differ in width" in out
    folder, _ = train(tiny_market, tmp_path, "alike", epochs=2, switch="1")
    assert "mean of embeddings   mAP" in shown(folder, monkeypatch, capsys)


def test_class_folders_are_not_ranked(tmp_path, monkeypatch, capsys):
    data = write_tiny_classes(tmp_path / "data")
    folder, _ = train(data, tmp_path, dataset="image_folder", image_size=(16, 16), augment="none", epochs=2, switch="1")
    with pytest.raises(SystemExit):
        shown(folder, monkeypatch, capsys)
    assert "not ranked" in capsys.readouterr().err
