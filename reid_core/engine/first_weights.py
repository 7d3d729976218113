"""What the networks of a run start from: the seed, a file, timm's hub, or an earlier run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from reid_core.config import TrainConfig
from reid_core.engine.checkpoint import read_checkpoint
from reid_core.engine.compatible import check_compatible, modern
from reid_core.engine.state import network_tensors
from reid_core.errors import UsageError
from reid_core.models._input import input_config
from reid_core.models._network import Network, build_network
from reid_core.models._weights import CLASSIFIERS, WeightsReport, load_weights


def build_networks(
    config: TrainConfig, class_names: Sequence[str], count: int, note: Callable[[str], None]
) -> list[Network]:
    """The networks of a run with their first weights: from the seed, a file, timm's hub, or an earlier SELF run.

    Args:
        config: with an architecture for each network.
        class_names: (C,).
        count: networks.
        note: told what came of a file.
    """
    networks = []
    for k in range(count):
        source = config.weights[min(k, len(config.weights) - 1)]
        network = build_network(
            config.arch[k],
            len(class_names),
            neck=config.neck or "bnneck",
            neck_dim=config.neck_dim,
            dropout=config.dropout,
            image_size=config.image_size,
            pretrained=source == "imagenet",
            seed=config.seed,
            position=k,
            chunk_classes=config.chunk_classes,
            normalisation=config.normalisation,
        )
        if source not in ("imagenet", "none"):
            note(f"network {k}: {_load_file(network, Path(source), config.image_size).summary()}")
        networks.append(network.to(memory_format=torch.channels_last))
    if config.from_self:
        _load_self(config, class_names, networks)
    return networks


def _load_file(network: Network, file: Path, size: tuple[int, int]) -> WeightsReport:
    """Load a state dict; position tables for the size that the architecture was trained at are fitted to ``size``."""
    report = load_weights(network.state_dict(), file, (*CLASSIFIERS, "neck"))
    native = input_config(network.arch).get("input_size", (3, *size))[1:]
    if report.mismatched and native != size:
        network.set_image_size(native)
        report = load_weights(network.state_dict(), file, (*CLASSIFIERS, "neck"))
        network.set_image_size(size)
    return report


def _load_self(config: TrainConfig, class_names: Sequence[str], networks: Sequence[Network]) -> None:
    sources = [checkpoint_file(config, source) for source in config.from_self]
    if len(sources) not in (1, len(networks)):
        raise UsageError(f"--from_self: one run or {len(networks)} weight files are expected, got {len(sources)}")
    for k, network in enumerate(networks):
        checkpoint = read_checkpoint(sources[min(k, len(sources) - 1)])
        place = k if len(sources) == 1 else 0
        tensors = network_tensors(checkpoint.tensors, place)
        if not tensors:
            raise UsageError(
                f"--from_self {config.from_self[0]}: it holds one network and {len(networks)} are needed; "
                "give a two-network run, or one weight file a network"
            )
        stored = modern(checkpoint.meta["identity"])
        check_compatible(
            {**stored, "arch": stored["arch"][place]},
            {
                "arch": config.arch[k],
                "neck": config.neck,
                "neck_dim": config.neck_dim,
                "class_names": list(class_names),
                "normalisation": config.normalisation,
            },
            where=str(sources[min(k, len(sources) - 1)]),
        )
        height, width = checkpoint.meta.get("image_size", config.image_size)
        try:
            # Position tables have the shape that the images of that run asked for.
            network.set_image_size((height, width))
            network.load_state_dict(tensors)
            network.set_image_size(config.image_size)
        except RuntimeError as error:
            raise UsageError(f"--from_self {config.from_self[0]} does not fit network {k}: {error}") from error


def checkpoint_file(config: TrainConfig, source: str) -> Path:
    """The checkpoint that ``source`` means: a file, or the end of the first phase of a run in ``--out`` or anywhere."""
    for path in (Path(source), Path(config.out) / source):
        if path.is_file():
            return path
        if (path / "checkpoints").is_dir():
            first = path / "checkpoints" / "phase_0.safetensors"
            return first if first.is_file() else path / "checkpoints" / "last.safetensors"
    raise UsageError(f"{source}: neither a checkpoint file nor a run folder, here or in {config.out}")
