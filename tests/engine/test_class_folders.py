"""Training and measuring on class folders: what is classified, held out, written and refused."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from conftest import write_tiny_classes
from scipy.special import softmax
from training_help import SilentScreen, metrics, train, weights

from reid_core.cli._main import run
from reid_core.data import image_folder
from reid_core.data._dataset import EvalImages
from reid_core.data._long_tail import keep_long_tail
from reid_core.data._transforms import eval_transform
from reid_core.engine.classify import classify, labels_of_test, trained_counts
from reid_core.engine.evaluate import EvaluationOptions
from reid_core.engine.held_out import hold_out_images
from reid_core.engine.signals import StopRequest
from reid_core.engine.training_data import TrainingData
from reid_core.engine.validation import FILE, best_epoch, stored_labels, write_validation
from reid_core.errors import DataError, Interrupted, UsageError
from reid_core.metrics import classification_metrics
from reid_core.noise import symmetric
from reid_core.report.class_figures import accuracy_figure, confusion_figure, confusion_matrix, recall_figure
from reid_core.report.run_report import finish_run
from reid_core.types import NetOutput, NoisyLabels, Sample, Split

CLASSES = {
    "dataset": "image_folder",
    "image_size": (16, 16),
    "augment": "none",
    "method": "baseline",
    "noise": "symmetric",
    "noise_ratio": 0.2,
    "epochs": 3,
    "switch": "auto",
}
NAMES = ("ant", "bee", "cat", "dog", "elk")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Five classes of 12 training and 3 test images."""
    return write_tiny_classes(tmp_path_factory.mktemp("classes") / "data")


@pytest.fixture(scope="module")
def finished(folders, tmp_path_factory):
    """An uninterrupted run of two networks with everything switched on: (folder, screen)."""
    more = {"method": "core", "switch": "2", "imbalance": "exp", "imbalance_factor": 0.5, "val_images": 0.2}
    return train(folders, tmp_path_factory.mktemp("runs"), **{**CLASSES, **more, "eval_every": 1}, finish=finish_run)


def rows_of(file):
    return list(csv.DictReader(file.open()))


# Measuring


class Linear(torch.nn.Module):
    """Pixels times fixed numbers."""

    def __init__(self, seed, classes=5):
        super().__init__()
        self.classify = torch.randn(3 * 64, classes, generator=torch.Generator().manual_seed(seed))

    def forward(self, images):
        return NetOutput(images.flatten(1) @ self.classify, images.flatten(1)[:, :4])


@pytest.mark.parametrize("flip", [False, True])
def test_each_network_and_the_mean_of_their_probabilities(flip, folders):
    split = image_folder.read(folders)
    networks = [Linear(1).eval(), Linear(2).eval()]
    options = EvaluationOptions((8, 8), flip=flip, batch_size=4)
    counts = np.array([200, 200, 50, 5, 5])
    found = classify(networks, split, NAMES, options, torch.device("cpu"), train_counts=counts)
    truth = [NAMES.index(sample.path.split("/")[1]) for sample in split.test]
    images = [image.numpy() for _, image in EvalImages(split.root, split.test, eval_transform((8, 8)))]
    logits = []
    for network in networks:
        rows = np.array([image.reshape(-1) @ network.classify.numpy() for image in images])
        mirrored = np.array([image[:, :, ::-1].reshape(-1) @ network.classify.numpy() for image in images])
        logits.append((rows + mirrored) / 2 if flip else rows)
    together = sum(softmax(rows.astype(float), axis=1) for rows in logits)
    for result, scores in zip((*found.networks, found.ensemble), (*logits, together)):
        expected = classification_metrics(scores, truth, counts)
        np.testing.assert_array_equal(result.confusion, expected.confusion)
        assert (result.accuracy5, result.many, result.few) == (expected.accuracy5, expected.many, expected.few)
    body = found.to_json()
    assert body["accuracy"] == body["networks"][0]["accuracy"] and len(body["networks"]) == 2
    assert body["ensemble"]["confusion"] == found.ensemble.to_json()["confusion"]
    assert classify(networks[:1], split, NAMES, options, torch.device("cpu")).to_json()["ensemble"] is None


def test_classes_are_found_by_name(folders):
    split = image_folder.read(folders)
    other = NAMES[::-1]
    assert [other[c] for c in labels_of_test(split, other)] == [s.path.split("/")[1] for s in split.test]
    with pytest.raises(DataError, match="1 of 5 test classes were not trained on: 'elk'"):
        labels_of_test(split, NAMES[:4])


