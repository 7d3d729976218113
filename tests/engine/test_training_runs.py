"""Whole runs on a tiny data set: learning, repeating, resuming, and what the run folder holds."""

import csv
import json
import shutil

import numpy as np
import pytest
from conftest import write_tiny_market
from training_help import SilentScreen, metrics, train, weights

from reid_core.engine.signals import StopRequest
from reid_core.errors import CheckpointError, DataError, Interrupted, NumericalError, UsageError


@pytest.fixture(scope="module")
def finished(tiny_market, tmp_path_factory):
    """One uninterrupted CORE run: (folder, screen)."""
    return train(tiny_market, tmp_path_factory.mktemp("runs"), "whole", eval_every=2)


def test_learns_better_than_chance(finished):
    result = json.loads((finished[0] / "result.json").read_text())
    lines = metrics(finished[0])
    assert lines[-1]["true_agreement"][0] > 0.25  # twice what chance gives: one in eight
    assert result["mAP"] > 0.5
    assert lines[1]["losses"][0] < lines[0]["losses"][0]


def test_run_folder_holds_what_is_promised(finished, tiny_market):
    folder, _ = finished
    result = json.loads((folder / "result.json").read_text())
    for key in ("mAP", "mAP_trapezoid", "mINP", "rank1", "rank5", "rank10", "cmc", "num_valid_queries", "protocol"):
        assert result[key] == result["networks"][0][key]
    assert result["method"] == "core" and result["seed"] == 1 and result["seconds"] > 0
    assert len(result["networks"]) == 2 and 0 <= result["ensemble"]["mAP"] <= 1
    assert result["num_train_images"] == 48 and result["num_train_identities"] == 8
    assert result["wrong_labels"] == pytest.approx(16 / 48)  # rint(6 x 0.25) = 2 of 6 in each identity
    rows = list(csv.DictReader((folder / "labels.csv").open()))
    assert len(rows) == 48
    assert sum(row["label"] != row["true_label"] for row in rows) == 16
    assert len(list((folder / "records").glob("epoch_*.npz"))) == 4
    assert {p.name for p in (folder / "checkpoints").iterdir()} == {
        "last.safetensors", "previous.safetensors", "phase_0.safetensors", "phase_1.safetensors", "index.json"
    }  # fmt: skip
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    assert json.loads((folder / "status.json").read_text())["state"] == "done"
    config = json.loads((folder / "config.json").read_text())
    assert config["config"]["arch"] == ["test_resnet"] * 2 and config["command"] == ["test"]


def test_true_labels_never_reach_the_loader(finished):
    """The labels of the records are the given ones: the loss with the given label of each row proves which was used."""
    _, screen = finished
    labels = screen.data.labels
    assert (labels.given != labels.true).any()
    from reid_core.data._dataset import TrainImages

    dataset = TrainImages(screen.data.split.root, screen.data.split.train, labels.given, lambda image: image, 1)
    assert [dataset[(0, i)][1] for i in range(48)] == labels.given.tolist()


def test_same_seed_same_metrics_to_the_last_digit(finished, tiny_market, tmp_path):
    again, _ = train(tiny_market, tmp_path, "again", eval_every=2)
    assert metrics(again) == metrics(finished[0])
    for name, array in weights(finished[0]).items():
        np.testing.assert_array_equal(weights(again)[name], array, err_msg=name)


def test_seed_changes_the_networks_and_noise_seed_the_noise(finished, tiny_market, tmp_path):
    labels = (finished[0] / "labels.csv").read_text()
    other_seed, _ = train(tiny_market, tmp_path, "seed", seed=2, epochs=1, switch="1")
    other_noise, _ = train(tiny_market, tmp_path, "noise", noise_seed=2, epochs=1, switch="1")
    assert (other_seed / "labels.csv").read_text() == labels
    assert metrics(other_seed)[0]["losses"] != metrics(finished[0])[0]["losses"]
    assert (other_noise / "labels.csv").read_text() != labels


@pytest.mark.parametrize("workers", [1, 4])
def test_any_number_of_workers_gives_the_same_run(workers, finished, tiny_market, tmp_path):
    again, _ = train(tiny_market, tmp_path, "workers", workers=workers, epochs=4)
    for a, b in zip(metrics(again), metrics(finished[0])):
        assert {k: v for k, v in a.items() if k != "evaluation"} == {k: v for k, v in b.items() if k != "evaluation"}


