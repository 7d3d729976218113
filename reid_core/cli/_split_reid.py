"""Divide the identities of SRC into training and test, and the test images into query and gallery.

SRC is a manifest.csv, a folder with one folder an identity, or any layout that --dataset names. OUT becomes
train/, query/ and gallery/ with one folder an identity, and a manifest.csv that every command reads. With
cameras every query has a match under another camera; without, one of the same identity. Images behind a link
that leads out of SRC are refused, unless a manifest lists them and --allow_outside is given.

  reid-core split reid crops/ data/ --dry_run      show the numbers, touch nothing
  reid-core split reid crops/ data/                copy (the default: SRC stays as it is, OUT stands alone)
  reid-core split reid crops/ crops/manifest.csv --mode manifest      write a list, touch no image
  reid-core split reid data/ --undo                take it back
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from reid_core.cli import _screen
from reid_core.cli._data import add_data_flags, open_data
from reid_core.cli._splitting import add_splitting_flags, gone_on, take_back
from reid_core.errors import UsageError
from reid_core.prepare._place import MODES
from reid_core.prepare._transfer import transfer
from reid_core.prepare.split_reid import SplitPlan, plan_split, write_manifest


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of ``split reid``."""
    parser.add_argument("src", type=Path, metavar="SRC", help="the images: a folder or a manifest")
    parser.add_argument(
        "out", type=Path, metavar="OUT", nargs="?", help="a new folder; with --mode manifest a new file"
    )
    add_data_flags(parser)
    parser.add_argument(
        "--test_ids", default="0.5", metavar="N", help="identities to test on: a share like 0.5, or a number like 100"
    )
    parser.add_argument("--seed", type=int, default=1, help="another seed, another division")
    parser.add_argument("--queries_per_id", type=int, metavar="N", help="query images an identity, without cameras (1)")
    parser.add_argument(
        "--mode",
        default="copy",
        choices=[*MODES, "manifest"],
        help="how images get to OUT (copy); manifest writes only a list. Links to SRC need --allow_outside to be read "
        "by the manifest",
    )
    add_splitting_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Plan, show, place, check."""
    if args.undo:
        return take_back(args)
    if args.out is None:
        raise UsageError("where to? Give a second path, OUT: a new folder, or a new .csv file with --mode manifest.")
    options: dict[str, str | int] = {"test_ids": args.test_ids, "seed": args.seed}
    if args.queries_per_id is not None:
        options["queries_per_id"] = args.queries_per_id
    if not args.dry_run and args.mode in MODES and gone_on(args, options):
        return 0
    split = open_data(args.src, args)
    plan = plan_split(split, args.test_ids, args.seed, args.queries_per_id or 1)
    if args.queries_per_id is not None and plan.protocol != "any-camera":
        raise UsageError("--queries_per_id is for data without cameras; with cameras each gives one query.")
    _show(plan, args)
    if args.dry_run:
        _screen.say("Dry run: nothing was changed.")
        return 0
    if args.mode == "manifest":
        write_manifest(plan, args.out)
        _screen.say(f"Wrote {args.out}; no image was touched. Read it with --dataset manifest.")
        return 0
    if args.mode == "move":
        _screen.confirm(f"{len(plan.items)} images will be moved from {args.src} to {args.out}.", args.yes)
    with _screen.progress(args.mode) as tick:
        transfer(plan.root, plan.items, args.out, args.mode, options, tick, args.allow_outside)
    outside = " --allow_outside" if args.mode == "symlink" else ""
    _screen.say(
        f"{args.out} is complete: every image was checked. Look it over with: reid-core doctor {args.out}{outside}. "
        f"Take it back with: reid-core split reid {args.out} --undo."
    )
    return 0


def _show(plan: SplitPlan, args: argparse.Namespace) -> None:
    counts = plan.counts()
    if args.json:
        numbers = {name: {"images": images, "identities": ids} for name, (images, ids) in counts.items()}
        _screen.result(json.dumps({"protocol": plan.protocol, **numbers}))
        return
    _screen.result(_screen.table(("split", "images", "identities"), [(n, *counts[n]) for n in counts]))
    kind = "with cameras" if plan.protocol == "market1501" else "without cameras (--protocol any-camera)"
    _screen.say(f"{kind}, seed {args.seed}; for example {plan.items[0].source} -> {plan.items[0].target}")
