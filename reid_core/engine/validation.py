"""Identities cut off from training, whose ranking chooses the epoch that is reported. No true label takes part in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reid_core.data._csv import read_csv, write_csv
from reid_core.data._labels import read_labels, relative
from reid_core.engine.checkpoint import Checkpoint, CheckpointFolder
from reid_core.engine.evaluate import EvaluationOptions, unmatched
from reid_core.engine.measure import CHOOSING, curves, is_measurable, measure_split
from reid_core.engine.run_folder import RunFolder
from reid_core.engine.training_data import TrainingData, Validation
from reid_core.errors import CheckpointError, DataError, UsageError
from reid_core.models._network import Network
from reid_core.randomness import generator
from reid_core.types import Sample, Split

FILE = "validation.csv"
COLUMNS = ("path", "identity", "part")
"""Of ``validation.csv``: path relative to the training folder, identity or class by given label, and query or gallery, or
test where images of every class were held out."""


def cut_off(data: TrainingData, share: float, seed: int) -> TrainingData:
    """``data`` without the images of ``share`` of its identities, by given label; those become the validation set.

    Classes are numbered again without gaps, in their order. A true label that lies in a class cut off becomes -1.

    Args:
        data: labels after the noise.
        share: in [0, 1); 0 changes nothing, else at least two identities are cut off.
        seed: of the noise.

    Raises:
        UsageError: fewer than two identities would remain, or no validation query has a match.
    """
    if share == 0:
        return data
    given, true = data.labels.given, data.labels.true
    classes = np.unique(given)
    count = max(2, round(len(classes) * share))
    if len(classes) - count < 2:
        raise UsageError(
            f"--val_ids {share:g}: {count} of {len(classes)} identities would be cut off and {len(classes) - count} left to "
            "train on, but both sides need at least two. Give a smaller share, or leave --val_ids out"
        )
    # The noise's seed: the cut belongs to the data, so that runs that differ in --seed alone, the seed of the networks,
    # train on the same images and are chosen by the same images.
    cut = generator(seed, "validation").choice(classes, size=count, replace=False)
    held = np.isin(given, cut)
    kept = np.setdiff1d(np.arange(data.num_classes), cut)
    number = np.full(data.num_classes, -1, np.int64)
    number[kept] = np.arange(len(kept))
    labels = dataclasses.replace(
        data.labels, given=number[given[~held]], true=None if true is None else number[true[~held]]
    )
    train = tuple(sample for sample, out in zip(data.split.train, held) if not out)
    return dataclasses.replace(
        data,
        split=dataclasses.replace(data.split, train=train),
        labels=labels,
        class_names=tuple(data.class_names[c] for c in kept),
        validation=Validation(_ranking(data, np.flatnonzero(held), share), data.class_names),
    )


def _ranking(data: TrainingData, rows: NDArray[np.int64], share: float) -> Split:
    """The first image of each camera and given label is a query, the rest gallery; without cameras all share one."""
    query: dict[tuple[int, int], Sample] = {}
    gallery = []
    for row in rows:
        sample, label = data.split.train[row], int(data.labels.given[row])
        image = Sample(sample.path, label, sample.camid)
        if query.setdefault((label, sample.camid), image) is not image:
            gallery.append(image)
    split = dataclasses.replace(data.split, train=(), query=tuple(query.values()), gallery=tuple(gallery))
    if len(unmatched(split)) == len(query):
        raise UsageError(
            f"--val_ids {share:g}: none of the {len(query)} validation queries (an image a camera and identity; the other "
            f"{len(gallery)} images are the gallery) has a match by the {split.protocol} protocol, so no epoch can be chosen. "
            "Give a larger share, or leave --val_ids out; data without cameras: --protocol any-camera"
        )
    return split


def write_validation(path: Path, validation: Validation) -> None:
    """Write a run's ``validation.csv``: ``COLUMNS``, a row an image; whole or not at all."""
    split, names = validation.split, validation.class_names
    rows = [
        (relative(sample.path, split.train_folder), names[sample.pid], part)
        for part, samples in (("query", split.query), ("gallery", split.gallery), ("test", split.test))
        for sample in samples
    ]
    write_csv(path, COLUMNS, rows)