def test_the_two_networks_start_differently(finished):
    tensors = weights(finished[0])
    assert (tensors["net0.neck.linear.weight"] != tensors["net1.neck.linear.weight"]).any()


@pytest.mark.parametrize(("epoch", "step"), [(0, 1), (0, 3), (1, 6), (2, 2), (3, 5)])
@pytest.mark.parametrize("workers", [0, 2])
def test_interrupted_and_resumed_is_uninterrupted(epoch, step, workers, finished, tiny_market, tmp_path):
    stop = StopRequest()

    def at_step(e, s):
        if (e, s) == (epoch, step):
            stop.requested = 15

    with pytest.raises(Interrupted) as caught:
        train(tiny_market, tmp_path, "cut", screen=SilentScreen(at_step), stop=stop, eval_every=2, workers=workers)
    assert caught.value.exit_code == 143
    assert f"reid-core train --resume {tmp_path / 'cut'}" in str(caught.value)
    status = json.loads((tmp_path / "cut" / "status.json").read_text())
    assert status["state"] == "interrupted"
    again, screen = train(tiny_market, tmp_path, "cut", resume=True, eval_every=2, workers=workers)
    assert screen.steps[0] == ((epoch, step + 1) if step < 6 else (epoch + 1, 1))
    assert metrics(again) == metrics(finished[0])
    mine, theirs = weights(again), weights(finished[0])
    assert mine.keys() == theirs.keys()
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


def test_first_epoch_of_core_lets_confidence_survive_a_resume(finished):
    lines = metrics(finished[0])
    assert lines[0]["method"]["confidence"] == [0.0, 0.0]
    assert lines[1]["method"]["confidence"][0] == pytest.approx(1 / (1 + lines[0]["given_loss"][0]))


def test_an_existing_run_is_never_overwritten(finished, tiny_market):
    before = (finished[0] / "result.json").read_bytes()
    with pytest.raises(UsageError, match="whole"):
        train(tiny_market, finished[0].parent, "whole")
    assert (finished[0] / "result.json").read_bytes() == before


def test_a_rate_that_breaks_the_loss_stops_at_that_step(tiny_market, tmp_path):
    screen = SilentScreen()
    with pytest.raises(NumericalError, match=r"network \d is (nan|inf).* epoch \d+, step \d+ .*--lr"):
        train(tiny_market, tmp_path, "nan", lr=1e30, screen=screen)
    assert json.loads((tmp_path / "nan" / "status.json").read_text())["state"] == "failed"


def test_broken_weights_never_replace_good_ones(tiny_market, tmp_path):
    """The last update of epoch 1 breaks network 1 and no loss has shown it yet: last stays the end of epoch 0."""
    from reid_core.engine.checkpoint import CheckpointFolder
    from reid_core.engine.trainer import Trainer

    def at_step(epoch, step):
        if (epoch, step) == (1, 6):
            screen.trainer.networks[1].neck.classifier.weight.data[0, 0] = np.inf

    screen = SilentScreen(at_step)
    with pytest.MonkeyPatch.context() as patch:
        fit = Trainer.fit
        patch.setattr(Trainer, "fit", lambda self: (setattr(screen, "trainer", self), fit(self)))
        with pytest.raises(NumericalError, match=r"neck\.classifier\.weight of network 1 .* epoch 2.*--lr"):
            train(tiny_market, tmp_path, "inf", screen=screen)
    saved = CheckpointFolder(tmp_path / "inf" / "checkpoints").load("last")
    assert saved.meta["epoch"] == 1
    assert all(np.isfinite(a).all() for name, a in saved.tensors.items() if name.startswith("net"))


def test_resume_with_other_data_or_networks_is_explained(finished, tiny_market, tmp_path):
    stop = StopRequest()
    screen = SilentScreen(lambda e, s: setattr(stop, "requested", 2))
    with pytest.raises(Interrupted):
        train(tiny_market, tmp_path, "cut", screen=screen, stop=stop)
    for change, word in (
        ({"arch": "test_byobnet"}, "backbone"),
        ({"noise_seed": 5}, "labels"),
        ({"neck_dim": 16}, "neck"),
    ):
        with pytest.raises(CheckpointError, match=word):
            train(tiny_market, tmp_path, "cut", resume=True, **change)


