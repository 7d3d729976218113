"""The flags by which commands name a data set, and what they open."""

from __future__ import annotations

import argparse
import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reid_core import plugins
from reid_core.cli import _screen
from reid_core.data._find import resolve_name
from reid_core.data._guess import guess_dataset
from reid_core.errors import DataError, UsageError
from reid_core.types import Split


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """``--dataset``, ``--train_split`` and ``--allow_outside``."""
    parser.add_argument("--dataset", metavar="NAME", help="how the folder is laid out; guessed if not given")
    parser.add_argument("--train_split", default="train", metavar="NAME", help="which folder or split is for training")
    parser.add_argument(
        "--allow_outside", action="store_true", help="a manifest may name images outside its own folder"
    )


def open_data(root: Path, args: argparse.Namespace) -> Split:
    """Read the data set at ``root`` as the flags of ``add_data_flags`` say; the guess is said aloud.

    Raises:
        UsageError: an unknown ``--dataset``, or one that has no use for ``--allow_outside``.
        DataError: nothing is there, or it does not fit.
    """
    if not root.exists():
        raise DataError(f"there is no data set at {root}: no such file or folder.")
    name = resolve_name(args.dataset) if args.dataset else guess_dataset(root)
    if not args.dataset:
        _screen.say(f"{root} looks like --dataset {name}.")
    read = plugins.load("reid_core.data", name).read
    options: dict[str, object] = {"train_split": args.train_split}
    if args.allow_outside:
        if "allow_outside" not in inspect.signature(read).parameters:
            raise UsageError(f"--allow_outside has no meaning for --dataset {name}; leave it out.")
        options["allow_outside"] = True
    with _warnings_on_screen():
        split: Split = read(root, **options)
    return split


@contextmanager
def _warnings_on_screen() -> Iterator[None]:
    """What a reader logs as a warning is shown; nothing else about logging is changed."""
    handler = _Shown()
    logger = logging.getLogger("reid_core.data")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Shown(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        _screen.warn(record.getMessage())
