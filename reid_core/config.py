"""Settings of a training run: defaults < the data set's own < TOML file < command line."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reid_core.errors import UsageError
from reid_core.plugins import closest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def setting(default: Any, help: str, group: str, **more: Any) -> Any:
    """A field of a settings class: its default, and what ``--help`` says of it."""
    return field(default=default, metadata={"help": help, "group": group, **more})


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run. A None means: the schedule's, data set's or augmentation's own."""

    dataset: str = setting(
        "market1501", "data set: market, duke, cuhk03, msmt17, manifest, pid_folders, synthetic, image_folder", "data"
    )
    data_dir: str = setting("../", "the data set's folder, or the folder it lies in", "data")
    train_split: str = setting("train", "train, or train_all with the prepared validation images", "data")
    protocol: str | None = setting(None, "market1501, cuhk03 or any-camera (default: the data set's)", "data")
    allow_outside: bool = setting(False, "a manifest may name images outside its own folder", "data")
    labels: str | None = setting(None, "CSV (path,label) with the labels you have; no noise is added", "data")
    on_bad_image: str = setting(
        "error", "error: name all bad images and stop; skip: train without them", "data", choices=("error", "skip")
    )
    max_bad_images: float = setting(0.01, "with skip: the share of bad images that is still accepted", "data")
    image_size: tuple[int, int] = setting(
        (256, 128), "height and width in pixels; class folders: those of timm for the architecture", "data"
    )
    small_size: tuple[int, int] | None = setting(
        None, "height and width of the first epochs; --image_size is that of the rest then", "data"
    )
    small_share: float = setting(0.6, "with --small_size: the share of the epochs with small images", "data")
    augment: str = setting("reid", "training augmentation", "data", choices=("reid", "small", "classes", "none"))
    mirror: bool = setting(True, "classes: mirror half of the training images", "data", negatable=True)
    trivial_augment: bool | None = setting(
        None, "one random change of colour or shape an image (default: with --augment classes)", "data", negatable=True
    )
    random_erasing: float | None = setting(
        None, "share of training images of which a rectangle is blanked (default 0; classes: 0.25)", "data"
    )
    workers: int = setting(2, "loader processes; the batches do not depend on it", "data")

    imbalance: str | None = setting(
        None,
        "make the training images long-tailed, before any noise: exp (from class to class fewer) or step (half of the "
        "classes small)",
        "data",
        choices=("exp", "step"),
    )
    imbalance_factor: float | None = setting(
        None, "with --imbalance: smallest over largest class, in (0, 1]; 0.1 or 0.01 are usual", "data"
    )

    noise: str = setting("random", "noise model: random, symmetric, asymmetric or patterned", "noise")
    noise_ratio: float = setting(
        0.0,
        "share of training labels made wrong, in [0, 1] (published and synthetic data: 0.2, as the reference has it)",
        "noise",
    )
    noise_seed: int = setting(
        1,
        "seed of the noise, of the images that --imbalance keeps, and of what --val_ids or --val_images hold out",
        "noise",
    )
    asymmetric_pairs: tuple[str, ...] = setting(
        (),
        "with --noise asymmetric: which class is taken for which (default: CIFAR-10's published pairs for its classes, else "
        "each class for the next)",
        "noise",
        metavar="FROM=TO",
    )
    pattern: bool = setting(False, "the same as --noise patterned", "noise")
    pattern_from: str | None = setting(
        None, "finished run on clean labels whose second choices make the pattern", "noise"
    )

    method: str = setting("core", "baseline, self_refine, core, peer or core_peer", "method")
    schedule: str = setting(
        "default",
        "reference and paper: as published; default: 60 epochs or --epochs",
        "method",
        choices=("reference", "paper", "default"),
    )
    epochs: int | None = setting(None, "length of a run with --schedule default", "method")
    switch: str | None = setting(
        None, "first epoch of CORE's (core_peer's) phase, or auto (the default of --schedule default)", "method"
    )
    selective: bool = setting(False, "CORE: no hard term where the networks disagree", "method", negatable=True)
    soft_weight: float | None = setting(
        None, "CORE, core_peer: weight of the soft term (default: 1; core_peer after peer learning 0.5)", "method"
    )
    refused_weight: float | None = setting(
        None,
        "core_peer: weight of the hard term where both networks refuse the given label (default: 1; after peer learning 0)",
        "method",
    )
    supported_weight: float | None = setting(
        None,
        "core_peer: weight of the given label where the networks differ and one of them predicts it (default: 1)",
        "method",
    )
    differ_weight: float | None = setting(
        None,
        "core_peer: weight of the given label where the networks differ and neither predicts it (default: 0; after peer "
        "learning 1)",
        "method",
    )
    before_switch: str = setting(
        "self_refine",
        "core_peer: what trains until the switch; peer suits long tails and is the default for class folders",
        "method",
        choices=("self_refine", "peer"),
    )
    confidence_from: str = setting(
        "base", "SELF: loss that the confidence is made of", "method", choices=("base", "combined")
    )
    drop_rate: str | None = setting(
        None,
        "peer, core_peer: share of the images predicted alike whose label is refused; auto: as many as have another label than "
        "that prediction, the least of all epochs so far (default: 0.25; core_peer after SELF: auto, of each batch)",
        "method",
    )
    drop_ramp: int | None = setting(
        None,
        "peer, core_peer: epochs until the drop rate is reached (default: 10; with auto 1). core_peer's auto of each batch has "
        "none: with a ramp it is the least of all epochs so far",
        "method",
    )
    tau: float = setting(0.0, "peer, core_peer: strength of the prior of balanced softmax (class folders: 1)", "method")
    smoothing: float = setting(
        0.0, "peer, core_peer: share of each label spread over all classes (class folders: 0.1)", "method"
    )
    rank_with: str = setting(
        "plain",
        "peer, core_peer: cross-entropy that picks, without or with the prior",
        "method",
        choices=("plain", "balanced"),
    )
    min_keep: int = setting(0, "peer, core_peer: images of a batch that are picked at least", "method")
    plain_epochs: int = setting(0, "peer: epochs of cross-entropy on both networks first, a part of the run", "method")
    stage1_epochs: int = setting(
        0, "epochs before the run in which all but the backbones train, with the method's first phase", "method"
    )
    stage1_lr: float | None = setting(None, "base learning rate of those epochs (default: --lr)", "method")

    arch: tuple[str, ...] = setting(
        ("resnet50",), "any timm architecture; two for two networks of different kinds", "network", metavar="ARCH"
    )
    normalisation: str = setting(
        "timm",
        "timm: each network's images as its own configuration has them; imagenet: all as for ImageNet",
        "network",
        choices=("timm", "imagenet"),
    )
    neck: str | None = setting(
        None, "fc512, bnneck or none (default: bnneck, with published schedules fc512)", "network"
    )
    neck_dim: int = setting(512, "width of the fc512 neck", "network")
    dropout: float = setting(0.5, "dropout of the fc512 neck; small data sets may want 0", "network")
    chunk_classes: int = setting(
        250_000,
        "with more classes than this, losses are worked out in chunks of classes: logits never take memory, a step takes longer",
        "network",
    )
    weights: tuple[str, ...] = setting(
        ("none",),
        "initial weights: a local state dict, imagenet (asks timm's hub), or none; one for all networks or one each",
        "network",
        metavar="WEIGHTS",
    )

    batchsize: int = setting(32, "images a batch", "optimization")
    accumulate: int = setting(1, "batches whose gradients make one update", "optimization")
    optimizer: str = setting("sgd", "sgd (Nesterov momentum) or adamw", "optimization", choices=("sgd", "adamw"))
    lr: float | None = setting(None, "base learning rate (default 0.01; paper: 0.1; adamw: 0.001)", "optimization")
    new_layer_mult: float | None = setting(
        None, "rate of neck and classifier over the base rate (default 10; paper and adamw: 1)", "optimization"
    )
    backbone_mult: float | None = setting(
        None, "rate of the backbone over the base rate (default 1; adamw: 0.1)", "optimization"
    )
    layer_decay: str = setting(
        "auto",
        "rates that fall from the head to the stem: on (a stage, a step), block (a block, a step), off, or auto: on for "
        "Swin and ConvNeXt outside the published schedules",
        "optimization",
        choices=("auto", "on", "block", "off"),
    )
    layer_decay_rate: float | None = setting(
        None, "factor of a step of --layer_decay (default 0.7 a stage, 0.9 a block)", "optimization"
    )
    lr_schedule: str = setting(
        "phase",
        "phase: a factor an epoch, as the method's recipe says; cosine: warm-up and half a cosine, step by step; "
        "legacy: as the released program of peer learning",
        "optimization",
        choices=("phase", "cosine", "legacy"),
    )
    warmup_epochs: float = setting(
        5.0, "epochs of warm-up with cosine and legacy, at most half of a stretch", "optimization"
    )
    momentum: float = setting(0.9, "SGD momentum (Nesterov)", "optimization")
    weight_decay: float | None = setting(
        None, "weight decay (default 0.0005; adamw: 0.05 for Swin and ConvNeXt, 0.01 for others)", "optimization"
    )
    clip_grad: float = setting(0.0, "largest norm of each network's gradients together; 0: any", "optimization")
    ema: float = setting(
        0.0,
        "decay of a moving average of each network's weights, measured beside them (0.9999; short runs 0.999); 0: none",
        "optimization",
    )
    amp: str = setting(
        "off",
        "bf16: forward passes in bfloat16, up to twice as fast where the device has it; fp16: in float16 with scaled "
        "gradients, on CUDA; auto: bf16 where the device has it",
        "optimization",
        choices=("off", "bf16", "fp16", "auto"),
    )
    seed: int = setting(1, "seed of networks, order, augmentation and dropout", "optimization")

    eval_every: int | None = setting(
        None, "epochs between measurements, 0: only at the end (default: a tenth of the run)", "evaluation"
    )
    val_ids: float = setting(
        0.0,
        "share of identities, in [0, 1), cut off after the noise; ranking them chooses the epoch that is reported "
        "(default: none; the last epoch is reported)",
        "evaluation",
    )
    val_images: float = setting(
        0.0,
        "share of the images of every class, in [0, 1), held out after the noise; classifying them as labelled chooses the "
        "epoch that is reported (class folders; default: none)",
        "evaluation",
    )
    flip: bool | None = setting(
        None, "measure with mirror images too (default: with --augment reid)", "evaluation", negatable=True
    )
    max_rank: int = setting(50, "length of the CMC", "evaluation")

    out: str = setting("runs", "folder for run folders", "run", alias="model_dir")
    name: str | None = setting(None, "name of the run folder", "run")
    resume: str | None = setting(None, "go on with this run, by name or folder, to the same bits", "run")
    stage1: bool = setting(False, "first phase alone: with --stage1_epochs those, else SELF of CORE", "run")
    stage2: bool = setting(False, "everything after the first phase alone, from --from_self", "run")
    from_self: tuple[str, ...] = setting((), "run, or two weight files, that --stage2 starts from", "run")
    device: str = setting("auto", "device", "run", choices=("auto", "cpu", "cuda", "mps"))
    gpu: str | None = setting(None, "number of the CUDA device; -1 is the CPU", "run")
    threads: int | None = setting(None, "CPU threads (default: torch's)", "run")
    save_minutes: float = setting(5.0, "minutes between checkpoints; 0: after every epoch", "run")
    on_save_error: str = setting(
        "stop",
        "when a checkpoint cannot be written: stop; or continue, saying so, until the next one",
        "run",
        choices=("stop", "continue"),
    )

    def replace(self, **changes: Any) -> TrainConfig:
        """A copy with some settings changed."""
        return dataclasses.replace(self, **changes)