def test_counts_by_true_label_where_it_is_known(tmp_path):
    (tmp_path / "labels.csv").write_text("path,label,true_label\na,0,1\nb,1,1\nc,1,\n")
    assert trained_counts(tmp_path / "labels.csv", 3).tolist() == [0, 3, 0]
    (tmp_path / "labels.csv").write_text("path,label\na,0\nb,1\n")
    assert trained_counts(tmp_path / "labels.csv", 2).tolist() == [1, 1]
    assert trained_counts(tmp_path / "labels.csv", 1) is None and trained_counts(tmp_path / "none.csv", 2) is None
    labels = NoisyLabels(np.array([0, 0, 1]), np.array([1, -1, 1]), "x", 0.1, 1)
    data = TrainingData(Split("x", tmp_path, "", ()), labels, ("a", "b"))
    assert data.train_counts.tolist() == [0, 2]


# Holding out


def held_of(given, share, seed=1, true=None):
    train = tuple(Sample(f"train/{i:03d}.jpg", 0, -1) for i in range(len(given)))
    labels = NoisyLabels(np.array(given), None if true is None else np.array(true), "x", 0.1, 1)
    names = tuple("abcdef"[: max(given) + 1])
    before = TrainingData(Split("x", None, "train", train, class_names=names), labels, names)
    return before, hold_out_images(before, share, seed)


def test_the_same_share_of_every_given_class_is_held_out():
    given = np.random.default_rng(0).permutation([0] * 25 + [1] * 10 + [2] * 2 + [3] * 1).tolist()
    before, after = held_of(given, 0.1, true=given[::-1])
    held = {sample.path: sample.pid for sample in after.validation.split.test}
    assert sorted(held.values()) == [0, 0, 0, 1, 2]  # 2.5 goes up; of two one; a single image stays
    place = {sample.path: i for i, sample in enumerate(before.split.train)}
    assert all(given[place[path]] == label for path, label in held.items())
    left = [sample for sample in before.split.train if sample.path not in held]
    assert list(after.split.train) == left and after.class_names == before.class_names
    assert after.labels.given.tolist() == [given[place[s.path]] for s in left]
    assert after.labels.true.tolist() == [given[::-1][place[s.path]] for s in left]
    assert after.validation.split.train == () and after.validation.split.class_names == before.class_names


def test_true_labels_play_no_part_and_the_seed_does():
    given = np.random.default_rng(0).integers(0, 4, 60).tolist()
    held = [held_of(given, 0.25, true=true)[1].validation.split.test for true in (None, given, given[::-1])]
    assert held[0] == held[1] == held[2] != held_of(given, 0.25, seed=2)[1].validation.split.test
    before, after = held_of(given, 0.0)
    assert after is before


def test_single_images_cannot_be_held_out():
    with pytest.raises(UsageError, match="no class has two images"):
        held_of([0, 1, 2], 0.5)


def test_stored_labels_are_those_before_the_images_were_held_out(tmp_path):
    given = np.random.default_rng(0).integers(0, 4, 40).tolist()
    before, after = held_of(given, 0.25)
    text = [f"{s.path.removeprefix('train/')},{label}" for s, label in zip(after.split.train, after.labels.given)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *text]) + "\n")
    write_validation(tmp_path / FILE, after.validation)
    assert {row["part"] for row in rows_of(tmp_path / FILE)} == {"test"}
    found = stored_labels(tmp_path / "labels.csv", before.split.train, "train", before.class_names)
    assert found.tolist() == given


def test_balanced_accuracy_chooses():
    lines = [
        {"epoch": e, "validation": {"networks": [{"accuracy": a, "balanced_accuracy": b}]}}
        for e, (a, b) in enumerate([(0.9, 0.1), (0.2, 0.5), (0.1, 0.5), (0.8, 0.3)])
    ]
    assert best_epoch(lines) == 1


# Whole runs


