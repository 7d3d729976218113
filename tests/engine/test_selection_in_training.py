"""Methods that select samples, in whole runs: what the log says of the selection, going on, and batches without a loss."""

import json

import numpy as np
import pytest
from training_help import SilentScreen, metrics, train, weights

from reid_core.engine.evidence import selected_shares, summarize
from reid_core.engine.signals import StopRequest
from reid_core.errors import Interrupted

GIVEN, TRUE = np.array([0, 1, 2, 2, 0, 1]), np.array([0, 1, 1, 2, -1, 1])  # right: 0, 1, 3, 5


def test_shares_by_hand():
    """Network 0 selects 0, 1, 2, 4: two of four right, and two of the three right ones that were visited."""
    records = {"selected": np.array([[1, 1, 1, 0, 1, -1], [0, 0, 0, 0, 0, -1]], np.int8)}
    assert selected_shares(records, GIVEN, TRUE) == {
        "selected": [0.8, 0.0],
        "selected_precision": [0.5, None],
        "selected_recall": [2 / 3, 0.0],
    }
    assert selected_shares(records, GIVEN, None) == {"selected": [0.8, 0.0]}
    assert selected_shares({"loss": records["selected"]}, GIVEN, TRUE) == {}


def test_one_row_for_all_networks():
    records = {"selected": np.array([1, 0, 1, 1, 0, 0], np.int8)}
    expected = {"selected": [0.5], "selected_precision": [2 / 3], "selected_recall": [0.5]}
    assert selected_shares(records, GIVEN, TRUE) == expected


def test_an_epoch_without_any_loss_has_the_loss_0():
    nothing = np.full((2, 3), np.nan, np.float32)
    nothing[1, 0] = 2.0
    guesses = np.zeros((2, 3), np.int32)
    records = {"prediction": guesses, "confidence": guesses + 0.5, "loss": nothing, "given_loss": guesses + 1.0}
    assert summarize(0, 0, records, np.zeros(3, np.int64), 2).losses == (0.0, 2.0)


SETTINGS = {"epochs": 4, "switch": "2", "drop_ramp": 2}


METHODS = {
    "peer": {"method": "peer"},
    "core_peer": {"method": "core_peer"},
    "core_peer after peer": {"method": "core_peer", "before_switch": "peer"},
}


@pytest.fixture(scope="module", params=METHODS)
def finished(request, tiny_market, tmp_path_factory):
    """(its settings, an uninterrupted run)."""
    asked = METHODS[request.param] | SETTINGS
    return asked, train(tiny_market, tmp_path_factory.mktemp("runs"), "whole", **asked)[0]


def test_the_log_says_how_well_was_selected(finished):
    _, folder = finished
    lines = metrics(folder)
    assert lines[-1]["true_agreement"][0] > 0.25  # twice what chance gives
    given = np.array([line.split(",") for line in (folder / "labels.csv").read_text().split()[1:]])
    right = given[:, 1] == given[:, 2]
    for line in lines:
        records = np.load(folder / "records" / f"epoch_{line['epoch']:03d}.npz")
        if "selected" not in records:
            assert line["phase_name"] == "self_refine" and "selected" not in line
            continue
        selected = records["selected"] == 1
        assert selected.shape == (2, 48)
        assert line["selected"] == pytest.approx(selected.mean(axis=1).tolist())
        assert line["selected_precision"] == pytest.approx([right[row].mean() for row in selected])
        assert line["selected_recall"] == pytest.approx([row[right].mean() for row in selected])
    assert any("selected" in line for line in lines)
    assert "drop_rate" in lines[-1]["method"]


def test_core_too(tiny_market, tmp_path):
    """A method that records one row for both networks."""
    folder, _ = train(tiny_market, tmp_path, "r", method="core", epochs=2, switch="1")
    first, second = metrics(folder)
    assert "selected" not in first and len(second["selected_precision"]) == 1


def test_the_measured_drop_rate_is_the_share_the_records_show(tiny_market, tmp_path):
    asked = {"drop_rate": "auto", "drop_ramp": 1}
    folder, _ = train(tiny_market, tmp_path, "r", method="core_peer", epochs=4, switch="1", lr=0.02, **asked)
    lines, least = metrics(folder), []
    labels = np.array([int(line.split(",")[1]) for line in (folder / "labels.csv").read_text().split()[1:]])
    for line in lines[1:]:
        assert line["method"]["drop_rate"] == (min(least) if least else 0.0)
        guesses = np.load(folder / "records" / f"epoch_{line['epoch']:03d}.npz")["prediction"]
        agreed = guesses[0] == guesses[1]
        least.append(float((guesses[0] != labels)[agreed].mean()))
    assert lines[-1]["method"]["drop_rate"] > 0


