"""What a setting that was left open becomes: by schedule, data set and augmentation."""

from __future__ import annotations

import inspect
import math
from functools import partial
from types import ModuleType
from typing import Any

from reid_core.config import TrainConfig
from reid_core.engine.stages import with_first_stage
from reid_core.errors import UsageError
from reid_core.methods._plan import Plan, make_plan
from reid_core.metrics.rank import PROTOCOLS
from reid_core.plugins import closest, load
from reid_core.types import Phase


def resolve(config: TrainConfig) -> TrainConfig:
    """``config`` with every None decided; what was given stays.

    Raises:
        UsageError: settings that exclude each other, or a number out of range.
    """
    published = config.schedule != "default"
    paper = config.schedule == "paper"
    adamw = config.optimizer == "adamw"
    classes = config.augment == "classes"
    noise = "patterned" if config.pattern else config.noise
    ratio = 0.0 if config.labels is not None else config.noise_ratio
    filled = config.replace(
        noise=noise,
        noise_ratio=ratio,
        lr=(0.001 if adamw else 0.1 if paper else 0.01) if config.lr is None else config.lr,
        new_layer_mult=(1.0 if paper or adamw else 10.0) if config.new_layer_mult is None else config.new_layer_mult,
        backbone_mult=(0.1 if adamw else 1.0) if config.backbone_mult is None else config.backbone_mult,
        # AdamW's is the architecture's, and the two networks may be of two kinds.
        weight_decay=5e-4 if config.weight_decay is None and not adamw else config.weight_decay,
        layer_decay="off" if published and config.layer_decay == "auto" else config.layer_decay,
        trivial_augment=classes if config.trivial_augment is None else config.trivial_augment,
        random_erasing=(0.25 if classes else 0.0) if config.random_erasing is None else config.random_erasing,
        neck=("fc512" if published else "bnneck") if config.neck is None else config.neck,
        switch=("" if published else "auto") if config.switch is None else config.switch,
        flip=config.augment == "reid" if config.flip is None else config.flip,
    )
    _check(filled)
    plan = make_plan(filled.schedule, filled.epochs, filled.switch or "")
    every = math.ceil(plan.epochs / 10) if filled.eval_every is None else filled.eval_every
    return filled.replace(eval_every=every)


def _check(config: TrainConfig) -> None:
    bounds = {
        "noise_ratio": (0.0, 1.0),
        "max_bad_images": (0.0, 1.0),
        "batchsize": (2, math.inf),
        "soft_weight": (0.0, math.inf),
        "refused_weight": (0.0, math.inf),
        "supported_weight": (0.0, math.inf),
        "differ_weight": (0.0, math.inf),
        "tau": (0.0, 100.0),
        "smoothing": (0.0, 1.0),
        "drop_ramp": (0, math.inf),
        "min_keep": (0, math.inf),
        "stage1_epochs": (0, math.inf),
        "momentum": (0.0, 1.0),
        "weight_decay": (0.0, math.inf),
        "workers": (0, math.inf),
        "max_rank": (1, math.inf),
        "neck_dim": (1, math.inf),
        "chunk_classes": (0, math.inf),
        "dropout": (0.0, 1.0),
        "save_minutes": (0.0, math.inf),
        "noise_seed": (0, math.inf),
        "threads": (1, math.inf),
        "eval_every": (0, math.inf),
        "small_share": (0.0, 1.0),
        "random_erasing": (0.0, 1.0),
        "accumulate": (1, math.inf),
        "warmup_epochs": (0.0, math.inf),
        "clip_grad": (0.0, math.inf),
    }
    for key, (low, high) in bounds.items():
        value = getattr(config, key)
        if value is not None and not (low <= value <= high and math.isfinite(value)):
            limit = f"in [{low}, {high}]" if math.isfinite(high) else f"at least {low}"
            limit += "" if math.isfinite(value) else " and finite"
            raise UsageError(f"--{key} must be {limit}, got {value}")
    for key in ("val_ids", "val_images", "ema"):
        if not 0 <= getattr(config, key) < 1:
            raise UsageError(f"--{key} must be in [0, 1), got {getattr(config, key)}")
    if config.layer_decay_rate is not None and not 0 < config.layer_decay_rate <= 1:
        raise UsageError(f"--layer_decay_rate must be in (0, 1], got {config.layer_decay_rate}")
    _check_imbalance(config)
    for key in ("lr", "new_layer_mult", "backbone_mult", "stage1_lr"):
        value = getattr(config, key)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise UsageError(f"--{key} must be a positive number, got {value}")
    for key in ("image_size", "small_size"):
        size = getattr(config, key)
        if size is not None and min(size) < 8:
            raise UsageError(f"--{key} must be at least 8 x 8 pixels, got {size}")
    if config.protocol is not None and config.protocol not in PROTOCOLS:
        raise UsageError(
            f"--protocol must be {', '.join(PROTOCOLS[:-1])} or {PROTOCOLS[-1]}, got {config.protocol!r}."
            f"{closest(config.protocol, PROTOCOLS)}"
        )
    if config.stage1 and config.stage2:
        raise UsageError("--stage1 and --stage2 exclude each other; without either both run, one after the other")
    if config.stage2 != bool(config.from_self):
        raise UsageError("--stage2 and --from_self belong together: a run, or one weight file a network, to start from")


def _check_imbalance(config: TrainConfig) -> None:
    if (config.imbalance is None) != (config.imbalance_factor is None):
        raise UsageError(
            "--imbalance and --imbalance_factor belong together: a kind, exp or step, and a factor in (0, 1], like 0.1"
        )
    if config.imbalance_factor is not None and not 0 < config.imbalance_factor <= 1:
        raise UsageError(
            f"--imbalance_factor must lie in (0, 1], got {config.imbalance_factor}: the size of the smallest class over that "
            "of the largest"
        )
    if config.imbalance is not None and config.labels is not None:
        raise UsageError("--imbalance and --labels exclude each other: the label file must name all training images")
    if config.asymmetric_pairs and config.noise != "asymmetric":
        raise UsageError(f"--asymmetric_pairs belongs to --noise asymmetric, not to --noise {config.noise}")


def per_network(config: TrainConfig, num_networks: int) -> TrainConfig:
    """``config`` with an architecture for each network, and first weights for one or each.

    Raises:
        UsageError: more are given than the method has networks, or another number than one or all.
    """
    for key in ("arch", "weights"):
        given = getattr(config, key)
        if len(given) not in (1, num_networks):
            have = "one network" if num_networks == 1 else f"{num_networks} networks"
            advice = f"give one{'' if num_networks == 1 else ', or one for each'}"
            raise UsageError(f"--{key} {' '.join(given)}: --method {config.method} trains {have}; {advice}")
    return config.replace(arch=config.arch * num_networks if len(config.arch) == 1 else config.arch)


def plan_of(config: TrainConfig) -> Plan:
    """The plan of a resolved configuration."""
    return make_plan(config.schedule, config.epochs, config.switch or "")


def recipe_of(config: TrainConfig) -> list[Phase]:
    """The phases of the configured method; its hyperparameters are the settings its ``recipe`` has parameters for."""
    module = load("reid_core.methods", config.method)
    make = partial(module.recipe, plan_of(config), **_hyperparameters(module, config))
    return with_first_stage(lambda: list(make()), config.stage1_epochs, config.stage1_lr)


def _hyperparameters(module: ModuleType, config: TrainConfig) -> dict[str, Any]:
    wanted = list(inspect.signature(module.recipe).parameters)[1:]
    return {name: getattr(config, name) for name in wanted if hasattr(config, name)}
