"""A whole run: data, labels, networks, recipe, folder; then the trainer, and the result."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from reid_core.config import TrainConfig
from reid_core.data._dataset import EvalImages, TrainImages, eval_loader
from reid_core.data._find import find_root, resolve_name
from reid_core.data._labels import write_labels
from reid_core.data._transforms import eval_transform, train_transform
from reid_core.engine.checkpoint import read_checkpoint
from reid_core.engine.device import check_bf16, choose_device
from reid_core.engine.evaluate import EvaluationOptions, evaluate
from reid_core.engine.loading import load_networks
from reid_core.engine.optim import build_optimizer
from reid_core.engine.phases import PhaseWalk
from reid_core.engine.predict import predict
from reid_core.engine.resolve import recipe_of, resolve
from reid_core.engine.run_events import RunEvents
from reid_core.engine.run_folder import RunFolder, check_compatible, data_fingerprint, default_name
from reid_core.engine.signals import StopRequest
from reid_core.engine.state import network_tensors, unpack
from reid_core.engine.trainer import Trainer, TrainerOptions
from reid_core.engine.training_data import TrainingData, training_labels, usable
from reid_core.errors import DataError, UsageError
from reid_core.models._network import Network, build_network
from reid_core.models._weights import CLASSIFIERS, load_weights
from reid_core.noise.patterned import second_labels
from reid_core.plugins import load
from reid_core.types import Sample, Split

log = logging.getLogger(__name__)


class Reporter(Protocol):
    """What a run shows while it goes on."""

    def started(self, data: TrainingData, walk: PhaseWalk, folder: Path, first_epoch: int) -> None:
        """Everything was checked; training begins."""

    def working(self, title: str) -> Callable[[int, int], None]:
        """A stretch of work that is not training, as a (done, total) callback."""

    def step(self, epoch: int, step: int, steps: int, losses: Sequence[float | None]) -> None:
        """A step is done."""

    def epoch(self, line: dict[str, Any]) -> None:
        """An epoch is done."""

    def note(self, text: str) -> None:
        """Something worth a line."""


def read_split(config: TrainConfig, working: Callable[[str], Callable[[int, int], None]]) -> Split:
    """The data set's records, ranked by the protocol that was asked for; ``working(title)`` gives a progress callback."""
    name = resolve_name(config.dataset)
    module = load("reid_core.data", name)
    if hasattr(module, "ensure"):
        # A data set that can make itself, like the synthetic one, is written where it will be looked for.
        root = module.ensure(Path(config.data_dir), progress=working("drawing the data set"))
    else:
        root = find_root(config.data_dir, name)
    split: Split = module.read(root, train_split=config.train_split)
    return split if config.protocol is None else dataclasses.replace(split, protocol=config.protocol)