def test_what_a_run_writes(finished):
    folder, screen = finished
    result = json.loads((folder / "result.json").read_text())
    assert result["class_names"] == list(NAMES) and result["num_test_images"] == 15 and len(result["networks"]) == 2
    assert 0 <= result["accuracy"] <= 1 and result["accuracy5"] == 1.0 and "mAP" not in result
    assert result["ensemble"]["num_test_images"] == 15 and result["chosen_by"] == "validation"
    assert (result["imbalance"], result["imbalance_factor"], result["noise"]) == ("exp", 0.5, "symmetric")
    assert set(result["validation"]["networks"][0]) == {"accuracy", "balanced_accuracy", "lowest_recall"}
    for name in ("confusion.png", "recall.png", "accuracy.png", "loss.png", "suspected_labels.csv"):
        assert (folder / name).stat().st_size > 0
    assert not (folder / "cmc.png").exists()
    classes = rows_of(folder / "classes.csv")
    assert [row["class"] for row in classes] == list(NAMES)
    assert [float(row["recall both"]) for row in classes] == pytest.approx(result["ensemble"]["recall"], abs=1e-4)
    assert sum(int(row["train_images"]) for row in classes) == result["num_train_images"]
    assert all("evaluation" in line and "validation" in line for line in screen.lines)


def test_labels_and_rows_of_a_run_are_those_that_were_asked_for(finished, folders):
    """The long tail first, by true class; then the noise on what is left; then the images held out, by given label."""
    folder, _ = finished
    train_images = image_folder.read(folders).train
    true = np.array([sample.pid for sample in train_images])
    kept = keep_long_tail(true, "exp", 0.5, 1)
    given = symmetric.corrupt(true[kept], 0.2, 1, num_classes=5).given
    expected = {train_images[i].path.removeprefix("train/"): (int(g), int(true[i])) for i, g in zip(kept, given)}
    assert np.bincount(true[kept]).tolist() == [12, 10, 8, 7, 6]
    rows, held = rows_of(folder / "labels.csv"), rows_of(folder / "validation.csv")
    assert {row["path"] for row in rows} | {row["path"] for row in held} == set(expected)
    assert not {row["path"] for row in rows} & {row["path"] for row in held} and len(held) >= 5
    for row in rows:
        assert (int(row["label"]), int(row["true_label"])) == expected[row["path"]]
        assert (row["class"], row["true_class"]) == tuple(NAMES[c] for c in expected[row["path"]])
    assert all(NAMES[expected[row["path"]][0]] == row["identity"] for row in held)


def test_a_stopped_run_goes_on_to_the_same_bits(finished, folders, tmp_path):
    stop = StopRequest()

    def at_step(epoch, step):
        if (epoch, step) == (1, 2):
            stop.requested = 2

    more = {"method": "core", "switch": "2", "imbalance": "exp", "imbalance_factor": 0.5, "val_images": 0.2}
    settings = {**CLASSES, **more, "eval_every": 1}
    with pytest.raises(Interrupted):
        train(folders, tmp_path, stop=stop, screen=SilentScreen(at_step), **settings)
    folder, _ = train(folders, tmp_path, resume=True, **settings)
    assert metrics(folder) == metrics(finished[0])
    mine, theirs = weights(folder), weights(finished[0])
    assert mine.keys() == theirs.keys()
    for key in mine:
        np.testing.assert_array_equal(mine[key], theirs[key], err_msg=key)


def test_it_learns(folders, tmp_path):
    settings = {**CLASSES, "noise_ratio": 0.0, "epochs": 8}
    folder, screen = train(folders, tmp_path, **settings)
    result = json.loads((folder / "result.json").read_text())
    assert result["balanced_accuracy"] > 0.5 and result["chosen_by"] == "last epoch"  # 0.2 is chance
    assert screen.data.labels.kind == "none" and len(screen.data.split.train) == 60


def test_evaluate_gives_the_figures_of_the_run(finished, folders, capsys):
    folder, _ = finished
    words = ["evaluate", str(folder), "--checkpoint", "best", "--workers", "0", "--device", "cpu"]
    assert run([*words, "--json"]) == 0
    body, result = json.loads(capsys.readouterr().out), json.loads((folder / "result.json").read_text())
    for key in ("accuracy", "recall", "confusion", "many", "medium", "few", "ensemble"):
        assert body[key] == result[key], key
    assert run(words) == 0
    shown = capsys.readouterr().out
    assert "balanced" in shown and "15 test images of 5 classes" in shown and "mAP" not in shown
    for flag in ("--rerank", "--roc"):
        assert run([*words, flag]) == 2
        assert "is for ranking" in capsys.readouterr().err


