"""Turn a data set as released (folder or .zip) into the layout that training reads.

  reid-core prepare market1501 Market-1501-v15.09.15.zip market
  reid-core prepare synthetic market --ids 100

OUT gets train_all, train, val, query, gallery (and multi-query where gt_bbox exists), one folder an identity, and
manifest.csv. Interrupted, the same command goes on where it stopped; run again, it changes nothing. A link in SRC is
followed as long as it stays in SRC; images behind one that leads out are refused.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from reid_core import plugins
from reid_core.cli import _screen
from reid_core.data._find import PACKAGE, resolve_name
from reid_core.errors import UsageError, printable
from reid_core.prepare.training_layout import Prepared, prepare


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("dataset", metavar="DATASET", help="market1501, dukemtmcreid, cuhk03, msmt17 or synthetic")
    parser.add_argument("paths", metavar="SRC OUT", nargs="+", help="released folder or .zip, and the folder to make")
    parser.add_argument("--mode", default="copy", help="copy (default), hardlink, symlink or move")
    parser.add_argument("--yes", action="store_true", help="do not ask before moving")
    parser.add_argument("--json", action="store_true", help="counts as JSON on stdout")
    own = parser.add_argument_group("CUHK03")
    own.add_argument("--images", choices=("detected", "labeled"), help="which boxes (default: detected)")
    own.add_argument("--protocol", choices=("new", "classic"), help="767/700 identities (default), or the first one")
    own.add_argument("--test_split", type=int, metavar="N", help="classic: which of the 20 splits (default: 1)")
    made = parser.add_argument_group("synthetic")
    made.add_argument("--ids", type=int, help="identities to draw")
    made.add_argument("--seed", type=int, help="what they look like (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Prepare and show the counts."""
    name = resolve_name(args.dataset)
    if name == "synthetic":
        return _synthetic(args)
    if len(args.paths) != 2:
        raise UsageError(f"prepare {name} takes SRC and OUT, got {len(args.paths)} paths.")
    if args.ids is not None or args.seed is not None:
        raise UsageError("--ids and --seed are for 'reid-core prepare synthetic OUT'.")
    src, out = args.paths
    if args.mode == "move":
        _screen.confirm(f"The images of {printable(src)} will be moved to {printable(out)}, not copied.", args.yes)
    try:
        with _screen.progress(f"preparing {name}") as tick:
            done = prepare(name, src, out, mode=args.mode, options=_options(name, args), progress=tick)
    except KeyboardInterrupt:
        _screen.say(f"{out} is not finished; the same command goes on where it stopped.")
        raise
    _show(done, args.json)
    return 0


def _options(name: str, args: argparse.Namespace) -> dict[str, str]:
    given = {key: getattr(args, key) for key in ("images", "protocol", "test_split") if getattr(args, key) is not None}
    if given and name != "cuhk03":
        raise UsageError(f"--{next(iter(given))} is for cuhk03 only.")
    return {key: str(value) for key, value in given.items()}


def _show(done: Prepared, as_json: bool) -> None:
    if as_json:
        counts = {split: {"images": found[0], "identities": found[1]} for split, found in done.counts.items()}
        _screen.result(
            json.dumps({"dataset": done.dataset, "out": str(done.out), "already": done.already, "counts": counts})
        )
    else:
        rows = []
        for split, found in done.counts.items():
            published = done.published.get(split, (None, None))
            mark = "differs" if split in done.differing else ""
            rows.append([split, *(f"{n:,}" for n in found), *("-" if n is None else f"{n:,}" for n in published), mark])
        header = ("split", "images", "identities", "published images", "identities", "")
        _screen.result(_screen.table(header, rows))
    if done.already:
        _screen.say(f"{done.out} was complete already; nothing was changed.")
    if done.missing:
        _screen.warn(
            f"{len(done.missing)} of its files are missing or have another size (first: {done.missing[0]}); they were "
            "left as they are. To have them again, prepare into another folder."
        )
    if done.differing:
        _screen.warn(
            f"the counts of {', '.join(done.differing)} are not the published ones of {done.dataset}: right for a "
            "subset or for data of your own, else look for missing files."
        )


def _synthetic(args: argparse.Namespace) -> int:
    if len(args.paths) != 1:
        raise UsageError(f"prepare synthetic takes OUT alone, got {len(args.paths)} paths.")
    if args.ids is None:
        raise UsageError("prepare synthetic needs --ids N, the number of identities to draw.")
    if args.mode != "copy":
        raise UsageError("--mode is for images that exist; synthetic ones are drawn.")
    write = plugins.load(PACKAGE, "synthetic").write
    with _screen.progress("drawing synthetic") as tick:
        write(Path(args.paths[0]), ids=args.ids, seed=1 if args.seed is None else args.seed, progress=tick)
    _screen.say(f"{args.paths[0]} is written.")
    return 0
