"""The tables' scripts: which runs, in which order, and what their figures become."""

import argparse
import json
import sys

import pytest
from conftest import PROJECT

sys.path.insert(0, str(PROJECT / "tools"))

import results_table
from _class_table import OTHER

from reid_core.cli import train
from reid_core.cli._main import same_dashes

TABLES = results_table.TABLES


@pytest.mark.parametrize("name", TABLES)
def test_runs_have_names_of_their_own_and_flags_that_exist(name, tmp_path):
    table = TABLES[name]
    rows = table.planned()
    assert len({row["name"] for row in rows}) == len(rows)
    parser = argparse.ArgumentParser()
    train.configure(parser)
    seen = set()
    for row in rows:
        parsed = parser.parse_args(same_dashes([*table.settings.split(), *table.flags(row, tmp_path)]))
        assert str(parsed.seed) == row["seed"]
        seen.add(str(sorted(vars(parsed).items())))
    assert len(seen) == len(rows)  # no run is made twice


def test_the_first_seed_sees_every_method_at_20_percent_first():
    first = [(row["method"], row["noise"], row["ratio"], row["seed"]) for row in TABLES["cifar"].planned()[:4]]
    assert first == [(m, "symmetric", "0.2", "1") for m in ("baseline", "peer", "core_peer", "core")]


def test_the_ranking_table_has_both_peers_with_cores_settings():
    rows = [row for row in TABLES["omniglot"].planned() if row["noise"] == "random" and row["ratio"] in ("0.2", "0.5")]
    cells = {}
    for row in rows:
        cells.setdefault(row["method"], set()).add((row["ratio"], row["seed"], row["switch"]))
    assert cells["core_peer"] == cells["core"] and cells["baseline"] <= cells["core"]
    assert cells["peer"] == cells["baseline"]


def finished(folder, networks=2):
    """A run folder as training leaves it: balanced accuracies of 0.5, 0.25 and, together, 0.75."""
    folder.mkdir()
    nets = [{"accuracy": 0.6, "balanced_accuracy": value, "lowest_recall": 0.1} for value in (0.5, 0.25)][:networks]
    both = {"accuracy": 0.8, "balanced_accuracy": 0.75, "lowest_recall": 0.2} if networks == 2 else None
    result = {**nets[0], "networks": nets, "ensemble": both, "switch": None, "epochs": 30, "num_train_images": 100}
    (folder / "result.json").write_text(json.dumps({**result, "seconds": 12.3}))
    (folder / "config.json").write_text(json.dumps({"config": {"amp": "bf16"}, "versions": {"torch": "2.10"}}))
    lines = [{"epoch": 0}, {"epoch": 1, "selected_precision": [0.9, None], "selected_recall": [0.5, 0.25]}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_row_of_a_run(tmp_path):
    table = TABLES["cifar"]
    baseline, peer = table.planned()[:2]
    row = table.describe(peer, finished(tmp_path / "peer"))
    assert list(row) == table.columns
    figures = ("balanced_accuracy", "balanced_accuracy_net1", "balanced_accuracy_both", "lowest_recall_both")
    assert [row[name] for name in figures] == ["50.00", "25.00", "75.00", "20.00"]
    assert (row["selected_precision"], row["selected_recall"]) == ("90.0 -", "50.0 25.0")
    assert row["forward_passes"] == str(2 * 30 * 100)
    alone = table.describe(baseline, finished(tmp_path / "baseline", networks=1))
    assert (alone["balanced_accuracy_both"], alone["forward_passes"]) == ("", "3000")


def test_gains_are_paired_and_with_their_standard_error():
    """Gains of 10 and 14: mean 12, deviation 2.83, standard error 2."""
    table = TABLES["cifar"]
    plans = [row for row in table.planned() if row["noise"] == "symmetric" and row["ratio"] == "0.2"]
    rows = []
    for method, other, values in (("baseline", "", (30.0, 50.0)), ("peer", OTHER, (40.0, 64.0))):
        for seed, value in zip("12", values):
            plan = next(p for p in plans if (p["method"], p["arch_net1"], p["seed"]) == (method, other, seed))
            figures = dict.fromkeys(("accuracy", "lowest_recall"), "1.00") | {"forward_passes": "7000"}
            both = f"{value + 1}" if other else ""
            rows.append({**plan, **figures, "balanced_accuracy": str(value), "balanced_accuracy_both": both})
    last = table.summary(rows).splitlines()[-1]
    cells = [cell.strip() for cell in last.strip("|").split("|")]
    assert cells[:4] == ["20 % symmetric", "peer", f"resnet10t + {OTHER}", "2"]
    assert cells[5:] == ["52.0 ± 12.0", "1.0 ± 0.0", "53.0 ± 12.0", "12.0 ± 2.0", "13.0 ± 2.0", "7,000"]


def test_finished_runs_and_rows_are_not_made_again(tmp_path, monkeypatch):
    """Only what has neither a result nor a row of the CSV is started."""
    monkeypatch.setattr(results_table, "csv_of", lambda table: tmp_path / "table.csv")
    monkeypatch.setattr(results_table, "PROJECT", tmp_path)
    plans = TABLES["cifar"].planned()
    finished(tmp_path / plans[0]["name"], networks=1)
    results_table.collect("cifar", tmp_path)
    asked = []

    def started(command, **rest):
        asked.append(command[command.index("--name") + 1])
        return argparse.Namespace(returncode=0)

    monkeypatch.setattr(results_table.subprocess, "run", started)
    monkeypatch.setattr(
        sys, "argv", ["results_table.py", "cifar", str(tmp_path), "--runs", str(tmp_path), "--jobs", "1"]
    )
    results_table.main()
    assert asked == [plan["name"] for plan in plans[1:]]
    assert list(results_table.known("cifar")) == [plans[0]["name"]]
