"""Which epoch is reported, and that its weights are there whatever happens."""

import json
import shutil

import numpy as np
import pytest
import torch
from training_help import SilentScreen, metrics, train
from validation_help import ASKED, checkpoint, files

from reid_core.engine import experiment
from reid_core.engine.checkpoint import CheckpointFolder
from reid_core.engine.evaluate import EvaluationOptions, evaluate
from reid_core.engine.loading import load_networks
from reid_core.engine.signals import StopRequest
from reid_core.engine.validation import FILE, best_epoch, reported
from reid_core.errors import CheckpointError, Interrupted
from reid_core.types import Sample, Split


@pytest.fixture(scope="module")
def finished(tiny_market, tmp_path_factory):
    """One uninterrupted CORE run with a validation set: (folder, screen)."""
    return train(tiny_market, tmp_path_factory.mktemp("runs"), "whole", **ASKED)


def lines_of(*validation):
    """Lines of metrics.jsonl whose test figures would choose the other way round; None: not measured."""
    return [
        {"epoch": epoch, "evaluation": {"mAP": epoch}}
        | ({} if maps is None else {"evaluation": {"mAP": -sum(maps)}, "validation": {"networks": nets(maps)}})
        for epoch, maps in enumerate(validation)
    ]


def nets(maps):
    return [{"mAP": value, "rank1": 1 - value} for value in maps]


@pytest.mark.parametrize(
    ("validation", "best"),
    [
        ([[0.5]], 0),
        ([[0.1], [0.3], [0.2]], 1),
        ([[0.3], [0.1], [0.3]], 0),  # the earlier of equals
        ([None, [0.2], None, [0.4], None], 3),
        ([[0.9, 0.1], [0.6, 0.6], [0.2, 0.9]], 1),  # neither network's own best
        ([None, None], None),
        ([], None),
    ],
)
def test_best_is_the_highest_mean_over_the_networks(validation, best):
    lines = lines_of(*validation)
    assert best_epoch(lines) == best
    if best is not None:
        found = reported(lines)
        assert (found["mAP"], found["chosen_epoch"], found["chosen_by"]) == (-sum(validation[best]), best, "validation")
        assert found["validation"] == {"networks": nets(validation[best])}
    elif lines:
        assert reported(lines) == {"mAP": 1, "chosen_epoch": 1, "chosen_by": "last epoch"}


def test_the_best_epoch_is_saved_and_reported(finished):
    folder, _ = finished
    lines, result = metrics(folder), json.loads((folder / "result.json").read_text())
    means = [sum(net["mAP"] for net in line["validation"]["networks"]) / 2 for line in lines]
    assert len(means) == 5 and len(set(means)) > 1
    best = min(i for i, mean in enumerate(means) if mean == max(means))
    assert (result["chosen_epoch"], result["chosen_by"]) == (best, "validation")
    assert result["validation"] == lines[best]["validation"]
    assert {key: result[key] for key in lines[best]["evaluation"]} == lines[best]["evaluation"]
    assert checkpoint(folder).meta["epoch"] == best + 1
    assert set(lines[0]["validation"]["networks"][0]) == {"mAP", "rank1"}
    if best + 1 < len(lines):
        assert any((checkpoint(folder).tensors[k] != v).any() for k, v in checkpoint(folder, "last").tensors.items())


@pytest.mark.parametrize("name", ["best", "last"])
def test_figures_belong_to_the_weights_beside_them(name, finished):
    """Both measured again, from the checkpoint and the images of validation.csv."""
    folder, screen = finished
    line = metrics(folder)[checkpoint(folder, name).meta["epoch"] - 1]
    networks = load_networks(folder, name).networks
    options = EvaluationOptions((32, 16), flip=True)
    cameras = {sample.path: sample.camid for sample in screen.data.split.train}
    assert not cameras.keys() & {f"bounding_box_train/{row['path']}" for row in files(folder)[1]}
    parts = {"query": [], "gallery": []}
    for row in files(folder)[1]:
        camera = int(row["path"].split("_c")[1][0])
        parts[row["part"]].append(Sample(f"bounding_box_train/{row['path']}", int(row["identity"]), camera))
    held = Split("x", screen.data.split.root, "", (), tuple(parts["query"]), tuple(parts["gallery"]))
    again = evaluate(networks, held, options, torch.device("cpu")).networks
    assert [net.mAP for net in again] == [net["mAP"] for net in line["validation"]["networks"]]
    assert [net.rank(1) for net in again] == [net["rank1"] for net in line["validation"]["networks"]]
    test = evaluate(networks, screen.data.split, options, torch.device("cpu")).networks
    assert [net.mAP for net in test] == [net["mAP"] for net in line["evaluation"]["networks"]]


