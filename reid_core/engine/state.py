"""The whole state of a trainer as arrays and plain values, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_core.engine.optim import optimizer_tensors, restore_optimizer
from reid_core.engine.trainer import Trainer
from reid_core.types import EpochSummary


def pack(trainer: Trainer) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays (``net0.*``, ``opt0.*``, ``ema0.*``, ``method0.*``, ``records.*``) and plain values of ``trainer``."""
    arrays: dict[str, NDArray[Any]] = {}
    for k, learner in enumerate(trainer.learners):
        arrays.update({f"net{k}.{name}": _array(t) for name, t in learner.network.state_dict().items()})
        arrays.update({f"opt{k}.{name}": _array(t) for name, t in optimizer_tensors(learner.optimizer).items()})
        if learner.average is not None:
            arrays.update({f"ema{k}.{name}": _array(t) for name, t in learner.average.shadow.state_dict().items()})
    methods = []
    for p, phase in enumerate(trainer.walk.phases):
        state = phase.method.state_dict()
        arrays.update({f"method{p}.{name}": _array(v) for name, v in state.items() if isinstance(v, Tensor)})
        methods.append({name: v for name, v in state.items() if not isinstance(v, Tensor)})
    if trainer.next_step:
        arrays.update({f"records.{name}": rows for name, rows in trainer.recorder.arrays.items()})
    values = {
        "epoch": trainer.epoch,
        "step": trainer.next_step,
        "seconds": trainer.seconds,
        "without_loss": trainer.without_loss,
        "overflows": trainer.overflows,
        "image_size": list(trainer.image_size),
        "learners": [learner.state_dict() for learner in trainer.learners],
        "walk": trainer.walk.state_dict(),
        "methods": methods,
        "history": [asdict(summary) for summary in trainer.history],
    }
    return arrays, values


def unpack(trainer: Trainer, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> None:
    """Put ``trainer`` where it stood when :func:`pack` was called."""
    # First the size: position tables have the shape that the images ask for.
    height, width = values.get("image_size", trainer.image_size)
    trainer.resize((height, width))
    for k, learner in enumerate(trainer.learners):
        learner.network.load_state_dict(network_tensors(arrays, k))
        restore_optimizer(learner.optimizer, _under(arrays, f"opt{k}."))
        if learner.average is not None:
            learner.average.shadow.load_state_dict(network_tensors(arrays, k, averaged=True))
        learner.load_state_dict(values.get("learners", [{}] * (k + 1))[k])
    for p, phase in enumerate(trainer.walk.phases):
        phase.method.load_state_dict({**values["methods"][p], **_under(arrays, f"method{p}.")})
    trainer.walk.load_state_dict(values["walk"])
    trainer.epoch, trainer.next_step, trainer.seconds = values["epoch"], values["step"], values["seconds"]
    trainer.without_loss = list(values.get("without_loss", [0] * len(trainer.learners)))
    trainer.overflows = list(values.get("overflows", [0] * len(trainer.learners)))
    trainer.recorder.arrays = {
        key.split(".", 1)[1]: np.array(rows) for key, rows in arrays.items() if key.startswith("records.")
    }
    trainer.history = [_summary(entry) for entry in values["history"]]


def network_tensors(arrays: Mapping[str, NDArray[Any]], k: int, averaged: bool = False) -> dict[str, Tensor]:
    """The state dict of network ``k``, or of the average of its weights; empty if there is none."""
    return _under(arrays, f"{'ema' if averaged else 'net'}{k}.")


def _under(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: torch.from_numpy(np.array(a)) for key, a in arrays.items() if key.startswith(prefix)}


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().contiguous().numpy()
    return array


def _summary(entry: Mapping[str, Any]) -> EpochSummary:
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in entry.items()}
    return EpochSummary(**fields)
