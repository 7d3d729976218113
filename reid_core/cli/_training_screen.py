"""What a training run shows: one bar, one line an epoch, a table at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from reid_core.cli._screen import result, results_table, say, warn
from reid_core.data._csv import read_csv
from reid_core.engine.measure import CHOOSING
from reid_core.engine.phases import PhaseWalk
from reid_core.engine.training_data import TrainingData
from reid_core.types import Split


class TrainingScreen:
    """The ``Reporter`` of the command line."""

    def __init__(self) -> None:
        self.bar: tqdm[Any] | None = None
        self.epochs = 0
        self.folder = Path()

    def started(
        self, data: TrainingData, walk: PhaseWalk, folder: Path, first_epoch: int, image_size: tuple[int, int]
    ) -> None:
        """What will be trained on, and where it lies."""
        split, labels = data.split, data.labels
        self.epochs, self.folder = walk.epochs, folder
        wrong = "" if labels.clean is None else f", {1 - labels.clean.mean():.1%} of them made wrong ({labels.kind})"
        wrong = "" if labels.kind == "none" else wrong
        source = " from the label file" if labels.kind == "file" else ""
        say(
            f"{split.dataset}: {len(split.train)} training images of {data.num_classes} "
            f"{'classes' if split.class_names else 'identities'}, labels{source}{wrong}; {_measured_by(split)}"
        )
        if data.validation is not None:
            say(f"validation: {_validated_by(data.validation.split)}; the best epoch by it is reported")
        names = " then ".join(_length(walk, position) for position in range(walk.first, len(walk.phases)))
        begins = f", going on at epoch {first_epoch}" if first_epoch > walk.first_epoch else ""
        height, width = image_size
        say(f"{walk.epochs} epochs: {names}{begins}; images of {height} x {width}; run folder {folder}")

    def working(self, title: str) -> Callable[[int, int], None]:
        """A bar of its own for work that is not training."""
        if not sys.stderr.isatty():
            return lambda done, total: None
        bar = tqdm(desc=title, leave=False, dynamic_ncols=True)

        def tick(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)
            if done >= total:
                bar.close()

        return tick

    def step(self, epoch: int, step: int, steps: int, losses: Sequence[float | None]) -> None:
        """Move the one bar over all steps of the run."""
        if not sys.stderr.isatty():
            return
        if self.bar is None:
            done = epoch * steps + step - 1
            self.bar = tqdm(total=self.epochs * steps, initial=done, unit="step", dynamic_ncols=True, leave=False)
        self.bar.set_description(f"epoch {epoch + 1}/{self.epochs}", refresh=False)
        self.bar.update(1)

    def epoch(self, line: dict[str, Any]) -> None:
        """One line: losses, agreement with the given labels, rate, and the measurement where there is one."""
        parts = [
            f"epoch {line['epoch'] + 1:>3}/{self.epochs} {line['phase_name']:<11}",
            "loss " + " ".join(f"{value:.3f}" for value in line["losses"]),
            "= given labels " + " ".join(f"{value:.1%}" for value in line["given_agreement"]),
        ]
        if len(line["losses"]) > 1:
            parts.append(f"= each other {line['agreement']:.1%}")
        rates = list(dict.fromkeys(rate for network in line["lr"] for rate in network))
        # Rates by layer are many: the head's and the stem's stand for all.
        parts.append(
            "lr " + (f"{max(rates):.3g}..{min(rates):.3g}" if len(rates) > 3 else "/".join(f"{r:g}" for r in rates))
        )
        if "evaluation" in line:
            nets = line["evaluation"]["networks"]
            parts += [f"{_SHOWN[name]} {_percents(nets, name)}" for name in _SHOWN if name in nets[0]]
        if line.get("ema", {}).get("evaluation"):
            nets = line["ema"]["evaluation"]["networks"]
            parts += [f"averaged {_SHOWN[name]} {_percents(nets, name)}" for name in CHOOSING if name in nets[0]]
        if "validation" in line:
            nets = line["validation"]["networks"]
            parts += [f"validation {_SHOWN[name]} {_percents(nets, name)}" for name in CHOOSING if name in nets[0]]
        say("  ".join(parts))
        for k, count in enumerate(line["without_loss"]):
            if count:
                say(
                    f"network {k} had nothing to learn from in {count} batches of epoch {line['epoch'] + 1}: no update there"
                )
        for k, count in enumerate(line["overflows"]):
            if count:
                say(
                    f"network {k} skipped {count} updates of epoch {line['epoch'] + 1}: a gradient overflowed in float16, and "
                    "the scaler adapts; a few are usual in the first epochs"
                )
        if line.get("next_phase"):
            say(f"from the next epoch on: {line['next_phase']}")
        if line.get("warning"):
            warn(line["warning"])
        if self.bar is not None and line["epoch"] + 1 == self.epochs:
            self.bar.close()

    def note(self, text: str) -> None:
        """Something worth a line."""
        say(text)

    @staticmethod
    def summary(folder: Path, as_json: bool) -> None:
        """The table at the end and where everything lies."""
        body = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        if as_json:
            result(json.dumps(body, indent=1))
            return
        if "networks" in body:
            result(results_table(body))
            why = "chosen by validation" if body["chosen_by"] == "validation" else "the last"
            result(f"figures of epoch {body['chosen_epoch'] + 1} of {body['epochs']}, {why}")
        suspects = sum(1 for _ in read_csv(folder / "suspected_labels.csv", ("path",)))
        result(f"\n{suspects} of {body['num_train_images']} training images have a label that the networks contradict")
        result(f"everything lies in {folder}:")
        for name, what in _FILES.items():
            if (folder / name).exists():
                result(f"  {name:<22} {what}")


_FILES = {
    "result.json": "these figures and more",
    "suspected_labels.csv": "the training images whose label looks wrong, worst first",
    "labels.csv": "the labels trained on",
    "validation.csv": "the images that chose the epoch",
    "metrics.jsonl": "a line an epoch",
    "loss.png": "losses and agreement over the epochs",
    "cmc.png": "rank-k over k",
    "accuracy.png": "accuracy over the epochs",
    "confusion.png": "which classes are taken for which",
    "recall.png": "the share recognised of each class",
    "classes.csv": "the same figures of each class",
    "tensorboard": "the same curves: tensorboard --logdir",
    "checkpoints": "networks and training state",
    "config.json": "every setting, the command and the versions",
}


_SHOWN = {"rank1": "rank-1", "mAP": "mAP", "accuracy": "accuracy", "balanced_accuracy": "balanced"}
"""The figures of a measurement that an epoch's line has room for, and their names there."""


def _percents(nets: Sequence[Mapping[str, float]], name: str) -> str:
    return " ".join(f"{100 * net[name]:.1f}" for net in nets)


def _measured_by(split: Split) -> str:
    if split.class_names:
        return f"{len(split.test)} test images"
    return f"{len(split.query)} query and {len(split.gallery)} gallery images, protocol {split.protocol}"


def _validated_by(held: Split) -> str:
    if held.test:
        return f"{len(held.test)} more images of {len({s.pid for s in held.test})} classes by given label"
    return (
        f"{len(held.query) + len(held.gallery)} images of {len({s.pid for s in held.query})} other identities by given "
        f"label, {len(held.query)} of them queries"
    )


def _length(walk: PhaseWalk, position: int) -> str:
    phase = walk.phases[position]
    if phase.end_when is not None:
        return f"{phase.name} ({phase.min_epochs} to {phase.epochs} epochs, as the networks' agreement says)"
    given_up = position > 0 and walk.phases[position - 1].end_when is not None
    return f"{phase.name} ({'the rest' if given_up else f'{phase.epochs} epochs'})"
