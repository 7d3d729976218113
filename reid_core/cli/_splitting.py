"""What the commands that split a data set have in common: some flags, going on where one was stopped, taking it back."""

from __future__ import annotations

import argparse

from reid_core.cli import _screen
from reid_core.errors import UsageError
from reid_core.prepare._transfer import resume
from reid_core.prepare._undo import undo


def add_splitting_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that mean the same for every split."""
    parser.add_argument("--dry_run", action="store_true", help="show the plan and stop")
    parser.add_argument("--undo", action="store_true", help="take an earlier split of OUT back")
    parser.add_argument("--yes", action="store_true", help="move without asking")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")


def gone_on(args: argparse.Namespace, options: dict[str, str | int]) -> bool:
    """Whether an earlier split into OUT with the same options had been stopped, and is complete now."""
    with _screen.progress("going on") as tick:
        count = resume(args.out, args.src, args.mode, options, tick)
    if count:
        _screen.say(f"{args.out} is complete now: {count} images, all checked.")
    return bool(count)


def take_back(args: argparse.Namespace) -> int:
    """Undo the split of OUT, or of SRC where that is the only path given."""
    if args.dry_run:
        raise UsageError("--undo has no --dry_run; it removes only what has its source still, and moves back the rest.")
    with _screen.progress("taking back") as tick:
        count = undo(args.out or args.src, tick)
    _screen.say(f"{count} images were taken back.")
    return 0