def test_evaluate_reads_the_folders_of_the_run(tmp_path, capsys):
    data = write_tiny_classes(tmp_path / "data", folder="val_split")
    (data / "train").rename(data / "train_split")
    write_tiny_classes(data, test=0, folder="train")  # a train as well, from which both may have been copied
    folder, _ = train(data, tmp_path, **{**CLASSES, "epochs": 1, "train_split": "train_split"})
    assert run(["evaluate", str(folder), "--workers", "0", "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_test_images"] == 15


def test_other_folders_are_measured_by_name(finished, tmp_path, capsys):
    other = write_tiny_classes(tmp_path / "other", counts=(1, 1), test=2, names=("dog", "bee"), folder="val")
    words = ["evaluate", str(finished[0]), "--workers", "0", "--device", "cpu"]
    assert run([*words[:2], str(other), *words[2:], "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["absent_classes"] == [0, 2, 4] and body["num_test_images"] == 4
    strange = write_tiny_classes(tmp_path / "strange", counts=(1, 1), test=2, names=("dog", "yak"))
    assert run([*words[:2], str(strange), *words[2:]]) == 3
    assert "'yak'" in capsys.readouterr().err
    bare = write_tiny_classes(tmp_path / "bare", counts=(1, 1), test=0, names=("dog", "bee"), folder="train")
    assert run([*words[:2], str(bare), *words[2:]]) == 3
    assert "no test or val folder" in capsys.readouterr().err


def test_a_class_with_one_image_is_named_and_trained_on(tmp_path):
    data = write_tiny_classes(tmp_path / "data", counts=(8, 8, 1))
    _, screen = train(data, tmp_path, **{**CLASSES, "noise_ratio": 0.0, "epochs": 1})
    assert any("1 classes have a single training image" in note and "'cat'" in note for note in screen.notes)
    assert len(screen.data.split.train) == 17


def test_without_test_images_the_run_trains_and_says_so(tmp_path):
    data = write_tiny_classes(tmp_path / "data", folder="train", test=0)
    folder, screen = train(data, tmp_path, **{**CLASSES, "epochs": 1}, finish=finish_run)
    assert any("there is no test image" in note for note in screen.notes)
    assert "accuracy" not in json.loads((folder / "result.json").read_text())


def test_label_files_of_class_folders(folders, tmp_path):
    names = [sample.path.removeprefix("train/") for sample in image_folder.read(folders).train]
    for number, labels in enumerate(
        (
            [str(NAMES.index(name.split("/")[0])) for name in names],
            [name.split("/")[0] for name in names],
        )
    ):
        file = tmp_path / f"{number}.csv"
        file.write_text("\n".join(["path,label", *(f"{n},{label}" for n, label in zip(names, labels))]) + "\n")
        settings = {**CLASSES, "noise_ratio": 0.0, "epochs": 1, "labels": str(file)}
        folder, screen = train(folders, tmp_path, f"run{number}", **settings)
        assert screen.data.class_names == NAMES
        assert json.loads((folder / "result.json").read_text())["num_test_images"] == 15
    file.write_text("\n".join(["path,label", *(f"{n},{n.upper()[:1]}" for n in names)]) + "\n")
    with pytest.raises(DataError, match="were not trained on: 'ant'"):
        train(folders, tmp_path, "run9", **settings)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"val_ids": 0.2}, "use --val_images"),
        ({"protocol": "market1501"}, "--protocol has no meaning"),
        ({"imbalance": "exp"}, "belong together"),
        ({"imbalance_factor": 0.1}, "belong together"),
        ({"imbalance": "exp", "imbalance_factor": 0.0}, r"must lie in \(0, 1\], got 0.0"),
        ({"imbalance": "step", "imbalance_factor": 1.5}, r"must lie in \(0, 1\], got 1.5"),
        ({"imbalance": "exp", "imbalance_factor": 0.1, "labels": "x.csv"}, "--imbalance and --labels exclude"),
        ({"val_images": 1.0}, r"--val_images must be in \[0, 1\)"),
        ({"asymmetric_pairs": ("ant=bee",)}, "belongs to --noise asymmetric"),
        ({"asymmetric_pairs": ("ant=bea",), "noise": "asymmetric"}, "Did you mean 'bee'"),
    ],
)
def test_what_is_refused_before_anything_is_done(more, message, folders, tmp_path):
    with pytest.raises(UsageError, match=message):
        train(folders, tmp_path, **{**CLASSES, **more})
    assert not list(tmp_path.iterdir())