def test_the_collapsing_phase_starts_where_the_switch_says(finished):
    lines = metrics(finished[0])
    assert [line["phase_name"] for line in lines] == ["self_refine", "self_refine", "core", "core"]
    assert [round(line["lr"][0][0], 6) for line in lines] == [0.05, 0.05, 0.005, 0.005]
    assert lines[1]["next_phase"] == "core"


def test_one_network_methods_and_no_ensemble(tiny_market, tmp_path):
    folder, _ = train(tiny_market, tmp_path, "b", method="baseline", epochs=2, switch="1")
    result = json.loads((folder / "result.json").read_text())
    assert len(result["networks"]) == 1 and result["ensemble"] is None


def test_second_phase_alone_from_a_self_run(finished, tiny_market, tmp_path):
    """From the SELF phase's weights, --stage2 trains the epochs that the whole run gave CORE."""
    folder, screen = train(tiny_market, tmp_path, "stage2", stage2=True, from_self=(str(finished[0]),))
    assert [line["phase_name"] for line in metrics(folder)] == ["core", "core"]
    with pytest.raises(UsageError, match="one phase"):
        train(tiny_market, tmp_path, "x", method="baseline", stage2=True, from_self=(str(finished[0]),))


def test_second_labels_are_those_of_network_0(finished, tiny_market, tmp_path):
    """A run of two networks may make the pattern too; written out again from network 0's logits."""
    import torch

    from reid_core.data._dataset import EvalImages, eval_loader
    from reid_core.data._transforms import eval_transform
    from reid_core.engine.loading import load_networks
    from reid_core.engine.predict import predict

    asked = {"noise": "patterned", "noise_ratio": 1.0, "epochs": 1, "switch": "1", "pattern_from": str(finished[0])}
    _, screen = train(tiny_market, tmp_path, "p", **asked)
    data, expected = screen.data, []
    images = EvalImages(data.split.root, data.split.train, eval_transform((32, 16)))
    networks = load_networks(finished[0] / "checkpoints" / "phase_0.safetensors").networks
    for network in networks:
        logits = predict(network, eval_loader(images, 64, 0), torch.device("cpu"), flip=True).logits
        order = np.argsort(-logits, axis=1)
        expected.append(np.where(order[:, 0] == data.labels.true, order[:, 1], order[:, 0]))
    assert data.labels.given.tolist() == expected[0].tolist() != expected[1].tolist()


def test_dropout_differs_by_network_epoch_and_step(tiny_market, tmp_path, monkeypatch):
    import torch

    from reid_core.models._network import Network

    seeds, forward = [], Network.forward

    def remember(self, images):
        if self.training:
            seeds.append(torch.initial_seed())
        return forward(self, images)

    monkeypatch.setattr(Network, "forward", remember)
    train(tiny_market, tmp_path, "r", epochs=2, switch="1")
    assert len(seeds) == len(set(seeds)) == 2 * 2 * 6  # networks, epochs, steps


@pytest.mark.parametrize(("every", "measured"), [(0, [2]), (1, [0, 1, 2]), (2, [1, 2]), (3, [2])])
def test_measured_every_so_many_epochs_and_at_the_end(every, measured, tiny_market, tmp_path):
    folder, _ = train(tiny_market, tmp_path, "r", method="baseline", epochs=3, switch="1", eval_every=every)
    assert [line["epoch"] for line in metrics(folder) if "evaluation" in line] == measured


def test_queries_that_nothing_can_match_are_refused_before_training(tmp_path):
    data = write_tiny_market(tmp_path / "market")
    for path in (data / "bounding_box_test").glob("010?_c[23]*"):
        path.unlink()  # every query has camera 1: what is left of its identity is dropped by the rule
    screen = SilentScreen()
    with pytest.raises(DataError, match="none of the 4 queries .* from another camera.*any-camera"):
        train(data, tmp_path / "runs", "r", screen=screen)
    assert not screen.steps and not (tmp_path / "runs").exists()
    train(data, tmp_path / "runs", "r", epochs=1, switch="1", protocol="any-camera")