def merge(layers: list[Mapping[str, Any]]) -> TrainConfig:
    """The configuration of several layers, later ones winning.

    Raises:
        UsageError: a key is unknown (the nearest known one is named) or a value has the wrong type.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            values[key] = coerce(key, value)
    return TrainConfig(**values)


def coerce(key: str, value: Any) -> Any:
    """``value`` in the type of setting ``key``; lists, and one string for many, become tuples, whole numbers floats."""
    hints = typing.get_type_hints(TrainConfig)
    if key not in hints:
        raise UsageError(f"unknown setting {key!r}.{closest(key, hints)} reid-core train --help lists all of them")
    hint = hints[key]
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        base = typing.get_origin(option) or option
        if base is tuple and isinstance(value, str) and typing.get_args(option) == (str, ...):
            return (value,)  # one architecture, one file: as it is written without brackets
        if base is tuple and isinstance(value, (list, tuple)):
            inner = typing.get_args(option)
            if inner[-1] is Ellipsis or len(inner) == len(value):
                if all(isinstance(v, inner[0]) for v in value):
                    return tuple(value)
        elif base is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        elif base is int and isinstance(value, bool):
            continue
        elif isinstance(value, base):
            return value
    if key in ("switch", "gpu") and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if key == "drop_rate" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    names = " or ".join("nothing" if o is type(None) else getattr(o, "__name__", str(o)) for o in options)
    raise UsageError(f"setting {key} must be {names}, got {value!r}")


def read_toml(path: Path) -> dict[str, Any]:
    """Settings from a TOML file; only what differs from the defaults need stand in it.

    Raises:
        UsageError: the file is missing or is not TOML (with the line), or a key is unknown.
    """
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except FileNotFoundError as error:
        raise UsageError(f"--config {path}: there is no such file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path}: not a TOML file: {error}") from error
    except OSError as error:
        raise UsageError(f"--config {path}: cannot be read: {error.strerror}") from error
    return {key: coerce(key, value) for key, value in values.items()}
