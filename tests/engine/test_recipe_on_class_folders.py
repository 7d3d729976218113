"""Class folders trained with the whole recipe: two stages, growing images, averages, held-out images, unlike networks."""

import csv
import json
import warnings

import numpy as np
import pytest
from conftest import write_tiny_classes
from training_help import SilentScreen, metrics, train, weights

from reid_core.cli._main import run
from reid_core.cli._training_screen import TrainingScreen
from reid_core.engine.learner import Learner
from reid_core.engine.signals import StopRequest
from reid_core.errors import Interrupted
from reid_core.report.class_figures import confusion_figure, recall_figure
from reid_core.report.figures import loss_figure, save
from reid_core.report.run_report import finish_run

EVERYTHING = {
    "dataset": "image_folder",
    "method": "peer",
    "arch": ("test_resnet", "test_vit"),
    "neck": "bnneck",
    "stage1_epochs": 1,
    "stage1_lr": 0.01,
    "epochs": 3,
    "switch": "auto",
    "image_size": (32, 32),
    "small_size": (16, 16),
    "small_share": 0.5,
    "augment": "classes",
    "optimizer": "adamw",
    "lr_schedule": "cosine",
    "lr": 0.002,
    "ema": 0.9,
    "accumulate": 2,
    "batchsize": 8,
    "val_images": 0.2,
    "imbalance": "exp",
    "imbalance_factor": 0.5,
    "noise": "symmetric",
    "noise_ratio": 0.2,
    "eval_every": 1,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_tiny_classes(tmp_path_factory.mktemp("classes") / "data")


@pytest.fixture(scope="module")
def everything(folders, tmp_path_factory):
    return train(folders, tmp_path_factory.mktemp("runs"), **EVERYTHING, finish=finish_run)[0]


def test_every_part_has_its_place(everything):
    lines, result = metrics(everything), json.loads((everything / "result.json").read_text())
    assert [line["phase_name"] for line in lines] == ["heads (peer)", "peer", "peer", "peer"]
    assert [line["image_size"] for line in lines] == [[16, 16]] * 3 + [[32, 32]]
    assert all({"evaluation", "validation"} <= line["ema"].keys() for line in lines)
    # Only the last epoch has the last size, so it is reported, whatever the others' figures.
    assert (result["chosen_epoch"], result["chosen_by"]) == (3, "validation")
    for name in ("accuracy", "balanced_accuracy", "recall"):
        assert (
            result[name] == lines[3]["evaluation"][name] and result["ema"][name] == lines[3]["ema"]["evaluation"][name]
        )
    assert (everything / "checkpoints" / "phase_0.safetensors").is_file()
    curves = b"".join(path.read_bytes() for path in (everything / "tensorboard").iterdir())
    assert b"ema_balanced_accuracy/1" in curves and b"validation_balanced_accuracy/1" in curves


@pytest.mark.parametrize(("epoch", "step"), [(0, 2), (1, 2), (2, 4), (3, 1)])
def test_interrupted_and_resumed_is_uninterrupted(epoch, step, everything, folders, tmp_path):
    stop = StopRequest()
    screen = SilentScreen(lambda e, s: setattr(stop, "requested", 15 if (e, s) == (epoch, step) else stop.requested))
    with pytest.raises(Interrupted):
        train(folders, tmp_path, screen=screen, stop=stop, **EVERYTHING)
    again, _ = train(folders, tmp_path, resume=True, **EVERYTHING)
    assert metrics(again) == metrics(everything)
    mine, theirs = weights(again), weights(everything)
    assert mine.keys() == theirs.keys()
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


@pytest.mark.parametrize("words", [(), ("--checkpoint", "phase_0"), ("--checkpoint", "best")])
def test_evaluate_gives_the_figures_of_the_averages(words, everything, capsys):
    """Of each checkpoint at the size that it was saved at."""
    argv = ["evaluate", str(everything), *words, "--workers", "0", "--device", "cpu", "--json"]
    line = metrics(everything)[0 if "phase_0" in words else 3]
    for ema, wanted in ((["--ema"], line["ema"]["evaluation"]), ([], line["evaluation"])):
        assert run([*argv, *ema]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [net["confusion"] for net in found["networks"]] == [net["confusion"] for net in wanted["networks"]]
        assert found["ensemble"]["confusion"] == wanted["ensemble"]["confusion"]
        assert found["averaged"] is bool(ema)
    assert run([*argv[:-1], "--ema"]) == 0
    assert capsys.readouterr().out.startswith("averages of the weights\n")


def test_the_table_at_the_end_has_the_averages_too(everything, capsys):
    TrainingScreen.summary(everything, as_json=False)
    rows = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    ema = json.loads((everything / "result.json").read_text())["ema"]
    for name, net in (("network 1, averaged", ema["networks"][1]), ("both, averaged", ema["ensemble"])):
        assert f"{100 * net['accuracy']:.1f}" in rows[name]
    assert {"network 0", "network 1", "both", "network 0, averaged"} <= rows.keys()


@pytest.mark.parametrize("cut", [None, (1, 2)])
def test_batches_in_which_a_network_had_no_loss_are_counted_and_shown(cut, folders, tmp_path, capsys):
    """One class by the labels: both networks soon say it of every image, and a drop rate of 1 refuses all they agree on."""
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label"))
        names = sorted(path.relative_to(folders / "train").as_posix() for path in (folders / "train").rglob("*.png"))
        rows.writerows((name, 1 if i == 0 else 0) for i, name in enumerate(names))
    settings = {"dataset": "image_folder", "method": "peer", "drop_rate": "1", "drop_ramp": 0, "epochs": 2, "lr": 0.01}
    settings |= {"labels": str(tmp_path / "labels.csv"), "image_size": (16, 16), "augment": "none", "switch": "auto"}
    stop, screen = StopRequest(), TrainingScreen()
    if cut is not None:
        halting = SilentScreen(lambda e, s: setattr(stop, "requested", 15 if (e, s) == cut else stop.requested))
        with pytest.raises(Interrupted):
            train(folders, tmp_path, screen=halting, stop=stop, **settings)
    folder, _ = train(folders, tmp_path, screen=screen, resume=cut is not None, **settings)
    lines = metrics(folder)
    assert lines[0]["without_loss"] == [0, 0]
    agreed = np.load(folder / "records" / "epoch_001.npz")["agreement"]
    assert lines[1]["without_loss"] == [8, 8] and agreed.all()
    assert "network 1 had nothing to learn from in 8 batches of epoch 2" in capsys.readouterr().err


@pytest.mark.parametrize("cut", [None, (0, 4)])
def test_updates_that_overflowed_are_counted_and_shown(cut, folders, tmp_path, capsys, monkeypatch):
    """No processor scales gradients: network 1's scaler says here that its first two of eight did."""
    update, asked = Learner.update, []

    def overflowing(self, where):
        made = update(self, where)
        asked.append(where)
        return "overflow" if asked.count(where) == 2 and len(asked) <= 4 else made

    monkeypatch.setattr(Learner, "update", overflowing)
    settings = {"dataset": "image_folder", "method": "peer", "epochs": 2, "image_size": (16, 16), "augment": "none"}
    settings |= {"switch": "auto", "lr": 0.01}
    stop = StopRequest()
    if cut is not None:
        halting = SilentScreen(lambda e, s: setattr(stop, "requested", 15 if (e, s) == cut else stop.requested))
        with pytest.raises(Interrupted):
            train(folders, tmp_path, screen=halting, stop=stop, **settings)
    folder, _ = train(folders, tmp_path, screen=TrainingScreen(), resume=cut is not None, **settings)
    assert [line["overflows"] for line in metrics(folder)] == [[0, 2], [0, 0]]
    assert "network 1 skipped 2 updates of epoch 1: a gradient overflowed in float16" in capsys.readouterr().err


def test_a_phases_name_in_the_figure_of_losses_takes_no_room():
    """Losses that hardly fall: the name once lay far below them, and the layout gave up, with a warning."""
    common = {"losses": [1.37], "given_agreement": [0.3], "agreement": 1.0}
    lines = [{"epoch": e, **common} for e in range(3)]
    lines[0]["next_phase"], lines[1]["losses"], lines[2]["losses"] = "baseline", [1.377], [1.364]
    figure = loss_figure(lines)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.draw_without_rendering()
    assert figure.axes[0].get_position().width > 0.3


@pytest.mark.parametrize("name", ["\u732b", "b\udcff", "a\nb", "$x_{", "%s{0}"])
def test_any_name_of_a_class_can_stand_in_a_figure(name, tmp_path):
    """A folder's name need not be UTF-8, nor in the font's alphabet: no error and no warning."""
    body = {"networks": [{"recall": [1.0, 0.0], "confusion": [[0, 0, 1], [1, 0, 1]]}]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(confusion_figure(body["networks"][0], [name, "b"]), tmp_path / "confusion.png")
        save(recall_figure(body, [name, "b"]), tmp_path / "recall.png")
    assert (tmp_path / "confusion.png").stat().st_size > 0