def test_held_out_images_are_for_classes_and_long_tails_for_all(tiny_market, tmp_path):
    with pytest.raises(UsageError, match="--val_images is for class folders"):
        train(tiny_market, tmp_path, val_images=0.1)
    settings = {"imbalance": "step", "imbalance_factor": 0.5, "noise": "asymmetric", "noise_ratio": 0.5, "epochs": 2}
    folder, screen = train(
        tiny_market, tmp_path, asymmetric_pairs=("1=8",), method="baseline", switch="auto", **settings
    )
    assert np.bincount(screen.data.labels.true).tolist() == [6, 6, 6, 6, 3, 3, 3, 3]
    wrong = ~screen.data.labels.clean
    assert set(screen.data.labels.true[wrong]) <= {0} and set(screen.data.labels.given[wrong]) <= {7}
    assert "mAP" in json.loads((folder / "result.json").read_text())
    assert "class" not in rows_of(folder / "labels.csv")[0]


def test_figures_of_many_classes_have_no_names():
    for classes, named in ((30, True), (31, False)):
        names = [f"class ${c}" for c in range(classes)]
        scores = np.random.default_rng(0).normal(size=(200, classes))
        figures = classification_metrics(scores, np.arange(200) % classes).to_json()
        body = {"networks": [figures], "ensemble": None}
        for figure in (confusion_figure(figures, names), recall_figure(body, names)):
            axes = figure.axes[0]
            assert any("class" in label.get_text() for label in axes.get_xticklabels()) == named
            figure.savefig(io.BytesIO(), format="png")


def test_figures_show_the_figures(finished):
    result = json.loads((finished[0] / "result.json").read_text())
    matrix = confusion_matrix(result["ensemble"])
    assert matrix.sum(axis=1).tolist() == [3] * 5
    assert [matrix[c, c] / 3 for c in range(5)] == pytest.approx(result["ensemble"]["recall"])
    picture = confusion_figure(result["ensemble"], NAMES).axes[0].images[0].get_array()
    np.testing.assert_allclose(picture, matrix / 3)
    bars = [[bar.get_height() for bar in group] for group in recall_figure(result, NAMES).axes[0].containers]
    assert bars == [net["recall"] for net in (*result["networks"], result["ensemble"])]
    lines = [json.loads(line) for line in (finished[0] / "metrics.jsonl").read_text().splitlines()]
    curves = accuracy_figure([{"epoch": 0}, *lines]).axes[0].get_lines()
    assert len(curves) == 6 and [len(curve.get_ydata()) for curve in curves] == [len(lines)] * 6
    assert list(curves[1].get_ydata()) == [line["evaluation"]["balanced_accuracy"] for line in lines]
    assert list(curves[4].get_ydata()) == [line["evaluation"]["ensemble"]["accuracy"] for line in lines]


@pytest.mark.parametrize("test", [3, 0])
def test_words_in_a_label_file_are_the_folders_even_if_a_class_has_no_image(test, tmp_path):
    """All elks are called ants: without a number for elk, every class's row and the test images would be in doubt."""
    data = write_tiny_classes(tmp_path / "data", counts=(2, 2, 2, 2, 2), test=test)
    if not test:
        for name in NAMES:
            (data / "test" / name).rmdir()
        (data / "test").rmdir()
    paths = [sample.path.removeprefix("train/") for sample in image_folder.read(data).train]
    words = {"elk": "ant", "bee": "dog"}
    rows = [f"{path},{words.get(path.split('/')[0], path.split('/')[0])}" for path in paths]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    settings = {**CLASSES, "epochs": 1, "noise_ratio": 0.0, "labels": str(tmp_path / "labels.csv")}
    folder, screen = train(data, tmp_path, **settings)
    assert screen.data.class_names == NAMES
    assert screen.data.labels.given.tolist() == [0, 0, 3, 3, 2, 2, 3, 3, 0, 0]
    # Words of which one is no folder are classes of their own.
    (tmp_path / "labels.csv").write_text((tmp_path / "labels.csv").read_text().replace(",cat", ",lynx"))
    if test:
        with pytest.raises(DataError, match="3 of 5 test classes were not trained on: 'bee', 'cat', 'elk'"):
            train(data, tmp_path, "other", **settings)
    else:
        _, screen = train(data, tmp_path, "other", **settings)
        assert screen.data.class_names == ("ant", "dog", "lynx")