def stored_labels(
    file: Path, train: Sequence[Sample], train_folder: str, class_names: Sequence[str]
) -> NDArray[np.int64]:
    """(N,) given labels before any cut, from a run's ``labels.csv`` and the ``validation.csv`` beside it, if there is one.

    Args:
        file: ``labels.csv``.
        train, train_folder: all training images of the data set, and ``Split.train_folder``.
        class_names: (C,) before the cut.

    Raises:
        DataError: the files do not name these images.
    """
    beside = file.with_name(FILE)
    if not beside.is_file():
        return read_labels(file, train, train_folder).given
    rows = [row for _, row in read_csv(beside, COLUMNS)]
    held = {row["path"]: row["identity"] for row in rows}
    gone = {row["identity"] for row in rows if row["part"] != "test"}  # held-out images leave their class where it is
    kept = [name for name in class_names if name not in gone]
    number = {name: c for c, name in enumerate(class_names)}
    try:
        found = {row["path"]: number[kept[int(row["label"])]] for _, row in read_csv(file, ("path", "label"))}
        found |= {path: number[name] for path, name in held.items()}
    except (KeyError, IndexError, ValueError):
        found = {}  # an identity is gone
    names = [relative(sample.path, train_folder) for sample in train]
    if found.keys() != set(names):
        raise DataError(
            f"{file} and {beside.name} do not name the training images that are there now: files were added, removed or "
            "renamed since that run began; give it the data that it had"
        )
    return np.array([found[name] for name in names], np.int64)


def measure(
    networks: Sequence[Network],
    data: TrainingData,
    options: EvaluationOptions,
    device: torch.device,
    working: Callable[[str], Callable[[int, int], None]],
) -> dict[str, Any]:
    """Entries of an epoch's line: ``evaluation`` and ``validation``, each where there are images for it."""
    found: dict[str, Any] = {}
    common = (data.class_names, options, device)
    if is_measurable(data.split):
        outcome = measure_split(networks, data.split, *common, working("measuring"), data.train_counts)
        found["evaluation"] = outcome.to_json()
    if data.validation is not None:
        outcome = measure_split(networks, data.validation.split, *common, working("validating"))
        found["validation"] = {"networks": [curves(figures) for figures in outcome.to_json()["networks"]]}
    return found


def best_epoch(lines: Sequence[Mapping[str, Any]]) -> int | None:
    """The epoch with the highest validation mAP, or balanced accuracy where images are classified, averaged over the
    networks, the earliest of equals; None without any.

    Only epochs with the last one's image size are compared: another size ranks otherwise, whatever the network has learnt.
    It is a function of ``metrics.jsonl`` alone, so a run that goes on has nothing else to remember.
    """
    measured = [line for line in lines if "validation" in line]
    measured = [line for line in measured if line.get("image_size") == measured[-1].get("image_size")]
    if not measured:
        return None
    figure = next(name for name in CHOOSING if name in measured[0]["validation"]["networks"][0])
    means = [float(np.mean([net[figure] for net in line["validation"]["networks"]])) for line in measured]
    return int(measured[means.index(max(means))]["epoch"])


def reported(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What ``result.json`` says of the epoch it reports: its ``evaluation`` figures, which one it is, and why."""
    best = best_epoch(lines)
    line = lines[-1] if best is None else next(line for line in lines if line["epoch"] == best)
    chosen = {"chosen_epoch": line["epoch"], "chosen_by": "last epoch" if best is None else "validation"}
    # The networks' averages are figures beside theirs, and choose nothing.
    beside = {"ema": line["ema"].get("evaluation", {})} if "ema" in line else {}
    found = {"validation": line["validation"]} if best is not None else {}
    return {**line.get("evaluation", {}), **chosen, **found, **beside}


def mend_best(run: RunFolder, last: Checkpoint) -> None:
    """Write ``best`` again if it should be ``last`` and is not: a kill may have come between the renames of the two."""
    best = best_epoch(run.metrics())
    is_last = last.meta["step"] == 0 and last.meta["epoch"] - 1 == best
    if is_last and _saved_epoch(run.checkpoints) != best:
        run.checkpoints.save_as("best", last.tensors, last.meta)


def missing_best(run: RunFolder) -> str | None:
    """A warning if ``best`` is not the epoch that is reported, which ``--on_save_error continue`` allows; else None."""
    best = best_epoch(run.metrics())
    if best is None or _saved_epoch(run.checkpoints) == best:
        return None
    return (
        f"warning: epoch {best} (from 0) is reported, but {run.checkpoints.path('best')} does not hold it: it could not be "
        "written then"
    )


def _saved_epoch(checkpoints: CheckpointFolder) -> int | None:
    """The epoch after which ``best`` was saved; None if there is none, or none that is intact."""
    try:
        return int(checkpoints.load("best").meta["epoch"]) - 1
    except CheckpointError:
        return None