def test_as_many_labels_are_learnt_as_a_network_predicts(tiny_market, tmp_path):
    """The default of core_peer: each batch has its own drop rate, and where the networks differ one may support the label."""
    folder, _ = train(tiny_market, tmp_path, "r", method="core_peer", epochs=4, switch="1", lr=0.02, smoothing=0.0)
    labels = np.array([int(line.split(",")[1]) for line in (folder / "labels.csv").read_text().split()[1:]])
    for line in metrics(folder)[1:]:
        assert line["method"]["drop_rate"] is None
        records = np.load(folder / "records" / f"epoch_{line['epoch']:03d}.npz")
        refuted = (records["prediction"] != labels).all(axis=0)
        assert refuted.any() and (records["selected"].sum() == 2 * (~refuted).sum())


@pytest.mark.parametrize(("epoch", "step"), [(1, 6), (2, 2), (3, 3)])
def test_interrupted_and_resumed_is_uninterrupted(epoch, step, finished, tiny_market, tmp_path):
    asked, whole = finished
    stop = StopRequest()
    screen = SilentScreen(lambda e, s: setattr(stop, "requested", 15 if (e, s) == (epoch, step) else stop.requested))
    with pytest.raises(Interrupted):
        train(tiny_market, tmp_path, "cut", screen=screen, stop=stop, **asked)
    again, _ = train(tiny_market, tmp_path, "cut", resume=True, **asked)
    assert metrics(again) == metrics(whole)
    mine, theirs = weights(again), weights(whole)
    for key, array in theirs.items():
        np.testing.assert_array_equal(mine[key], array, err_msg=key)


MADE_UP = '''
"""Even samples teach network 0, odd ones nobody: a made-up method."""
from dataclasses import dataclass
import torch
from torch.nn import functional
from reid_core.types import Phase, StepResult

@dataclass
class EvenOnly:
    tau: float
    num_networks: int = 2
    def begin(self, labels, num_classes):
        self.num_classes = num_classes
    def step(self, outputs, batch):
        rows = torch.stack([functional.cross_entropy(o.logits, batch.labels, reduction="none") for o in outputs])
        even = batch.index % 2 == 0
        chosen = even.to(rows.device)
        loss = rows[0][chosen].mean() if chosen.any() else None
        records = {"loss": rows.detach(), "given_loss": rows.detach(), "selected": chosen}
        return StepResult([loss, None], records)
    def start_epoch(self, epoch): pass
    def end_epoch(self, records): pass
    def state_dict(self): return {"tau": self.tau}
    def load_state_dict(self, state): pass

def recipe(plan, tau=0.0):
    return [Phase("even", EvenOnly(tau), plan.epochs, plan.single_phase_rate())]
'''


def test_a_made_up_method_is_one_file(tiny_market, tmp_path, monkeypatch):
    """Its settings, records and log need nothing else; a network without a loss keeps its weights and optimizer state."""
    (tmp_path / "made_up").mkdir()
    (tmp_path / "made_up" / "even.py").write_text(MADE_UP)
    monkeypatch.syspath_prepend(tmp_path)
    short, _ = train(tiny_market, tmp_path, "short", method="made_up.even", epochs=1, switch="1", tau=0.5)
    folder, screen = train(tiny_market, tmp_path, "r", method="made_up.even", epochs=2, switch="1", tau=0.5)
    line = metrics(folder)[-1]
    assert line["phase_name"] == "even" and line["method"] == {"tau": 0.5} and line["selected"] == [0.5]
    assert json.loads((folder / "result.json").read_text())["method"] == "made_up.even"
    before, after = weights(short), weights(folder)
    parameters = [name for name in after if name.endswith("weight") and name.startswith("net")]
    same = {name[:4] for name in parameters if np.array_equal(before[name], after[name])}
    moved = {name[:4] for name in parameters if not np.array_equal(before[name], after[name])}
    assert (same, moved) == ({"net1"}, {"net0"})
    assert not [name for name in after if name.startswith("opt1.")] and [n for n in after if n.startswith("opt0.")]
