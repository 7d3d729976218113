"""The loop. Every network's forward before any update; it can stop anywhere and go on to the same bits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reid_core.data._dataset import TrainImages, train_loader
from reid_core.engine.evidence import collapse_warning, selected_shares, summarize
from reid_core.engine.optim import set_rate
from reid_core.engine.phases import PhaseWalk
from reid_core.engine.records import EpochRecorder, evidence
from reid_core.errors import Interrupted, NumericalError
from reid_core.models._network import Network
from reid_core.randomness import stream_seed
from reid_core.types import Batch, EpochSummary, StepResult

log = logging.getLogger(__name__)


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
    """Settings of the loop: images a batch, seed of order, augmentation and dropout, loader workers, minutes
    between checkpoints (they are also written at the end of every phase and where the events ask), device, and whether forward passes
    run in bfloat16 where torch's autocast deems that safe (weights, logits and losses stay float32)."""

    batch_size: int
    seed: int
    workers: int = 0
    save_minutes: float = 5.0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    bf16: bool = False


class Trainer:
    """Walks the phases of a recipe over one training set.

    Args:
        networks, optimizers: one each a network.
        walk: the phases.
        dataset: training images; its labels are the given ones.
        num_classes: C.
        true_labels: (N,) for the logs alone, -1 where the identity is no class; or None.
        measure: called after epochs in which ``measure_at(epoch)``; gives entries for the epoch's line.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        optimizers: Sequence[torch.optim.Optimizer],
        walk: PhaseWalk,
        dataset: TrainImages,
        num_classes: int,
        options: TrainerOptions,
        events: Events,
        measure: Callable[[], dict[str, Any]],
        measure_at: Callable[[int], bool],
        true_labels: NDArray[np.int64] | None = None,
    ) -> None:
        self.networks, self.optimizers, self.walk, self.dataset = list(networks), list(optimizers), walk, dataset
        self.num_classes, self.options, self.events = num_classes, options, events
        self.measure, self.measure_at, self.true_labels = measure, measure_at, true_labels
        self.epoch, self.next_step = walk.first_epoch, 0
        self.history: list[EpochSummary] = []
        self.recorder = EpochRecorder(len(dataset.samples))
        self.seconds = 0.0
        self._saved = time.monotonic()
        for phase in walk.phases:
            phase.method.begin(dataset.labels, num_classes)

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
        position = self.walk.position(self.epoch)
        method = self.walk.phases[position].method
        if self.next_step == 0:
            self.recorder = EpochRecorder(len(self.dataset.samples))
            method.start_epoch(self.epoch)
        for optimizer in self.optimizers:
            set_rate(optimizer, self.walk.rate(self.epoch))
        pin = self.options.device.type == "cuda"
        loader = train_loader(
            self.dataset, self.options.batch_size, self.epoch, self.next_step, self.options.workers, pin
        )
        steps = self.next_step + len(loader)
        for batch in loader:
            result = self._step(batch)
            self.next_step += 1
            self.seconds = before + time.monotonic() - started
            self.events.step(
                self.epoch, self.next_step, steps, [None if v is None else v.item() for v in result.losses]
            )
            self._save_if_due_or_asked(last_step=self.next_step == steps)

    def _step(self, batch: Batch) -> StepResult:
        device = self.options.device
        phase = self.walk.phases[self.walk.position(self.epoch)]
        images = {
            view: tensor.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
            for view, tensor in batch.images.items()
        }
        moved = Batch(batch.index, batch.labels.to(device), batch.camids.to(device), images)
        outputs = []
        for k, network in enumerate(self.networks):
            self._set_mode(network, dropout=phase.dropout)
            # Dropout is a function of (seed, network, epoch, step), so a resumed run has no generator to restore.
            torch.manual_seed(stream_seed(self.options.seed, "dropout", k, self.epoch, self.next_step))
            with torch.autocast(device.type, torch.bfloat16, enabled=self.options.bf16):
                output = network(images["weak"])
            outputs.append(output.float())
        result = phase.method.step(outputs, moved)
        self._check_finite(result)
        present = [(loss, optimizer) for loss, optimizer in zip(result.losses, self.optimizers) if loss is not None]
        for _, optimizer in present:
            optimizer.zero_grad(set_to_none=True)
        # All gradients before any update: a loss that is worked out in chunks needs both networks as they were.
        torch.autograd.backward([loss for loss, _ in present])
        for _, optimizer in present:
            if self.options.bf16:
                self._check_gradients(optimizer)
        for _, optimizer in present:
            optimizer.step()
        seen = {} if {"prediction", "confidence"} <= result.records.keys() else evidence(outputs)
        self.recorder.add(batch.index, {**seen, **result.records})
        return result

    @staticmethod
    def _set_mode(network: Network, dropout: bool) -> None:
        network.train()
        if not dropout:
            for module in network.modules():
                if isinstance(module, nn.modules.dropout._DropoutNd):
                    module.eval()

    def _check_finite(self, result: StepResult) -> None:
        for k, loss in enumerate(result.losses):
            if loss is not None and not bool(torch.isfinite(loss)):
                rate = self.optimizers[k].param_groups[0]["lr"]
                raise NumericalError(
                    f"the loss of network {k} is {loss.item()} in epoch {self.epoch}, step {self.next_step} (learning "
                    f"rate {rate:g}); no update was made with it, and checkpoints written before are kept. Start again with a "
                    "lower --lr, or with a lower --new_layer_mult"
                )

    def _check_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """Some processors' bfloat16 convolutions give no sound gradient where the feature map is a single position."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients))):
            raise NumericalError(
                f"a gradient is not finite in epoch {self.epoch}, step {self.next_step}, though the loss is; no update was "
                "made with it. bfloat16 cannot train this network at this image size on this device: use --amp off, or a "
                "larger --image_size"
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
        line["lr"] = [group["lr"] for group in self.optimizers[0].param_groups]
        line["method"] = {name: value for name, value in state.items() if not isinstance(value, Tensor)}
        if self.true_labels is not None:
            predicted = records["prediction"]
            seen = (predicted[0] >= 0) & (self.true_labels >= 0)
            if seen.any():
                line["true_agreement"] = [float(v) for v in (predicted == self.true_labels)[:, seen].mean(axis=1)]
        line.update(selected_shares(records, self.dataset.labels, self.true_labels))
        if switched:
            line["next_phase"] = self.walk.phases[position + 1].name
        if not phase.uses_given_labels:
            line["warning"] = collapse_warning(self.history, self.walk.starts[position])
        if self.measure_at(epoch) or epoch + 1 == self.walk.epochs:
            line.update(self.measure())
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
