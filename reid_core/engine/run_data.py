"""The data of a run, checked before anything is trained."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_core.config import TrainConfig
from reid_core.data._dataset import EvalImages, eval_loader
from reid_core.data._files import some
from reid_core.data._find import find_root, resolve_name
from reid_core.data._transforms import eval_transform
from reid_core.engine.classify import labels_of_test
from reid_core.engine.device import choose_device
from reid_core.engine.evaluate import unmatched
from reid_core.engine.first_weights import checkpoint_file
from reid_core.engine.held_out import hold_out_images
from reid_core.engine.loading import load_networks
from reid_core.engine.predict import predict
from reid_core.engine.reporter import Reporter
from reid_core.engine.run_folder import read_status
from reid_core.engine.training_data import TrainingData, class_names_of, long_tailed, training_labels, usable
from reid_core.engine.validation import cut_off, stored_labels
from reid_core.errors import DataError, UsageError
from reid_core.noise.patterned import second_labels
from reid_core.plugins import load
from reid_core.types import Sample, Split

TrainClean = Callable[[], Path]
"""Trains a baseline on clean labels, unless that is done, and gives its checkpoint file."""


def read_split(config: TrainConfig, working: Callable[[str], Callable[[int, int], None]]) -> Split:
    """The data set's records, ranked by the protocol that was asked for; ``working(title)`` gives a progress callback."""
    name = resolve_name(config.dataset)
    module = load("reid_core.data", name)
    if hasattr(module, "ensure"):
        # A data set that can make itself, like the synthetic one, is written where it will be looked for.
        root = module.ensure(Path(config.data_dir), progress=working("drawing the data set"))
    else:
        root = find_root(config.data_dir, name)
    options: dict[str, bool] = {}
    if config.allow_outside:
        if "allow_outside" not in inspect.signature(module.read).parameters:
            raise UsageError(f"--allow_outside has no meaning for --dataset {name}; leave it out")
        options["allow_outside"] = True
    split: Split = module.read(root, train_split=config.train_split, **options)
    if config.protocol is None:
        return split
    if split.class_names:
        raise UsageError(f"--protocol has no meaning for --dataset {name}, whose images are classified; leave it out")
    return dataclasses.replace(split, protocol=config.protocol)


