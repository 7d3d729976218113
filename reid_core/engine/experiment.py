"""A whole run: data, labels, networks, recipe, folder; then the trainer, and the result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from reid_core.config import TrainConfig
from reid_core.data._dataset import TrainImages
from reid_core.data._find import resolve_name
from reid_core.data._labels import write_labels
from reid_core.data._transforms import MARGIN, train_transform
from reid_core.engine.compatible import PLAIN_VIEW, modern
from reid_core.engine.device import choose_device, repeatable, settle_amp
from reid_core.engine.evaluate import EvaluationOptions
from reid_core.engine.first_weights import build_networks
from reid_core.engine.learner import build_learner
from reid_core.engine.phases import PhaseWalk
from reid_core.engine.reporter import Reporter
from reid_core.engine.resolve import per_network, recipe_of, resolve
from reid_core.engine.run_data import prepare_data
from reid_core.engine.run_events import RunEvents
from reid_core.engine.run_folder import (
    RunFolder,
    check_compatible,
    check_free,
    data_fingerprint,
    default_name,
    read_status,
)
from reid_core.engine.schedule import RateSchedule
from reid_core.engine.signals import StopRequest
from reid_core.engine.sizes import ImageSizes, Size, check_sizes
from reid_core.engine.stages import part_asked_for
from reid_core.engine.state import unpack
from reid_core.engine.trainer import Trainer, TrainerOptions
from reid_core.engine.training_data import TrainingData
from reid_core.engine.validation import FILE as VALIDATION_FILE
from reid_core.engine.validation import measure, mend_best, missing_best, reported, write_validation
from reid_core.errors import Interrupted, UsageError
from reid_core.methods import PLAIN
from reid_core.models._input import common_interpolation
from reid_core.models._network import Network, check_architecture


@dataclass(frozen=True)
class Host:
    """Who started a run, and what the run may ask of them.

    Attributes:
        command: the command line, for ``config.json``.
        reporter: what to show.
        stop: asked after every step.
        finish: called with the run folder once ``result.json`` is written and before the run counts as done, so that a
            run stopped in there goes on with it.
    """

    command: Sequence[str]
    reporter: Reporter
    stop: StopRequest
    finish: Callable[[Path], None]


def run_training(config: TrainConfig, host: Host, resume: bool = False) -> Path:
    """Train and measure; everything lies in the returned run folder.

    Args:
        config: not yet resolved.
        host: who started it.
        resume: go on with the run ``config.out``/``config.name``.
    """
    reporter = host.reporter
    settings = resolve(config)
    device = choose_device(settings.device, settings.gpu)
    repeatable(device)
    settings = settings.replace(amp=settle_amp(settings.amp, device))
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    for arch in settings.arch:
        check_architecture(arch)
    recipe, first_phase = part_asked_for(recipe_of(settings), settings)
    num_networks = {phase.method.num_networks for phase in recipe}
    if len(num_networks) != 1:
        raise UsageError(
            f"--method {settings.method}: its phases want {sorted(num_networks)} networks; one number is expected"
        )
    networks_wanted = num_networks.pop()
    settings = per_network(settings, networks_wanted)
    default = default_name(settings.method, resolve_name(settings.dataset))
    run_path = Path(settings.out) / (settings.name or default)
    if settings.name is not None and not resume:
        check_free(Path(settings.out), settings.name)
    stored = run_path / "labels.csv" if resume else None
    data = prepare_data(settings, reporter, lambda: _train_clean(settings, run_path, host), stored)
    walk = PhaseWalk(recipe, first=first_phase)
    networks = build_networks(settings, data.class_names, networks_wanted, reporter.note)
    sizes = image_sizes(settings)
    check_sizes(networks, sizes.all(walk))
    identity = _identity(settings, data, networks_wanted)
    with RunFolder.create(Path(settings.out), settings.name, resume=resume, default=default) as run:
        if not resume:
            if data.validation is not None:
                write_validation(run.path / VALIDATION_FILE, data.validation)
            # Last: where it is, a run that goes on finds the other too.
            names = data.class_names if data.split.class_names else None
            write_labels(run.path / "labels.csv", data.split.train, data.labels, data.split.train_folder, names)
        run.write_config(dataclasses.asdict(settings), host.command)
        events = RunEvents(run, reporter, host.stop, identity, settings.on_save_error == "continue")
        trainer = _trainer(settings, data, networks, walk, sizes, device, events)
        if resume and not run.checkpoints.names():
            reporter.note(f"{run.path} was stopped before its first checkpoint; it starts from the beginning")
            run.rewind(walk.first_epoch)
        elif resume:
            checkpoint = run.checkpoints.load("last")
            if checkpoint.fell_back:
                reporter.note(checkpoint.fell_back)
            check_compatible(modern(checkpoint.meta["identity"]), identity, where=str(run.path))
            unpack(trainer, checkpoint.tensors, checkpoint.meta)
            run.rewind(trainer.epoch)
            mend_best(run, checkpoint)
        reporter.started(data, walk, run.path, trainer.epoch, sizes.full)
        try:
            trainer.fit()
        except Interrupted as stopped:
            how = f"{stopped}. It goes on with: reid-core train --resume {run.path}"
            raise Interrupted(how, stopped.exit_code) from stopped
        doubt = missing_best(run)
        if doubt:
            reporter.note(doubt)
        run.write_json("result.json", _result(settings, data, run, walk))
        host.finish(run.path)
        run.set_status("done")
        return run.path


def _trainer(
    config: TrainConfig,
    data: TrainingData,
    networks: list[Network],
    walk: PhaseWalk,
    sizes: ImageSizes,
    device: torch.device,
    events: RunEvents,
) -> Trainer:
    learners = [build_learner(network.to(device), config, device) for network in networks]
    view = view_of(config)
    transform = partial(
        train_transform,
        config.augment,
        trivial_augment=bool(config.trivial_augment),
        random_erasing=config.random_erasing or 0.0,
        mirror=config.mirror,
        interpolation=view["interpolation"],
    )
    dataset = TrainImages(data.split.root, data.split.train, data.labels.given, transform(sizes.full), config.seed)
    options = TrainerOptions(
        sizes,
        transform,
        config.lr or 0.01,
        config.seed,
        RateSchedule(config.lr_schedule, config.warmup_epochs),
        config.accumulate,
        config.workers,
        config.save_minutes,
        device,
        {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.amp),
    )

    def measure_at(epoch: int) -> bool:
        return bool(config.eval_every) and (epoch + 1) % (config.eval_every or 1) == 0

    def measure_now(measured: Sequence[Network], size: Size) -> dict[str, Any]:
        how = dataclasses.replace(evaluation_options(config), image_size=size)
        return measure(measured, data, how, device, events.reporter.working)

    trainer = Trainer(
        learners, walk, dataset, data.num_classes, options, events, measure_now, measure_at, data.labels.true
    )
    events.watch(trainer)
    return trainer


def image_sizes(config: TrainConfig) -> ImageSizes:
    """Which epochs of a resolved configuration see images of which size."""
    return ImageSizes(config.image_size, config.batchsize, config.small_size, config.small_share)


def view_of(config: TrainConfig) -> dict[str, Any]:
    """How ``eval_transform`` makes images for a resolved configuration."""
    if config.augment != "classes":
        return dict(PLAIN_VIEW)
    return {"margin": MARGIN, "interpolation": common_interpolation(config.arch)}


def evaluation_options(config: TrainConfig) -> EvaluationOptions:
    """How a resolved configuration measures."""
    flip = bool(config.flip)
    return EvaluationOptions(config.image_size, flip, config.max_rank, 64, config.workers, **view_of(config))


def _identity(config: TrainConfig, data: TrainingData, num_networks: int) -> dict[str, Any]:
    paths = [sample.path for sample in data.split.train]
    return {
        "method": config.method,
        "arch": list(config.arch),
        "neck": config.neck,
        "neck_dim": config.neck_dim,
        "num_networks": num_networks,
        "image_size": list(config.image_size),
        "normalisation": config.normalisation,
        "view": view_of(config),
        "num_classes": data.num_classes,
        "class_names": list(data.class_names),
        "data": data_fingerprint(paths, data.labels.given.tolist()),
    }


def _result(config: TrainConfig, data: TrainingData, run: RunFolder, walk: PhaseWalk) -> dict[str, Any]:
    lines = run.metrics()
    clean = data.labels.clean
    return {
        **reported(lines),
        "method": config.method,
        "dataset": data.split.dataset,
        "seed": config.seed,
        "noise_seed": config.noise_seed,
        "noise": data.labels.kind,
        "noise_ratio": data.labels.ratio,
        "wrong_labels": None if clean is None else float(1 - clean.mean()),
        "imbalance": config.imbalance,
        "imbalance_factor": config.imbalance_factor,
        "epochs": walk.epochs,
        "switch": walk.switch,
        "num_train_images": len(data.split.train),
        "num_train_identities": data.num_classes,
        "class_names": list(data.class_names),
        "num_skipped_images": data.skipped,
        "seconds": round(sum(line["seconds"] for line in lines), 3),
    }


def _train_clean(config: TrainConfig, run: Path, host: Host) -> Path:
    """The checkpoint of a baseline on clean labels in ``<run>-pattern``; trained, or gone on with, if need be."""
    folder = run.with_name(run.name + "-pattern")
    if read_status(folder).get("state") != "done":
        host.reporter.note(
            f"patterned noise: first a baseline on clean labels, in {folder}; it is kept for --pattern_from"
        )
        clean = config.replace(
            method=PLAIN,
            arch=config.arch[:1],
            weights=config.weights[:1],
            noise="random",
            pattern=False,
            noise_ratio=0.0,
            val_ids=0.0,
            val_images=0.0,
            stage1=False,
            stage2=False,
            from_self=(),
            out=str(folder.parent),
            name=folder.name,
            eval_every=0,
        )
        try:
            baseline = dataclasses.replace(host, command=["(baseline for patterned noise)"])
            run_training(clean, baseline, resume=folder.is_dir())
        except Interrupted as stopped:
            how = f"{stopped}, or better with the same command as before and --name {run.name}, which then trains {run}"
            raise Interrupted(how, stopped.exit_code) from stopped
    return folder / "checkpoints" / "last.safetensors"