def test_measured_when_the_test_set_is(tiny_market, tmp_path):
    asked = {"method": "baseline", "epochs": 5, "switch": "2", "val_ids": 0.25}
    folder, _ = train(tiny_market, tmp_path, "r", eval_every=2, **asked)
    for key in ("evaluation", "validation"):
        assert [line["epoch"] for line in metrics(folder) if key in line] == [1, 3, 4]


def test_without_the_flag_nothing_is_cut_and_the_last_epoch_is_reported(tiny_market, tmp_path):
    folder, screen = train(tiny_market, tmp_path, "r", epochs=2, switch="1", eval_every=1)
    assert screen.data.validation is None and len(screen.data.split.train) == 48
    assert not (folder / FILE).exists() and "best" not in CheckpointFolder(folder / "checkpoints").names()
    lines, result = metrics(folder), json.loads((folder / "result.json").read_text())
    assert all("validation" not in line for line in lines)
    assert (result["chosen_epoch"], result["chosen_by"]) == (1, "last epoch") and "validation" not in result
    assert {key: result[key] for key in lines[1]["evaluation"]} == lines[1]["evaluation"]


def test_without_queries_validation_still_chooses(tiny_market, tmp_path):
    for path in (tiny_market / "bounding_box_train").iterdir():
        (tmp_path / "crops" / path.name[:4]).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "crops" / path.name[:4])
    asked = {
        "dataset": "pid_folders",
        "val_ids": 0.25,
        "method": "baseline",
        "epochs": 2,
        "switch": "1",
        "eval_every": 1,
    }
    folder, screen = train(tmp_path / "crops", tmp_path, "r", **asked)
    result = json.loads((folder / "result.json").read_text())
    assert any("only the validation set is measured" in note for note in screen.notes)
    assert result["chosen_by"] == "validation" and "mAP" not in result
    assert checkpoint(folder).meta["epoch"] == result["chosen_epoch"] + 1


class StopAfter(SilentScreen):
    """Asks to stop once an epoch's line is written."""

    def __init__(self, epoch):
        super().__init__()
        self.stop, self.last = StopRequest(), epoch

    def epoch(self, line):
        super().epoch(line)
        self.stop.requested = 2 if line["epoch"] == self.last else None


def scripted(monkeypatch, means):
    """Validation mAP by hand: no training is needed to say which epoch is best."""
    calls = iter(means)
    monkeypatch.setattr(experiment, "measure", lambda *args: {"validation": {"networks": [{"mAP": next(calls)}]}})
    return {"val_ids": 0.25, "eval_every": 1, "epochs": 4, "method": "baseline"}


def test_a_best_that_a_kill_kept_from_its_place_is_put_there(tiny_market, tmp_path, monkeypatch):
    """A kill between the renames leaves last at the best epoch and best at an earlier one."""
    asked = scripted(monkeypatch, [0.2, 0.6, 0.4, 0.5])
    screen = StopAfter(1)
    with pytest.raises(Interrupted):
        train(tiny_market, tmp_path, "r", screen=screen, stop=screen.stop, **asked)
    saved = CheckpointFolder(tmp_path / "r" / "checkpoints")
    expected = saved.load("best")
    assert expected.meta["epoch"] == saved.load("last").meta["epoch"] == 2
    saved.save_as("best", saved.load("previous").tensors, {"epoch": 1, "step": 0})
    folder, screen = train(tiny_market, tmp_path, "r", resume=True, **asked)
    assert checkpoint(folder).meta["epoch"] == 2
    for key, array in expected.tensors.items():
        np.testing.assert_array_equal(checkpoint(folder).tensors[key], array)
    assert json.loads((folder / "result.json").read_text())["chosen_epoch"] == 1
    assert not any("does not hold it" in note for note in screen.notes)


def test_best_beside_the_end_of_a_phase_has_both_names(tiny_market, tmp_path, monkeypatch):
    folder, _ = train(tiny_market, tmp_path, "r", **(scripted(monkeypatch, [0.1, 0.2, 0.3, 0.7]) | {"save_minutes": 9}))
    saved = CheckpointFolder(folder / "checkpoints")
    assert [saved.load(name).meta["epoch"] for name in ("best", "phase_0", "last")] == [4, 4, 4]


def test_a_best_that_could_not_be_written_is_said(tiny_market, tmp_path, monkeypatch):
    save = CheckpointFolder.save

    def full_once(self, tensors, meta, *, also=()):
        if meta["epoch"] == 3:
            raise CheckpointError("last.safetensors could not be written: No space left on device.")
        return save(self, tensors, meta, also=also)

    monkeypatch.setattr(CheckpointFolder, "save", full_once)
    asked = scripted(monkeypatch, [0.2, 0.4, 0.6, 0.3])
    folder, screen = train(tiny_market, tmp_path, "r", on_save_error="continue", **asked)
    assert any("epoch 2 (from 0) is reported" in note and "best.safetensors" in note for note in screen.notes)
    assert json.loads((folder / "result.json").read_text())["chosen_epoch"] == 2
