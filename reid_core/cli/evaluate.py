"""Measure a trained run or checkpoint again, on the data it was trained with or on others."""

from __future__ import annotations

import argparse
import dataclasses
import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from reid_core.cli._screen import Tick, progress, result, results_table, roc_table, say
from reid_core.config import TrainConfig
from reid_core.engine.classify import trained_counts
from reid_core.engine.device import choose_device
from reid_core.engine.evaluate import EvaluationOptions
from reid_core.engine.loading import load_networks
from reid_core.engine.measure import is_measurable, measure_split
from reid_core.engine.post_processing import PostProcessing
from reid_core.engine.run_data import read_split
from reid_core.engine.training_data import usable
from reid_core.errors import DataError, UsageError
from reid_core.metrics.rank import PROTOCOLS
from reid_core.types import Split


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of ``reid-core evaluate``."""
    parser.add_argument(
        "source",
        type=Path,
        metavar="RUN_OR_CHECKPOINT",
        help="run folder, name of a run in runs/, or .safetensors file",
    )
    parser.add_argument("data", nargs="?", metavar="DATA", help="the data set's folder (default: the run's)")
    parser.add_argument("--dataset", help="data set (default: the run's)")
    parser.add_argument(
        "--checkpoint", default="last", help="which checkpoint of a run: last, best, phase_0, ... (default: last)"
    )
    parser.add_argument("--ema", action="store_true", help="measure the moving averages of the weights instead")
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        help="how queries are ranked (default: the run's; with --dataset the data set's)",
    )
    parser.add_argument(
        "--allow_outside", action="store_true", help="a manifest may name images outside its own folder"
    )
    parser.add_argument("--flip", action="store_true", default=None, help="see mirror images too (default: as the run)")
    parser.add_argument("--no_flip", dest="flip", action="store_false", help="the opposite")
    parser.add_argument("--max_rank", type=int, default=50, help="length of the CMC (default: 50)")
    parser.add_argument("--batchsize", type=int, default=64, help="images a batch (default: 64)")
    parser.add_argument("--workers", type=int, default=2, help="loader processes (default: 2)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--gpu", help="number of the CUDA device; -1 is the CPU")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    parser.add_argument("--on_bad_image", default="error", choices=("error", "skip"))
    parser.add_argument(
        "--max_bad_images", type=float, default=0.01, help="with skip: the share that is still accepted (default: 0.01)"
    )
    parser.add_argument("--rerank", action="store_true", help="re-rank by k-reciprocal neighbours (docs/reranking.md)")
    for name, kind, what in (
        ("k1", int, "size of the neighbourhoods"),
        ("k2", int, "nearest images that are averaged over"),
        ("lambda_value", float, "share of the original distance"),
    ):
        default = getattr(PostProcessing, name)
        parser.add_argument(f"--{name}", type=kind, help=f"with --rerank: {what} (default: {default})")
    parser.add_argument(
        "--query_expansion", type=int, default=0, metavar="K", help="blend queries with their K nearest gallery images"
    )
    parser.add_argument(
        "--database_augmentation", type=int, default=0, metavar="K", help="blend gallery images with their K nearest"
    )
    parser.add_argument(
        "--expansion_alpha",
        type=float,
        help="weigh those by similarity to this power (default: 0, evenly)",
    )
    parser.add_argument("--roc", action="store_true", help="true positive rates of pairs at small false positive rates")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure; the table or JSON goes to stdout, nothing is written to the run."""
    post = post_processing(args)
    device = choose_device(args.device, args.gpu)
    for name, most in (("max_rank", 1_000_000), ("batchsize", None), ("threads", None)):
        value = getattr(args, name)
        if value is not None and (value < 1 or (most is not None and value > most)):
            limits = "at least 1" if most is None else f"from 1 to {most:,}"
            raise UsageError(f"--{name} must be {limits}, got {value}")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    named = Path(TrainConfig.out) / args.source
    source = named if not args.source.exists() and named.exists() else args.source
    trained = load_networks(source, args.checkpoint, args.ema)
    dataset = args.dataset or trained.config.get("dataset")
    data = args.data or trained.config.get("data_dir")
    if dataset is None or data is None:
        raise UsageError(f"{args.source} does not say what it was trained on: give DATA and --dataset")
    config = TrainConfig(
        dataset=dataset,
        data_dir=data,
        # It says which folder of the run's own data belongs to the training images and must not be measured beside them.
        train_split=trained.config.get("train_split", "train") if args.data is None else "train",
        protocol=args.protocol or (trained.config.get("protocol") if args.dataset is None else None),
        allow_outside=args.allow_outside or (args.data is None and bool(trained.config.get("allow_outside"))),
        workers=args.workers,
        on_bad_image=args.on_bad_image,
        max_bad_images=args.max_bad_images,
    )
    with progress("checking images", "image") as tick:
        # Training images are not looked at: a damaged one among them is nothing to a measurement.
        found = dataclasses.replace(read_split(config, lambda title: tick), train=())
        _check_kind(found, args)
        split, skipped = usable(found, config, tick)
    if skipped:
        say(f"{skipped} unreadable images left out")
    size, view = trained.identity["image_size"], trained.identity["view"]
    flip = trained.config.get("flip", True) if args.flip is None else args.flip
    options = EvaluationOptions(
        (size[0], size[1]), bool(flip), args.max_rank, args.batchsize, args.workers, post, args.roc, **view
    )
    networks = [network.to(device) for network in trained.networks]
    with progress("measuring", "image") as tick, _second_bar(post) as post_tick:
        names = trained.identity["class_names"]
        counts = trained_counts(trained.run / "labels.csv", len(names)) if split.test else None
        outcome = measure_split(networks, split, names, options, device, tick, counts, post_tick)
    body = {**outcome.to_json(), "source": str(trained.source), "dataset": split.dataset, "flip": bool(flip)}
    body["averaged"] = bool(args.ema)
    body["post_processing"] = post.to_json()
    if args.json:
        result(json.dumps(body, indent=1))
        return 0
    titles = ("averages of the weights" if args.ema else "", str(post))
    result(results_table(body, ", ".join(title for title in titles if title)))
    if args.roc:
        result("\n" + roc_table(body))
    return 0


