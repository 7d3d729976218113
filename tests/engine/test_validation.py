"""Validation identities: who is cut off, that no true label and no query takes part in it, and that a run goes on with them."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from training_help import SilentScreen, metrics, train
from validation_help import ASKED, assert_same_run, files

from reid_core.data._labels import write_labels
from reid_core.engine.signals import StopRequest
from reid_core.engine.training_data import TrainingData
from reid_core.engine.validation import FILE, cut_off, stored_labels, write_validation
from reid_core.errors import DataError, Interrupted, UsageError
from reid_core.types import NoisyLabels, Sample, Split


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