def prepare_data(config: TrainConfig, reporter: Reporter, pattern_folder: Path | None = None) -> TrainingData:
    """Read the split, leave out unreadable images if asked to, and make the given labels."""
    split, skipped = usable(read_split(config, reporter.working), config, reporter.working("checking images"))
    if not split.train:
        raise DataError(f"{split.root}: there is no training image")
    _check_queries(split, reporter)

    def seconds(train: tuple[Sample, ...], labels: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
        return _second_labels(config, split, labels, num_classes, reporter, pattern_folder)

    noisy, class_names = training_labels(split, config, seconds)
    return TrainingData(split, noisy, class_names, skipped)


def run_training(
    config: TrainConfig, command: Sequence[str], reporter: Reporter, stop: StopRequest, resume: bool = False
) -> Path:
    """Train and measure; everything lies in the returned run folder.

    Args:
        config: not yet resolved.
        command: the command line, for ``config.json``.
        reporter: what to show.
        stop: asked after every step.
        resume: go on with the run ``config.out``/``config.name``.
    """
    settings = resolve(config)
    device = choose_device(settings.device, settings.gpu)
    if settings.amp == "bf16":
        check_bf16(device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    recipe = recipe_of(settings)
    num_networks = {phase.method.num_networks for phase in recipe}
    if len(num_networks) != 1:
        raise UsageError(
            f"--method {settings.method}: its phases want {sorted(num_networks)} networks; one number is expected"
        )
    networks_wanted = num_networks.pop()
    default = default_name(settings.method, resolve_name(settings.dataset))
    run_path = Path(settings.out) / (settings.name or default)
    data = prepare_data(settings, reporter, run_path.with_name(run_path.name + "-pattern"))
    walk = PhaseWalk(recipe, first=len(recipe) - 1 if settings.stage2 else 0)
    if settings.stage2 and len(recipe) < 2:
        raise UsageError(f"--stage2: --method {settings.method} has one phase; use --method core")
    networks = build_networks(settings, data.num_classes, networks_wanted, reporter)
    identity = _identity(settings, data, networks_wanted)
    with RunFolder.create(Path(settings.out), settings.name, resume=resume, default=default) as run:
        if not resume:
            write_labels(run.path / "labels.csv", data.split.train, data.labels, data.split.train_folder)
        run.write_config(dataclasses.asdict(settings), command)
        trainer = _trainer(settings, data, networks, walk, device, run, reporter, stop, identity)
        if resume and not run.checkpoints.names():
            reporter.note(f"{run.path} was stopped before its first checkpoint; it starts from the beginning")
            run.rewind(walk.first_epoch)
        elif resume:
            checkpoint = run.checkpoints.load("last")
            if checkpoint.fell_back:
                reporter.note(checkpoint.fell_back)
            check_compatible(checkpoint.meta["identity"], identity, where=str(run.path))
            unpack(trainer, checkpoint.tensors, checkpoint.meta)
            run.rewind(trainer.epoch)
        reporter.started(data, walk, run.path, trainer.epoch)
        trainer.fit()
        run.write_json("result.json", _result(settings, data, run, walk))
        run.set_status("done")
        return run.path


def build_networks(config: TrainConfig, num_classes: int, count: int, reporter: Reporter) -> list[Network]:
    """The networks of a run with their first weights: from the seed, a file, timm's hub, or an earlier SELF run."""
    networks = []
    for k in range(count):
        network = build_network(
            config.arch,
            num_classes,
            neck=config.neck or "bnneck",
            neck_dim=config.neck_dim,
            image_size=config.image_size,
            pretrained=config.weights == "imagenet",
            seed=config.seed,
            position=k,
        )
        if config.weights not in ("imagenet", "none"):
            report = load_weights(network.state_dict(), Path(config.weights), (*CLASSIFIERS, "neck"))
            reporter.note(f"network {k}: {report.summary()}")
        networks.append(network.to(memory_format=torch.channels_last))
    if config.from_self:
        _load_self(config, networks)
    return networks


def _load_self(config: TrainConfig, networks: Sequence[Network]) -> None:
    sources = [_checkpoint_file(config, source) for source in config.from_self]
    if len(sources) not in (1, len(networks)):
        raise UsageError(f"--from_self: one run or {len(networks)} weight files are expected, got {len(sources)}")
    for k, network in enumerate(networks):
        checkpoint = read_checkpoint(sources[min(k, len(sources) - 1)])
        tensors = network_tensors(checkpoint.tensors, k if len(sources) == 1 else 0)
        if not tensors:
            raise UsageError(
                f"--from_self {config.from_self[0]}: it holds one network and {len(networks)} are needed; "
                "give a two-network run, or one weight file a network"
            )
        check_compatible(
            checkpoint.meta["identity"],
            {"arch": config.arch, "neck": config.neck, "neck_dim": config.neck_dim},
            where=str(sources[min(k, len(sources) - 1)]),
        )
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            raise UsageError(f"--from_self {config.from_self[0]} does not fit network {k}: {error}") from error


def _checkpoint_file(config: TrainConfig, source: str) -> Path:
    for path in (Path(source), Path(config.out) / source):
        if path.is_file():
            return path
        if (path / "checkpoints").is_dir():
            first = path / "checkpoints" / "phase_0.safetensors"
            return first if first.is_file() else path / "checkpoints" / "last.safetensors"
    raise UsageError(f"{source}: neither a checkpoint file nor a run folder, here or in {config.out}")


def _trainer(
    config: TrainConfig,
    data: TrainingData,
    networks: list[Network],
    walk: PhaseWalk,
    device: torch.device,
    run: RunFolder,
    reporter: Reporter,
    stop: StopRequest,
    identity: dict[str, Any],
) -> Trainer:
    networks = [network.to(device) for network in networks]
    optimizers = [
        build_optimizer(
            network.parameter_groups(),
            config.lr or 0.01,
            config.new_layer_mult or 1.0,
            config.momentum,
            config.weight_decay,
        )
        for network in networks
    ]
    transform = train_transform(config.augment, config.image_size)
    dataset = TrainImages(data.split.root, data.split.train, data.labels.given, transform, config.seed)
    options = TrainerOptions(
        config.batchsize, config.seed, config.workers, config.save_minutes, device, config.amp == "bf16"
    )
    events = RunEvents(run, reporter, stop, identity)
    measurable = bool(data.split.query and data.split.gallery)
    evaluation = evaluation_options(config)

    def measure() -> dict[str, Any]:
        if not measurable:
            return {}
        outcome = evaluate(networks, data.split, evaluation, device, reporter.working("measuring"))
        return {"evaluation": outcome.to_json()}

    def measure_at(epoch: int) -> bool:
        return bool(config.eval_every) and (epoch + 1) % (config.eval_every or 1) == 0

    trainer = Trainer(
        networks,
        optimizers,
        walk,
        dataset,
        data.num_classes,
        options,
        events,
        measure,
        measure_at,
        data.labels.true,
    )
    events.watch(trainer)
    return trainer


def evaluation_options(config: TrainConfig) -> EvaluationOptions:
    """How a resolved configuration measures."""
    return EvaluationOptions(config.image_size, bool(config.flip), config.max_rank, 64, config.workers)


def _identity(config: TrainConfig, data: TrainingData, num_networks: int) -> dict[str, Any]:
    paths = [sample.path for sample in data.split.train]
    return {
        "method": config.method,
        "arch": config.arch,
        "neck": config.neck,
        "neck_dim": config.neck_dim,
        "num_networks": num_networks,
        "image_size": list(config.image_size),
        "num_classes": data.num_classes,
        "class_names": list(data.class_names),
        "data": data_fingerprint(paths, data.labels.given.tolist()),
    }


def _check_queries(split: Split, reporter: Reporter) -> None:
    """Count the queries that no gallery image can match before hours are spent; none at all is an error."""
    if not split.query:
        reporter.note("there is no query: the run trains, but nothing is measured (reid-core split reid cuts one)")
        return
    cameras: dict[int, set[int]] = {}
    for sample in split.gallery:
        if sample.role == "identity":
            cameras.setdefault(sample.pid, set()).add(sample.camid)
    any_camera = split.protocol == "any-camera"
    lost = [q for q in split.query if not (cameras.get(q.pid, set()) - (set() if any_camera else {q.camid}))]
    if len(lost) == len(split.query):
        raise DataError(
            f"{split.root}: none of the {len(lost)} queries has a match in the gallery from another camera, so nothing "
            "can be measured. Data without cameras: --protocol any-camera; otherwise ask reid-core doctor"
        )
    if lost:
        reporter.note(
            f"{len(lost)} of {len(split.query)} queries have no match in the gallery and are left out of the means "
            f"(first: {lost[0].path}); reid-core doctor says why"
        )


def _result(config: TrainConfig, data: TrainingData, run: RunFolder, walk: PhaseWalk) -> dict[str, Any]:
    lines = run.metrics()
    clean = data.labels.clean
    return {
        **lines[-1].get("evaluation", {}),
        "method": config.method,
        "dataset": data.split.dataset,
        "seed": config.seed,
        "noise_seed": config.noise_seed,
        "noise": data.labels.kind,
        "noise_ratio": data.labels.ratio,
        "wrong_labels": None if clean is None else float(1 - clean.mean()),
        "epochs": walk.epochs,
        "switch": walk.starts[-1] if len(walk.starts) > 1 else None,
        "num_train_images": len(data.split.train),
        "num_train_identities": data.num_classes,
        "class_names": list(data.class_names),
        "num_skipped_images": data.skipped,
        "seconds": round(sum(line["seconds"] for line in lines), 3),
    }


def _second_labels(
    config: TrainConfig,
    split: Split,
    labels: NDArray[np.int64],
    num_classes: int,
    reporter: Reporter,
    own_folder: Path | None,
) -> NDArray[np.int64]:
    """Second choices of a network trained on clean labels: of ``--pattern_from``, or of a baseline trained first."""
    if config.pattern_from is not None:
        source = _checkpoint_file(config, config.pattern_from)
    else:
        if own_folder is None:
            raise UsageError("--noise patterned needs --pattern_from RUN here")
        source = own_folder / "checkpoints" / "last.safetensors"
        if not (own_folder / "result.json").is_file():
            reporter.note(f"patterned noise: training a baseline on clean labels first, in {own_folder}")
            clean = config.replace(
                method="baseline", noise="random", pattern=False, noise_ratio=0.0, labels=None, stage2=False, from_self=(),
                out=str(own_folder.parent), name=own_folder.name, resume=None, eval_every=0,
            )  # fmt: skip
            run_training(clean, ["(for patterned noise)"], reporter, StopRequest(), resume=own_folder.is_dir())
    trained = load_networks(source)
    identity = trained.identity
    if identity["num_classes"] != num_classes:
        raise UsageError(
            f"--pattern_from: {source} was trained on {identity['num_classes']} identities, the data have {num_classes}"
        )
    dataset = EvalImages(split.root, split.train, eval_transform(tuple(identity["image_size"])))
    device = choose_device(config.device, config.gpu)
    loader = eval_loader(dataset, 64, config.workers)
    tick = reporter.working("second labels")
    found = predict(
        trained.networks[0].to(device), loader, device, bool(config.flip), lambda done: tick(done, len(dataset))
    )
    return second_labels(found.logits, labels)