def test_patterned_noise_trains_its_own_baseline_and_keeps_it(tiny_market, tmp_path):
    folder, _ = train(tiny_market, tmp_path, "p", noise="patterned", epochs=2, switch="1")
    assert (tmp_path / "p-pattern" / "result.json").is_file()
    given = (folder / "labels.csv").read_text()
    again, _ = train(tiny_market, tmp_path, "q", noise="patterned", epochs=2, switch="1", pattern_from="p-pattern")
    assert (again / "labels.csv").read_text() == given
    _, screen = train(tiny_market, tmp_path, "r", noise="patterned", epochs=1, switch="1", pattern_from="p")
    assert any("not trained on clean labels" in note for note in screen.notes)


def test_classes_of_an_earlier_run_must_mean_the_same_identities(finished, tmp_path):
    """As many identities, but others: rows of the classifier would be read as somebody else."""
    data = write_tiny_market(tmp_path / "market")
    for path in (data / "bounding_box_train").glob("0008_*"):
        path.rename(path.with_name(path.name.replace("0008_", "0009_")))
    with pytest.raises(CheckpointError, match="names of the identities"):
        train(data, tmp_path, "a", stage2=True, from_self=(str(finished[0]),))
    with pytest.raises(UsageError, match="other identities"):
        train(data, tmp_path, "b", noise="patterned", pattern_from=str(finished[0]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["market"]


def test_patterned_labels_come_from_the_run_when_it_goes_on(tiny_market, tmp_path):
    """The network that made them may be gone, or on another device give other second choices."""
    stop = StopRequest()
    screen = SilentScreen(lambda e, s: setattr(stop, "requested", 2 if screen.walk.epochs == 2 and e == 1 else None))
    train(tiny_market, tmp_path, "clean", method="baseline", noise_ratio=0.0, epochs=1, switch="1")
    asked = {"noise": "patterned", "epochs": 2, "switch": "1", "pattern_from": str(tmp_path / "clean")}
    with pytest.raises(Interrupted):
        train(tiny_market, tmp_path, "p", screen=screen, stop=stop, **asked)
    given = (tmp_path / "p" / "labels.csv").read_text()
    shutil.rmtree(tmp_path / "clean")
    _, screen = train(tiny_market, tmp_path, "p", resume=True, **asked)
    rows = list(csv.DictReader(given.splitlines()))
    assert [int(row["label"]) for row in rows] == screen.data.labels.given.tolist()
    assert screen.data.labels.kind == "patterned" and not screen.data.labels.clean.all()


def test_a_half_trained_network_makes_no_pattern(tiny_market, tmp_path):
    stop = StopRequest()
    screen = SilentScreen(lambda e, s: setattr(stop, "requested", 2 if (e, s) == (1, 2) else None))
    with pytest.raises(Interrupted):
        train(tiny_market, tmp_path, "half", method="baseline", noise_ratio=0.0, screen=screen, stop=stop)
    with pytest.raises(UsageError, match=r"not finished \(interrupted\).*--resume"):
        train(tiny_market, tmp_path, "p", noise="patterned", pattern_from=str(tmp_path / "half"))
    assert not (tmp_path / "p").exists()


def test_labels_of_another_run_keep_the_identities_names(finished, tiny_market, tmp_path):
    labels = str(finished[0] / "labels.csv")
    folder, screen = train(tiny_market, tmp_path, "r", labels=labels, noise_ratio=0.0, epochs=1, switch="1")
    assert screen.data.class_names == finished[1].data.class_names
    np.testing.assert_array_equal(screen.data.labels.given, finished[1].data.labels.given)


def test_a_run_counts_as_done_only_when_its_figures_are_written(tiny_market, tmp_path):
    states = []

    def finish(folder):
        states.append(json.loads((folder / "status.json").read_text())["state"])
        assert (folder / "result.json").is_file()
        if len(states) == 1:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        train(tiny_market, tmp_path, "r", epochs=1, switch="1", finish=finish)
    status = json.loads((tmp_path / "r" / "status.json").read_text())
    assert (status["state"], status["epoch"], status["step"]) == ("failed", 0, 6)
    train(tiny_market, tmp_path, "r", epochs=1, switch="1", finish=finish, resume=True)
    assert states == ["running", "running"]
    assert json.loads((tmp_path / "r" / "status.json").read_text())["state"] == "done"


def test_a_checkpoint_that_cannot_be_written_stops_the_run_unless_told_otherwise(tiny_market, tmp_path, monkeypatch):
    from reid_core.engine.checkpoint import CheckpointFolder

    save, calls = CheckpointFolder.save, []

    def full_once(self, *args, **more):
        calls.append(1)
        if len(calls) == 1:
            raise CheckpointError("last.safetensors could not be written: No space left on device.")
        return save(self, *args, **more)

    monkeypatch.setattr(CheckpointFolder, "save", full_once)
    with pytest.raises(CheckpointError, match="No space"):
        train(tiny_market, tmp_path, "stops")
    calls.clear()
    folder, screen = train(tiny_market, tmp_path, "goes", on_save_error="continue")
    assert any("No space" in note and "goes on" in note for note in screen.notes)
    assert len(metrics(folder)) == 4 and len(calls) > 1 and CheckpointFolder(folder / "checkpoints").load("last")
    # Asked to stop, a run must not claim to be saved.
    calls.clear()
    stop = StopRequest()
    screen = SilentScreen(lambda e, s: setattr(stop, "requested", 2))
    with pytest.raises(CheckpointError, match="No space"):
        train(tiny_market, tmp_path, "asked", on_save_error="continue", screen=screen, stop=stop)


def test_stopped_in_the_baseline_of_patterned_noise_says_how_to_go_on(tiny_market, tmp_path):
    stop = StopRequest()
    screen = SilentScreen(lambda e, s: setattr(stop, "requested", 2))
    with pytest.raises(Interrupted, match="--name p"):
        train(tiny_market, tmp_path, "p", noise="patterned", epochs=2, switch="1", screen=screen, stop=stop)
    train(tiny_market, tmp_path, "p", noise="patterned", epochs=2, switch="1")
    assert json.loads((tmp_path / "p-pattern" / "status.json").read_text())["state"] == "done"


def test_an_automatic_switch_is_the_run_of_the_epoch_it_takes(tiny_market, tmp_path, monkeypatch):
    fixed, _ = train(tiny_market, tmp_path, "fixed", epochs=3, switch="2")
    monkeypatch.setattr("reid_core.methods.core.ready_to_switch", lambda history: False)
    auto, _ = train(tiny_market, tmp_path, "auto", epochs=3, switch="auto")
    assert metrics(auto) == metrics(fixed)
    assert json.loads((auto / "result.json").read_text())["switch"] == 2
    for name, array in weights(fixed).items():
        np.testing.assert_array_equal(weights(auto)[name], array, err_msg=name)


def test_dropout_rests_in_core_unless_the_schedule_is_published():
    from torch import nn

    from reid_core.engine.learner import set_dropout
    from reid_core.methods._plan import make_plan
    from reid_core.methods.core import recipe

    assert [phase.dropout for phase in recipe(make_plan("default", 9, "auto"))] == [True, False]
    assert [phase.dropout for phase in recipe(make_plan("reference", None, ""))] == [True, True]
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5))
    set_dropout(network.train(), active=False)
    assert [module.training for module in network] == [True, True, False]
    set_dropout(network.train(), active=True)
    assert all(module.training for module in network)


def test_bf16_is_refused_or_left_out_where_the_device_cannot():
    import torch

    from reid_core.engine import device

    assert device.settle_amp("auto", torch.device("mps")) == "off"
    assert device.settle_amp("auto", torch.device("cpu")) in ("off", "bf16")
    assert device.settle_amp("bf16", torch.device("cpu")) == "bf16"
    with pytest.raises(UsageError, match="mps does not support bfloat16"):
        device.settle_amp("bf16", torch.device("mps"))


def test_bf16_trains_and_keeps_its_losses_in_float32(tiny_market, tmp_path):
    folder, _ = train(tiny_market, tmp_path, "amp", amp="bf16", image_size=(64, 64), epochs=2, switch="1")
    assert weights(folder)["net0.neck.linear.weight"].dtype == np.float32
    assert all(np.isfinite(line["losses"]).all() for line in metrics(folder))
