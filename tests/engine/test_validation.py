"""Validation identities: who is cut off, that no true label and no query takes part in it, and which epoch is reported."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from training_help import SilentScreen, metrics, train

from reid_core.cli._main import run
from reid_core.data._labels import write_labels
from reid_core.engine import experiment
from reid_core.engine.checkpoint import CheckpointFolder
from reid_core.engine.evaluate import EvaluationOptions, evaluate
from reid_core.engine.loading import load_networks
from reid_core.engine.signals import StopRequest
from reid_core.engine.training_data import TrainingData
from reid_core.engine.validation import FILE, best_epoch, cut_off, reported, stored_labels, write_validation
from reid_core.errors import CheckpointError, DataError, Interrupted, UsageError
from reid_core.types import NoisyLabels, Sample, Split

ASKED = {"val_ids": 0.25, "eval_every": 1, "epochs": 5, "seed": 2}


def make_data(given, true=None, camids=None, protocol="market1501", num_classes=None):
    """Images train/000.jpg, train/001.jpg, ... whose identities are called a, b, c, ..."""
    camids = [i % 3 for i in range(len(given))] if camids is None else camids
    train = tuple(Sample(f"train/{i:03d}.jpg", 0, camid) for i, camid in enumerate(camids))
    true = None if true is None else np.array(true, np.int64)
    labels = NoisyLabels(np.array(given, np.int64), true, "random", 0.5, 1)
    names = tuple("abcdefghijklmnopqrstuvwxyz"[: num_classes or max(given) + 1])
    return TrainingData(Split("x", Path("root"), "train", train, protocol=protocol), labels, names)


def cut_images(data):
    return {sample.path: sample.pid for sample in data.validation.split.query + data.validation.split.gallery}


def files(folder):
    """(rows of labels.csv, rows of validation.csv)."""
    return [list(csv.DictReader((folder / name).open())) for name in ("labels.csv", FILE)]


def checkpoint(folder, name="best"):
    return CheckpointFolder(folder / "checkpoints").load(name)


def assert_same_run(one, other):
    """Metrics, labels, result and both checkpoints, to the bit; times apart."""
    assert metrics(one) == metrics(other)
    assert files(one) == files(other)
    results = [json.loads((folder / "result.json").read_text()) | {"seconds": 0} for folder in (one, other)]
    assert results[0] == results[1]
    for name in ("best", "last"):
        mine, theirs = checkpoint(one, name), checkpoint(other, name)
        assert mine.tensors.keys() == theirs.tensors.keys() and mine.meta["epoch"] == theirs.meta["epoch"]
        for key in mine.tensors:
            np.testing.assert_array_equal(mine.tensors[key], theirs.tensors[key], err_msg=f"{name}: {key}")


@pytest.fixture(scope="module")
def finished(tiny_market, tmp_path_factory):
    """One uninterrupted CORE run with a validation set: (folder, screen)."""
    return train(tiny_market, tmp_path_factory.mktemp("runs"), "whole", **ASKED)


# Who is cut off


@pytest.mark.parametrize("seed", range(12))
def test_the_cut_equals_a_walk_over_the_images(seed):
    rng = np.random.default_rng(seed)
    num_classes = int(rng.integers(4, 9))
    given, true = rng.integers(0, num_classes, 60).tolist(), rng.integers(0, num_classes, 60).tolist()
    before = make_data(given, true, num_classes=num_classes)
    data = cut_off(before, 0.3, seed)
    cut = sorted(set(cut_images(data).values()))
    assert len(cut) == max(2, round(0.3 * num_classes))
    left = [c for c in range(num_classes) if c not in cut]
    assert data.class_names == tuple(before.class_names[c] for c in left)
    train, labels, truth, camera_seen, query, gallery = [], [], [], set(), [], []
    for sample, label, right in zip(before.split.train, given, true):
        if label not in cut:
            train.append(sample)
            labels.append(left.index(label))
            truth.append(left.index(right) if right in left else -1)
        elif (label, sample.camid) in camera_seen:
            gallery.append(Sample(sample.path, label, sample.camid))
        else:
            camera_seen.add((label, sample.camid))
            query.append(Sample(sample.path, label, sample.camid))
    assert list(data.split.train) == train
    assert data.labels.given.tolist() == labels and data.labels.true.tolist() == truth
    assert data.labels.clean.tolist() == [a == b for a, b in zip(labels, truth)]
    held = data.validation.split
    assert (list(held.query), list(held.gallery), held.train) == (query, gallery, ())
    assert (held.root, held.protocol) == (before.split.root, before.split.protocol)


@pytest.mark.parametrize(("classes", "share", "cut"), [(20, 0.1, 2), (20, 0.26, 5), (26, 0.1, 3), (10, 0.01, 2)])
def test_how_many_are_cut_off(classes, share, cut):
    data = cut_off(make_data([i % classes for i in range(7 * classes)]), share, 1)
    assert len(set(cut_images(data).values())) == cut and data.num_classes == classes - cut


def test_true_labels_play_no_part():
    given = np.random.default_rng(0).integers(0, 8, 80).tolist()
    truths = [given, given[::-1], [0] * 80, None]
    data = [cut_off(make_data(given, true), 0.25, 3) for true in truths]
    for other in data[1:]:
        assert other.validation == data[0].validation and other.split == data[0].split
        assert other.labels.given.tolist() == data[0].labels.given.tolist()
    assert data[3].labels.true is None


def test_the_seed_chooses_and_every_identity_has_its_chance():
    data = make_data([i % 5 for i in range(60)])
    cuts = [tuple(sorted(set(cut_images(cut_off(data, 0.4, seed)).values()))) for seed in range(200)]
    assert cuts[7] == tuple(sorted(set(cut_images(cut_off(data, 0.4, 7)).values())))
    counts = [sum(cut == pair for cut in cuts) for pair in set(cuts)]
    assert len(counts) == 10 and min(counts) >= 8  # of 20 each; below 8 one of ten falls about once in 1,000 trials


def test_an_identity_that_noise_has_emptied_is_no_validation_identity():
    """Class 2 has no image: it is neither counted nor cut off, and stays a class."""
    given = [(0, 1, 3, 4)[i % 4] for i in range(48)]
    data = make_data(given, [2] * 48)
    for seed in range(20):
        after = cut_off(data, 0.5, seed)
        assert after.num_classes == 3 and "c" in after.class_names
        assert set(after.labels.true.tolist()) == {after.class_names.index("c")}


def test_no_share_no_cut():
    data = make_data([0, 1, 0, 1])
    assert cut_off(data, 0.0, 1) is data


def test_cameras_decide_queries_and_without_cameras_there_is_one_an_identity():
    both = [0, 1] * 4 + [2, 3] * 4
    data = cut_off(make_data(both, camids=[-1] * 16, protocol="any-camera"), 0.5, 1).validation.split
    assert len(data.query) == 2 and len(data.gallery) == 6
    with pytest.raises(UsageError, match=r"--val_ids 0.5: none of the 2 validation queries.*any-camera"):
        cut_off(make_data(both, camids=[-1] * 16), 0.5, 1)
    # Every image the only one of its camera: all are queries, and the gallery is empty.
    with pytest.raises(UsageError, match="none of the 8 validation queries"):
        cut_off(make_data(both, camids=[0, 0, 1, 1, 2, 2, 3, 3] * 2), 0.5, 1)


@pytest.mark.parametrize(("classes", "share"), [(3, 0.1), (4, 0.7), (10, 0.9), (2, 0.5)])
def test_both_sides_need_two_identities(classes, share):
    with pytest.raises(UsageError, match=rf"--val_ids {share}: \d+ of {classes} identities.*at least two"):
        cut_off(make_data([i % classes for i in range(12 * classes)]), share, 1)


# The files


@pytest.mark.parametrize("seed", range(8))
def test_labels_before_the_cut_come_back_from_the_files(seed, tmp_path):
    rng = np.random.default_rng(seed)
    given = rng.choice([0, 1, 3, 4, 6], 70).tolist()
    before = make_data(given, rng.integers(0, 7, 70).tolist(), num_classes=7)
    data = cut_off(before, 0.4, seed)
    write_labels(tmp_path / "labels.csv", data.split.train, data.labels, "train")
    write_validation(tmp_path / FILE, data.validation)
    stored = (tmp_path / "labels.csv", before.split.train, "train", before.class_names)
    assert stored_labels(*stored).tolist() == given
    for images in (before.split.train[1:], (*before.split.train, Sample("train/new.jpg", 0, 0))):
        with pytest.raises(DataError, match="files were added, removed or renamed"):
            stored_labels(stored[0], images, "train", before.class_names)
    with pytest.raises(DataError, match="do not name"):
        stored_labels(*stored[:3], before.class_names[:-1])


def test_every_image_is_trained_on_or_validated_never_both(finished, tiny_market):
    folder, screen = finished
    trained, held = ([row["path"] for row in rows] for rows in files(folder))
    assert not set(trained) & set(held)
    assert sorted(trained + held) == sorted(p.name for p in (tiny_market / "bounding_box_train").iterdir())
    assert [sample.path.split("/")[-1] for sample in screen.data.split.train] == trained
    assert len(np.load(folder / "records" / "epoch_000.npz")["prediction"][0]) == len(trained) == 33
    result = json.loads((folder / "result.json").read_text())
    assert (result["num_train_images"], result["num_train_identities"]) == (33, 6)


def test_the_noise_is_that_of_a_run_without_validation(finished, tiny_market, tmp_path):
    """The cut comes after it: given labels are the same, right and wrong ones on both sides."""
    whole, _ = train(tiny_market, tmp_path, "plain", epochs=1, switch="1")
    result = json.loads((finished[0] / "result.json").read_text())
    expected = {row["path"]: str(1 + int(row["label"])) for row in csv.DictReader((whole / "labels.csv").open())}
    labels, held = files(finished[0])
    found = {row["path"]: result["class_names"][int(row["label"])] for row in labels}
    found |= {row["path"]: row["identity"] for row in held}
    assert found == expected
    assert any(int(row["path"][:4]) != int(row["identity"]) for row in held)


def test_true_labels_of_identities_cut_off_are_empty_and_left_out_of_the_log(finished):
    folder, screen = finished
    labels, held = files(folder)
    cut = {row["identity"] for row in held}
    lost = [str(int(row["path"][:4])) in cut for row in labels]
    assert any(lost) and not all(lost)
    assert [row["true_label"] == "" for row in labels] == lost
    wrong = [row["label"] != row["true_label"] for row in labels]
    assert json.loads((folder / "result.json").read_text())["wrong_labels"] == pytest.approx(np.mean(wrong))
    for line in metrics(folder):
        predicted = np.load(folder / "records" / f"epoch_{line['epoch']:03d}.npz")["prediction"]
        for net, share in zip(predicted, line["true_agreement"]):
            right = [
                int(p) == int(row["true_label"]) for p, row in zip(net, labels) if p >= 0 and row["true_label"] != ""
            ]
            assert share == pytest.approx(np.mean(right))


def test_noise_seed_makes_the_cut_and_seed_does_not(finished, tiny_market, tmp_path):
    asked = {"epochs": 1, "switch": "1", "method": "baseline", "val_ids": 0.25}
    same, _ = train(tiny_market, tmp_path, "seed", seed=5, **asked)
    other, _ = train(tiny_market, tmp_path, "noise", noise_seed=2, **asked)
    assert files(same) == files(finished[0])
    assert {row["identity"] for row in files(other)[1]} != {row["identity"] for row in files(same)[1]}


# The epoch that is reported


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


# Going on


@pytest.mark.parametrize(("epoch", "step"), [(0, 2), (2, 4), (4, 1)])
def test_interrupted_and_resumed_is_uninterrupted(epoch, step, finished, tiny_market, tmp_path):
    stop = StopRequest()
    screen = SilentScreen(lambda e, s: setattr(stop, "requested", 15 if (e, s) == (epoch, step) else None))
    with pytest.raises(Interrupted):
        train(tiny_market, tmp_path, "cut", screen=screen, stop=stop, **ASKED)
    folder, screen = train(tiny_market, tmp_path, "cut", resume=True, **ASKED)
    assert screen.first_epoch == epoch  # it did go on, not start anew
    assert_same_run(folder, finished[0])


def test_patterned_labels_and_their_cut_come_from_the_run_when_it_goes_on(tiny_market, tmp_path):
    """With the network gone that made them; all labels are wrong, so that many identities may be empty."""
    train(tiny_market, tmp_path, "clean", method="baseline", noise_ratio=0.0, epochs=1, switch="1")
    asked = {"noise": "patterned", "epochs": 2, "switch": "1", "noise_ratio": 0.6, "val_ids": 0.25, "eval_every": 1}
    asked["pattern_from"] = str(tmp_path / "clean")
    whole, first = train(tiny_market, tmp_path, "whole", **asked)
    stop = StopRequest()
    screen = SilentScreen(lambda e, s: setattr(stop, "requested", 2 if e == 1 else None))
    with pytest.raises(Interrupted):
        train(tiny_market, tmp_path, "cut", screen=screen, stop=stop, **asked)
    shutil.rmtree(tmp_path / "clean")
    again, second = train(tiny_market, tmp_path, "cut", resume=True, **asked)
    assert second.data.validation == first.data.validation and second.data.labels.kind == "patterned"
    np.testing.assert_array_equal(second.data.labels.true, first.data.labels.true)
    assert_same_run(again, whole)


def test_the_baseline_of_patterned_noise_knows_every_identity(tiny_market, tmp_path):
    """The noise comes before the cut, so the network that makes it has nothing cut off."""
    folder, _ = train(tiny_market, tmp_path, "p", noise="patterned", epochs=1, switch="1", val_ids=0.25)
    pattern, own = (json.loads((f / "result.json").read_text()) for f in (tmp_path / "p-pattern", folder))
    assert (pattern["num_train_identities"], own["num_train_identities"]) == (8, 6)
    assert (pattern["chosen_by"], own["chosen_by"]) == ("last epoch", "validation")


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


# The command line

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
