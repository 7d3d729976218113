"""Divide the images of every class of SRC into training and validation, the same share of each.

SRC is a folder with one folder a class, or a folder whose train/ holds them. OUT becomes train_split/ and val_split/ with
one folder a class, classes.txt (a class's line, from 0, is its number) and split_manifest.csv (where each image came from);
reid-core train --dataset image_folder reads it. Of a class's n images floor(n * val + 0.5) validate, at least
--min_per_class, and at least one trains.

  reid-core split classes photos/ data/ --dry_run      show the numbers, touch nothing
  reid-core split classes photos/ data/ --val 0.1      copy (the default: SRC stays as it is, OUT stands alone)
  reid-core split classes data/ --undo                 take it back
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from reid_core.cli import _screen
from reid_core.cli._splitting import add_splitting_flags, gone_on, take_back
from reid_core.errors import UsageError
from reid_core.prepare._place import MODES
from reid_core.prepare._transfer import transfer
from reid_core.prepare.split_classes import ClassSplitPlan, plan_classes

SMALLEST = 5
"""Classes shown by name: the smallest ones, for which a split matters most."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of ``split classes``."""
    parser.add_argument("src", type=Path, metavar="SRC", help="the images: one folder a class")
    parser.add_argument("out", type=Path, metavar="OUT", nargs="?", help="a new folder")
    parser.add_argument(
        "--val", type=float, default=0.1, metavar="SHARE", help="share of each class to validate with (0.1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed, another division (0)")
    parser.add_argument(
        "--min_per_class", type=int, default=1, metavar="N", help="least validation images of a class (1)"
    )
    parser.add_argument("--mode", default="copy", choices=MODES, help="how images get to OUT (copy)")
    parser.add_argument("--allow_outside", action="store_true", help="take images to which a link leads out of SRC")
    add_splitting_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Plan, show, place, check."""
    if args.undo:
        return take_back(args)
    if args.out is None:
        raise UsageError("where to? Give a second path, OUT: a new folder.")
    options: dict[str, str | int] = {
        "val": f"{args.val:g}",
        "seed": args.seed,
        "min_per_class": args.min_per_class,
    }
    if not args.dry_run and gone_on(args, options):
        return 0
    plan = plan_classes(args.src, args.val, args.seed, args.min_per_class)
    _show(plan, args)
    if args.dry_run:
        _screen.say("Dry run: nothing was changed.")
        return 0
    if args.mode == "move":
        _screen.confirm(
            f"{len(plan.items)} images will be moved from {plan.root} to {args.out}, which leaves the class folders of "
            f"{plan.root} empty.",
            args.yes,
        )
    with _screen.progress(args.mode) as tick:
        transfer(plan.root, plan.items, args.out, args.mode, options, tick, args.allow_outside, "classes")
    _screen.say(
        f"{args.out} is complete: every image was checked. Train with: reid-core train --dataset image_folder --data_dir "
        f"{args.out}. Take it back with: reid-core split classes {args.out} --undo."
    )
    return 0


def _show(plan: ClassSplitPlan, args: argparse.Namespace) -> None:
    counts = plan.counts()
    totals = [sum(part) for part in zip(*counts.values())]
    if args.json:
        classes = {name: {"train": train, "val": val} for name, (train, val) in counts.items()}
        numbers = {"train": totals[0], "val": totals[1], "bytes": plan.size, "others": len(plan.others)}
        _screen.result(json.dumps({**numbers, "classes": classes}))
        return
    smallest = sorted(counts, key=lambda name: (sum(counts[name]), name))[:SMALLEST]
    rows = [(f"all {len(counts)} classes", *totals), *((name, *counts[name]) for name in smallest)]
    _screen.result(_screen.table(("images; smallest classes", "train_split", "val_split"), rows))
    if args.mode == "copy":
        _screen.say(f"{plan.size / 1e6:.1f} MB will be copied.")
    few = [name for name, (_, val) in counts.items() if val < args.min_per_class]
    if few:
        _screen.warn(
            f"{len(few)} classes have too few images for {args.min_per_class} to validate with and one to train: "
            f"{', '.join(few[:20])}"
        )
    if plan.others:
        shown = ", ".join(plan.others[:20]) + (" and more" if len(plan.others) > 20 else "")
        _screen.say(f"{len(plan.others)} files are no images and stay where they are: {shown}")
