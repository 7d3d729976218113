"""What becomes of the trainer's events: lines, records, TensorBoard and checkpoints in the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from tensorboardX import SummaryWriter

from reid_core.engine.measure import CHOOSING, curves
from reid_core.engine.reporter import Reporter
from reid_core.engine.run_folder import RunFolder
from reid_core.engine.signals import StopRequest
from reid_core.engine.state import pack
from reid_core.engine.trainer import Trainer
from reid_core.engine.validation import best_epoch
from reid_core.errors import CheckpointError


class RunEvents:
    """Writes a run's folder and passes on to the screen; the ``Events`` of a trainer.

    Args:
        run: the folder.
        reporter: the screen.
        stop: what signals ask for.
        identity: stored with every checkpoint.
        survive: a checkpoint that cannot be written is reported, and training goes on until the next one.
    """

    def __init__(
        self, run: RunFolder, reporter: Reporter, stop: StopRequest, identity: Mapping[str, Any], survive: bool = False
    ) -> None:
        self.run, self.reporter, self.stop, self.identity, self.survive = run, reporter, stop, identity, survive
        self.trainer: Trainer | None = None
        self.writer: SummaryWriter | None = None
        self.steps_done: int | None = None

    def watch(self, trainer: Trainer) -> None:
        """The trainer whose state is saved."""
        self.trainer = trainer

    def step(self, epoch: int, step: int, steps: int, losses: Sequence[float | None]) -> None:
        """Pass on to the screen."""
        self.steps_done = epoch * steps + step
        self.reporter.step(epoch, step, steps, losses)

    def epoch(self, line: dict[str, Any], records: Mapping[str, NDArray[Any]]) -> Sequence[str]:
        """Write the epoch's line, records and curves; ``best`` is wanted if validation says that it is."""
        self.run.append_metrics(line)
        self.run.write_records(line["epoch"], records)
        self.run.set_status("running", epoch=line["epoch"], step=self.steps_done)
        self._curves(line)
        self.reporter.epoch(line)
        is_best = "validation" in line and best_epoch(self.run.metrics()) == line["epoch"]
        return ("best",) if is_best else ()

    def save(self, also: Sequence[str]) -> None:
        """Write a checkpoint."""
        if self.trainer is None:
            raise RuntimeError("save() before watch()")
        arrays, values = pack(self.trainer)
        try:
            self.run.checkpoints.save(arrays, {**values, "identity": dict(self.identity)}, also=also)
        except CheckpointError as error:
            # A run that was asked to stop would claim that everything is saved.
            if not self.survive or self.stop.requested is not None:
                raise
            self.reporter.note(f"warning: {error} Training goes on (--on_save_error continue).")
            return
        self.run.set_status("running", step=self.steps_done)

    def stop_requested(self) -> int | None:
        """The first signal that came."""
        return self.stop.requested

    def _curves(self, line: Mapping[str, Any]) -> None:
        epoch = line["epoch"]
        if self.writer is None:
            self.writer = SummaryWriter(str(self.run.path / "tensorboard"), purge_step=epoch)
        for name in ("losses", "given_loss", "given_agreement", "true_agreement", "distinct", "confidence"):
            for k, value in enumerate(line.get(name, ())):
                self.writer.add_scalar(f"{name}/{k}", value, epoch)
        for k, rates in enumerate(line["lr"]):
            for group, rate in enumerate(rates):
                self.writer.add_scalar(f"lr/{k}/{group}", rate, epoch)
        for name in ("selected", "selected_precision", "selected_recall"):
            for k, value in enumerate(line.get(name, ())):
                if value is not None:
                    self.writer.add_scalar(f"{name}/{k}", value, epoch)
        self.writer.add_scalar("agreement", line["agreement"], epoch)
        for k, result in enumerate(line.get("evaluation", {}).get("networks", ())):
            for name, value in curves(result).items():
                self.writer.add_scalar(f"{name}/{k}", value, epoch)
        for k, result in enumerate(line.get("ema", {}).get("evaluation", {}).get("networks", ())):
            for name, value in curves(result).items():
                self.writer.add_scalar(f"ema_{name}/{k}", value, epoch)
        for k, result in enumerate(line.get("validation", {}).get("networks", ())):
            for name in set(CHOOSING) & result.keys():
                self.writer.add_scalar(f"validation_{name}/{k}", result[name], epoch)
        self.writer.flush()
