"""The loop. Every network's forward before any update; it can stop anywhere and go on to the same bits."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_core.data._dataset import TrainImages, train_loader
from reid_core.data._transforms import Transform
from reid_core.engine.evidence import collapse_warning, selected_shares, summarize
from reid_core.engine.learner import Learner
from reid_core.engine.phases import PhaseWalk
from reid_core.engine.records import EpochRecorder, evidence
from reid_core.engine.schedule import RateSchedule
from reid_core.engine.sizes import ImageSizes, Size
from reid_core.errors import Interrupted, NumericalError
from reid_core.models._network import Network
from reid_core.randomness import stream_seed
from reid_core.types import Batch, EpochSummary, StepResult


class Events(Protocol):
    """What the trainer tells the outside, and asks of it."""

    def step(self, epoch: int, step: int, steps: int, losses: Sequence[float | None]) -> None:
        """A step is done."""

    def epoch(self, line: dict[str, Any], records: Mapping[str, NDArray[Any]]) -> Sequence[str]:
        """An epoch is done; ``line`` goes to metrics.jsonl. The answer: names to save the state after it under."""

    def save(self, also: Sequence[str]) -> None:
        """Write a checkpoint of the trainer's state, under the names ``also`` too."""

    def stop_requested(self) -> int | None:
        """The signal that asks to stop, or None."""


@dataclass
class TrainerOptions:
    """Settings of the loop.

    Attributes:
        sizes: image size and images a batch, by epoch.
        transform: the training transform for an image size.
        lr: the base rate that the optimizers were built with; a phase may have another.
        seed: of order, augmentation and dropout.
        schedule: of the rates.
        accumulate: batches whose gradients make one update; the last update of an epoch may have fewer.
        workers: of the loader.
        save_minutes: between checkpoints; they are also written at the end of every phase and where the events ask.
        device: of everything.
        autocast: type of the forward passes where torch deems it safe (weights, logits and losses stay float32), or None.
    """

    sizes: ImageSizes
    transform: Callable[[Size], Transform]
    lr: float
    seed: int
    schedule: RateSchedule = field(default_factory=RateSchedule)
    accumulate: int = 1
    workers: int = 0
    save_minutes: float = 5.0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    autocast: torch.dtype | None = None


