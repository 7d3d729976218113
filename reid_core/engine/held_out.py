"""Training images of every class held out, whose classification chooses the epoch that is reported."""

from __future__ import annotations

import dataclasses

import numpy as np

from reid_core.engine.training_data import TrainingData, Validation
from reid_core.errors import UsageError
from reid_core.randomness import generator
from reid_core.types import Sample


def hold_out_images(data: TrainingData, share: float, seed: int) -> TrainingData:
    """``data`` without ``share`` of the images of every class; those become the validation set, with their given labels.

    Of n images with a given label, ``floor(n * share + 0.5)`` are held out, at least one and at most n - 1; a single image
    stays. No true label takes part.

    Args:
        data: labels after the noise.
        share: in [0, 1); 0 changes nothing.
        seed: of the noise, so that runs that differ in the networks' seed alone are chosen by the same images.

    Raises:
        UsageError: no class has two images.
    """
    if share == 0:
        return data
    given, draw = data.labels.given, generator(seed, "validation images")
    held = np.zeros(len(given), np.bool_)
    for c in range(data.num_classes):
        members = np.flatnonzero(given == c)
        count = min(max(int(np.floor(len(members) * share + 0.5)), 1), len(members) - 1)
        if count > 0:
            held[draw.choice(members, size=count, replace=False)] = True
    if not held.any():
        raise UsageError(f"--val_images {share:g}: no class has two images, so none can be held out; leave it out")
    images = tuple(
        Sample(sample.path, int(label), sample.camid)
        for sample, label, out in zip(data.split.train, given, held)
        if out
    )
    true = data.labels.true
    labels = dataclasses.replace(data.labels, given=given[~held], true=None if true is None else true[~held])
    kept = tuple(sample for sample, out in zip(data.split.train, held) if not out)
    validation = dataclasses.replace(data.split, train=(), test=images, class_names=data.class_names)
    return dataclasses.replace(
        data,
        split=dataclasses.replace(data.split, train=kept),
        labels=labels,
        validation=Validation(validation, data.class_names),
    )
