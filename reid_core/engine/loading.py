"""Trained networks from a run folder or one of its checkpoint files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from reid_core.engine.checkpoint import CheckpointFolder, read_checkpoint
from reid_core.engine.compatible import modern
from reid_core.engine.state import network_tensors
from reid_core.errors import CheckpointError, UsageError
from reid_core.models._network import Network, build_network


@dataclass(frozen=True)
class TrainedNetworks:
    """Networks in evaluation mode, and what is known of their run.

    Attributes:
        networks: in order.
        identity: arch, neck, class names and the like, as stored in the checkpoint; the image size is the checkpoint's.
        config: the run's configuration, or {} for a checkpoint file that lies elsewhere.
        source: the file they came from.
        run: the folder of their run, if the file lies where a run has it.
    """

    networks: list[Network]
    identity: dict[str, Any]
    config: dict[str, Any]
    source: Path
    run: Path


def load_networks(source: Path, name: str = "last", averaged: bool = False) -> TrainedNetworks:
    """Load every network of a run or checkpoint.

    Args:
        source: a run folder, or a ``.safetensors`` file of ours.
        name: which checkpoint of a run folder: ``last``, ``previous``, ``best``, ``phase_0``, ...
        averaged: the moving averages of the weights instead.

    Raises:
        UsageError: there is neither a run nor a checkpoint, or a run without ``best``, or without averages.
        CheckpointError: the file is damaged or is no checkpoint of a training run.
    """
    if (source / "checkpoints").is_dir():
        folder = CheckpointFolder(source / "checkpoints")
        if name == "best" and name not in folder.names():
            raise UsageError(
                f"{source}: there is no {folder.path(name)}: a run has a best checkpoint only if it was trained with "
                f"--val_ids or --val_images and has measured an epoch. It has: {', '.join(folder.names()) or 'none at all'}"
            )
        checkpoint, run = folder.load(name), source
        path = folder.path(checkpoint.name)
    elif source.is_file():
        checkpoint, path, run = read_checkpoint(source), source, source.parent.parent
    else:
        raise UsageError(f"{source}: neither a run folder with checkpoints nor a checkpoint file")
    if checkpoint.meta.get("identity") is None:
        raise CheckpointError(f"{path}: not a checkpoint of a training run (it does not say what network it holds)")
    identity = modern(checkpoint.meta["identity"])
    # A run whose images grow saves networks of the size that they have just seen.
    identity["image_size"] = checkpoint.meta.get("image_size", identity["image_size"])
    networks = []
    for k in range(identity["num_networks"]):
        network = build_network(
            identity["arch"][k],
            identity["num_classes"],
            neck=identity["neck"],
            neck_dim=identity["neck_dim"],
            image_size=tuple(identity["image_size"]),
            normalisation=identity["normalisation"],
        )
        tensors = network_tensors(checkpoint.tensors, k, averaged)
        if not tensors:
            raise UsageError(f"{path}: it holds no average of weights; the run was trained without --ema")
        network.load_state_dict(tensors)
        networks.append(network.to(memory_format=torch.channels_last).eval())
    return TrainedNetworks(networks, identity, _config_of(run), path, run)


def _config_of(run: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((run / "config.json").read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return config