class Trainer:
    """Walks the phases of a recipe over one training set.

    Args:
        learners: one a network, made for images of ``options.sizes.full``.
        walk: the phases.
        dataset: training images; its labels are the given ones.
        num_classes: C.
        true_labels: (N,) for the logs alone, -1 where the identity is no class; or None.
        measure: called after epochs in which ``measure_at(epoch)`` with networks and image size; gives entries for the
            epoch's line, once for the networks and once more, under ``ema``, for the averages of their weights.
    """

    def __init__(
        self,
        learners: Sequence[Learner],
        walk: PhaseWalk,
        dataset: TrainImages,
        num_classes: int,
        options: TrainerOptions,
        events: Events,
        measure: Callable[[Sequence[Network], Size], dict[str, Any]],
        measure_at: Callable[[int], bool],
        true_labels: NDArray[np.int64] | None = None,
    ) -> None:
        self.learners, self.walk, self.dataset = list(learners), walk, dataset
        self.num_classes, self.options, self.events = num_classes, options, events
        self.measure, self.measure_at, self.true_labels = measure, measure_at, true_labels
        self.image_size = options.sizes.full
        self.epoch, self.next_step = walk.first_epoch, 0
        self.history: list[EpochSummary] = []
        self.recorder = EpochRecorder(len(dataset.samples))
        self.seconds = 0.0
        self.without_loss = [0] * len(self.learners)
        self.overflows = [0] * len(self.learners)
        self._saved = time.monotonic()
        for phase in walk.phases:
            phase.method.begin(dataset.labels, num_classes)

    @property
    def networks(self) -> list[Network]:
        """In order."""
        return [learner.network for learner in self.learners]

    def resize(self, size: Size) -> None:
        """See and measure images of another size from now on."""
        self.dataset.transform = self.options.transform(size)
        if size != self.image_size:
            for learner in self.learners:
                learner.set_image_size(size)
            self.image_size = size

    def fit(self) -> None:
        """Train from where it stands to the end of the recipe.

        Raises:
            Interrupted: a signal asked to stop; everything was saved.
            NumericalError: a loss is not finite.
        """
        while self.epoch < self.walk.epochs:
            self._train_epoch()
            self._close_epoch()

    def _train_epoch(self) -> None:
        started = time.monotonic()
        before = self.seconds
        phase = self.walk.phases[self.walk.position(self.epoch)]
        if self.next_step == 0:
            self.recorder = EpochRecorder(len(self.dataset.samples))
            self.without_loss = [0] * len(self.learners)
            self.overflows = [0] * len(self.learners)
            phase.method.start_epoch(self.epoch)
        self.resize(self.options.sizes.of(self.walk, self.epoch))
        for learner in self.learners:
            learner.prepare(phase.frozen, phase.dropout)
        batch_size = self.options.sizes.batch(self.image_size)
        pin = self.options.device.type == "cuda"
        loader = train_loader(self.dataset, batch_size, self.epoch, self.next_step, self.options.workers, pin)
        steps = self.next_step + len(loader)
        updates = -(-steps // self.options.accumulate)
        # A run that goes on after the last batch of an epoch makes no update in it, but the epoch's line has its rates.
        self._set_rates(updates - 1, updates)
        for batch in loader:
            update, part = divmod(self.next_step, self.options.accumulate)
            last_part = part + 1 == self.options.accumulate or self.next_step + 1 == steps
            if part == 0:
                self._set_rates(update, updates)
                for learner in self.learners:
                    learner.begin()
            # One batch an update has the weight 1, so that its gradients are the plain ones to the last bit.
            weight = 1.0 if self.options.accumulate == 1 else len(batch.index) / batch_size
            result = self._step(batch, weight, last_part)
            self.next_step += 1
            self.seconds = before + time.monotonic() - started
            self.events.step(
                self.epoch, self.next_step, steps, [None if v is None else v.item() for v in result.losses]
            )
            if last_part:  # gradients that wait for more batches are in no checkpoint
                self._save_if_due_or_asked(last_step=self.next_step == steps)

    def _set_rates(self, update: int, updates: int) -> None:
        phase = self.walk.phases[self.walk.position(self.epoch)]
        own = 1.0 if phase.lr is None else phase.lr / self.options.lr
        factor = own * self.options.schedule.factor(self.walk, self.epoch, update, updates)
        for learner in self.learners:
            learner.set_rate(factor)

    def _step(self, batch: Batch, weight: float, last_part: bool) -> StepResult:
        device, kind = self.options.device, self.options.autocast
        phase = self.walk.phases[self.walk.position(self.epoch)]
        images = {
            view: tensor.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
            for view, tensor in batch.images.items()
        }
        moved = Batch(batch.index, batch.labels.to(device), batch.camids.to(device), images)
        outputs = []
        for k, network in enumerate(self.networks):
            # Dropout is a function of (seed, network, epoch, step), so a resumed run has no generator to restore.
            torch.manual_seed(stream_seed(self.options.seed, "dropout", k, self.epoch, self.next_step))
            with torch.autocast(device.type, kind or torch.bfloat16, enabled=kind is not None):
                output = network(images["weak"])
            outputs.append(output.float())
        result = phase.method.step(outputs, moved)
        self._check_finite(result)
        self.without_loss = [count + (loss is None) for count, loss in zip(self.without_loss, result.losses)]
        present = [(loss, learner) for loss, learner in zip(result.losses, self.learners) if loss is not None]
        # All gradients before any update: a loss that is worked out in chunks needs both networks as they were.
        if present:
            torch.autograd.backward([learner.scaled(loss, weight) for loss, learner in present])
        if last_part:
            for k, learner in enumerate(self.learners):
                self.overflows[k] += learner.update(f"epoch {self.epoch}, step {self.next_step}") == "overflow"
        seen = {} if {"prediction", "confidence"} <= result.records.keys() else evidence(outputs)
        self.recorder.add(batch.index, {**seen, **result.records})
        return result

    def _check_finite(self, result: StepResult) -> None:
        for k, loss in enumerate(result.losses):
            if loss is not None and not bool(torch.isfinite(loss)):
                rate = self.learners[k].optimizer.param_groups[0]["lr"]
                advice = "" if self.options.autocast is None else "--amp off, or with "
                raise NumericalError(
                    f"the loss of network {k} is {loss.item()} in epoch {self.epoch}, step {self.next_step} (learning "
                    f"rate {rate:g}); no update was made with it, and checkpoints written before are kept. Start again with "
                    f"{advice}a lower --lr, or with a lower --new_layer_mult"
                )

    def _check_weights(self) -> None:
        """The last update may have broken what the next loss would show: such weights must not replace good ones."""
        for k, network in enumerate(self.networks):
            for name, tensor in network.state_dict().items():
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    raise NumericalError(
                        f"{name} of network {k} is not finite in epoch {self.epoch}; it is not saved, and checkpoints "
                        "written before are kept. Start again with a lower --lr, or with a lower --new_layer_mult"
                    )

    def _save_if_due_or_asked(self, last_step: bool) -> None:
        signal = self.events.stop_requested()
        if signal is not None:
            self._save()
            raise Interrupted(
                f"stopped by signal {signal} in epoch {self.epoch} after step {self.next_step}; everything is saved",
                128 + signal,
            )
        if not last_step and time.monotonic() - self._saved > 60 * self.options.save_minutes > 0:
            self._save()

    def _save(self, also: Sequence[str] = ()) -> None:
        self._check_weights()
        self.events.save(also)
        self._saved = time.monotonic()

    def _close_epoch(self) -> None:
        epoch, position = self.epoch, self.walk.position(self.epoch)
        phase = self.walk.phases[position]
        records = self.recorder.arrays
        state = phase.method.state_dict()
        phase.method.end_epoch(records)
        summary = summarize(epoch, position, records, self.dataset.labels, self.num_classes)
        self.history.append(summary)
        switched = self.walk.close(epoch, self.history)
        line: dict[str, Any] = {**asdict(summary), "phase_name": phase.name}
        line["image_size"] = list(self.image_size)
        line["without_loss"] = list(self.without_loss)
        line["overflows"] = list(self.overflows)
        line["lr"] = [[group["lr"] for group in learner.optimizer.param_groups] for learner in self.learners]
        line["method"] = {name: value for name, value in state.items() if not isinstance(value, Tensor)}
        if self.true_labels is not None:
            predicted = records["prediction"]
            seen = (predicted[0] >= 0) & (self.true_labels >= 0)
            if seen.any():
                line["true_agreement"] = [float(v) for v in (predicted == self.true_labels)[:, seen].mean(axis=1)]
        line.update(selected_shares(records, self.dataset.labels, self.true_labels))
        if switched:
            line["next_phase"] = self.walk.phases[position + 1].name
        if phase.watch_collapse:
            line["warning"] = collapse_warning(
                self.history, self.walk.starts[position], self.walk.frozen_epochs, self.walk.epochs
            )
        if self.measure_at(epoch) or epoch + 1 == self.walk.epochs:
            line.update(self.measure(self.networks, self.image_size))
            shadows = [learner.average.shadow for learner in self.learners if learner.average is not None]
            if shadows:
                line["ema"] = self.measure(shadows, self.image_size)
        line["seconds"] = round(self.seconds, 3)
        keep = list(self.events.epoch(line, records))
        self.epoch, self.next_step, self.seconds = epoch + 1, 0, 0.0
        finished = self.epoch == self.walk.epochs
        due = time.monotonic() - self._saved >= 60 * self.options.save_minutes
        if switched or finished:
            keep.append(f"phase_{position}")
        if keep or due:
            self._save(keep)
        signal = self.events.stop_requested()
        if signal is not None and not finished:
            self._save()
            raise Interrupted(f"stopped by signal {signal} after epoch {epoch}; everything is saved", 128 + signal)
