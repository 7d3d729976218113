"""Runs with a validation set: the settings of the usual one, its files and checkpoints."""

import csv
import json

import numpy as np
from training_help import metrics

from reid_core.engine.checkpoint import CheckpointFolder
from reid_core.engine.validation import FILE

ASKED = {"val_ids": 0.25, "eval_every": 1, "epochs": 5, "seed": 2}


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