def post_processing(args: argparse.Namespace) -> PostProcessing:
    """What the flags ask for.

    Raises:
        UsageError: numbers of a re-ranking that was not asked for.
    """
    numbers = {name: getattr(args, name) for name in ("k1", "k2", "lambda_value") if getattr(args, name) is not None}
    if numbers and not args.rerank:
        raise UsageError(f"--{next(iter(numbers))} belongs to --rerank, which was not given")
    if args.expansion_alpha is not None:
        if not (args.query_expansion or args.database_augmentation):
            raise UsageError(
                "--expansion_alpha belongs to --query_expansion and --database_augmentation: give one of them"
            )
        numbers["alpha"] = args.expansion_alpha
    return PostProcessing(args.database_augmentation, args.query_expansion, rerank=args.rerank, **numbers)


def _check_kind(split: Split, args: argparse.Namespace) -> None:
    """Refuse what this kind of data cannot be measured by."""
    if not split.class_names:
        return
    ranking = ("rerank", "query_expansion", "database_augmentation", "roc")
    if asked := [name for name in ranking if getattr(args, name)]:
        raise UsageError(f"--{asked[0]} is for ranking, but the images of {split.root} are classified; leave it out")
    if not is_measurable(split):
        raise DataError(f"{split.root} has no test or val folder: nothing can be measured")


def _second_bar(post: PostProcessing) -> AbstractContextManager[Tick | None]:
    """Distances alone are done before a bar could be read."""
    return progress("post-processing", "step") if post.to_json() else nullcontext()