def prepare_data(
    config: TrainConfig, reporter: Reporter, train_clean: TrainClean, stored: Path | None = None
) -> TrainingData:
    """Read the split, leave out unreadable images if asked to, choose the images of a long tail, make the given labels,
    and cut off the validation set.

    Args:
        config: resolved.
        reporter: what to show.
        train_clean: trains a baseline on clean labels for patterned noise, if no run is given, and says where it lies.
        stored: ``labels.csv`` of the run that goes on: patterned noise is read from it, not computed again.
    """
    found = read_split(config, reporter.working)
    if not found.train:
        there = [entry.name for entry in sorted(found.root.iterdir()) if entry.is_dir()]
        raise DataError(
            f"{found.root}: there is no training image; they were expected in {config.train_split!r}, there is "
            f"{some(there, 8) if there else 'no folder at all'}. Name the data set's own folder, and its part to train on with "
            "--train_split; reid-core split makes one from your images"
        )
    _check_validation(config, found)
    split, skipped = usable(found, config, reporter.working("checking images"))
    if not split.train:
        raise DataError(f"{split.root}: no training image can be read")
    split = long_tailed(split, config)
    if split.class_names:
        _check_classes(split, reporter, bool(config.val_images))
    else:
        _check_queries(split, reporter, bool(config.val_ids))

    def seconds(train: tuple[Sample, ...], labels: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
        if stored is not None and stored.is_file():
            given = stored_labels(stored, train, split.train_folder, class_names_of(split))
            # Right labels never had a second one that mattered: any other class stands for it.
            return np.where(given == labels, (labels + 1) % num_classes, given)
        return pattern_labels(config, split, labels, num_classes, reporter, train_clean)

    noisy, class_names = training_labels(split, config, seconds)
    if split.test:
        labels_of_test(split, class_names)  # a class that is not trained on is found now and not after the first epoch
    data = TrainingData(split, noisy, class_names, skipped)
    # After the noise: identities and classes are those of the labels as they are given, right or wrong.
    if split.class_names:
        return hold_out_images(data, config.val_images, config.noise_seed)
    return cut_off(data, config.val_ids, config.noise_seed)


def _check_validation(config: TrainConfig, split: Split) -> None:
    """Classes are the same in training and testing, identities are not: each has its own kind of validation set."""
    if split.class_names and config.val_ids:
        raise UsageError(
            f"--val_ids cuts off whole identities, but --dataset {split.dataset} is classified, and a class without training "
            "images could not be learned: use --val_images, which holds out images of every class"
        )
    if not split.class_names and config.val_images:
        raise UsageError(
            f"--val_images is for class folders; --dataset {split.dataset} is ranked, and its identities in testing are "
            "others than in training: use --val_ids, which cuts off whole identities"
        )


def _check_classes(split: Split, reporter: Reporter, validated: bool) -> None:
    """Say what a measurement will lack before hours are spent."""
    if not split.test:
        what = "only the validation set is measured" if validated else "nothing is measured"
        reporter.note(f"there is no test image: the run trains, but {what} (reid-core split classes cuts some)")
    counts = np.bincount([sample.pid for sample in split.train])
    single = [split.class_names[c] for c in np.flatnonzero(counts == 1)]
    if single:
        reporter.note(
            f"warning: {len(single)} classes have a single training image, of which little can be learned, and a wrong label "
            f"not be seen: {some(single)}"
        )
    untested = sorted(set(split.class_names) - {split.class_names[sample.pid] for sample in split.test})
    if split.test and untested:
        reporter.note(
            f"warning: {len(untested)} classes have no test image and are left out of all means: {some(untested)}"
        )


def _check_queries(split: Split, reporter: Reporter, validated: bool) -> None:
    """Count the queries that no gallery image can match before hours are spent; none at all is an error."""
    if not split.query:
        what = "only the validation set is measured" if validated else "nothing is measured"
        reporter.note(f"there is no query: the run trains, but {what} (reid-core split reid cuts one)")
        return
    lost = unmatched(split)
    if len(lost) == len(split.query):
        raise DataError(
            f"{split.root}: none of the {len(lost)} queries has a match in the gallery from another camera, so nothing "
            "can be measured. Data without cameras: --protocol any-camera; otherwise ask reid-core doctor"
        )
    if lost:
        reporter.note(
            f"{len(lost)} of {len(split.query)} queries have no match in the gallery and are left out of the means "
            f"(first: {lost[0].path}); reid-core doctor says why"
        )


def pattern_labels(
    config: TrainConfig,
    split: Split,
    labels: NDArray[np.int64],
    num_classes: int,
    reporter: Reporter,
    train_clean: TrainClean,
) -> NDArray[np.int64]:
    """Second choices of a network trained on clean labels: of ``--pattern_from``, or of a baseline trained first."""
    source = train_clean() if config.pattern_from is None else checkpoint_file(config, config.pattern_from)
    trained = load_networks(source)
    state = read_status(trained.source.parent.parent).get("state", "done")
    if state != "done":
        raise UsageError(
            f"--pattern_from: {trained.source.parent.parent} is not finished ({state}), and its second choices would be those "
            f"of a half-trained network: let it end first (reid-core train --resume {trained.source.parent.parent})"
        )
    identity = trained.identity
    if identity["num_classes"] != num_classes:
        raise UsageError(
            f"--pattern_from: {source} was trained on {identity['num_classes']} identities, the data have {num_classes}"
        )
    if tuple(identity["class_names"]) != class_names_of(split):
        raise UsageError(
            f"--pattern_from: {source} was trained on other identities than the data have, though on as many; its second "
            "choices would mean nothing here"
        )
    if trained.config.get("noise_ratio") or trained.config.get("labels"):
        reporter.note(
            f"--pattern_from: {source} was not trained on clean labels; its second choices are used as they are"
        )
    dataset = EvalImages(split.root, split.train, eval_transform(tuple(identity["image_size"]), **identity["view"]))
    device = choose_device(config.device, config.gpu)
    loader = eval_loader(dataset, 64, config.workers)
    tick = reporter.working("second labels")
    found = predict(
        trained.networks[0].to(device), loader, device, bool(config.flip), lambda done: tick(done, len(dataset))
    )
    return second_labels(found.logits, labels)
