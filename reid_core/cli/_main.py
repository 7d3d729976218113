"""``reid-core VERB``: finds the verb's module, turns a user's mistake into one paragraph and an exit code."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from reid_core import __version__
from reid_core.errors import ReidCoreError, printable
from reid_core.plugins import closest, names


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one paragraph, and which offers the closest flag."""

    def error(self, message: str) -> NoReturn:
        known = [flag for action in self._actions for flag in action.option_strings]
        if message.startswith("unrecognized arguments: "):
            unknown = message.split(": ", 1)[1].split()[0]
            message += closest(unknown.split("=")[0], known)
        self.exit(2, f"{self.prog}: error: {printable(message)}\nSee '{self.prog} --help'.\n")


def same_dashes(argv: Sequence[str]) -> list[str]:
    """``--noise-ratio`` and ``--noise_ratio`` are one flag: underscores, as the reference writes them."""
    seen_end = False
    flags = []
    for word in argv:
        seen_end = seen_end or word == "--"
        if word.startswith("--") and not seen_end:
            name, equals, value = word[2:].partition("=")
            word = "--" + name.replace("-", "_") + equals + value
        flags.append(word)
    return flags


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The whole command, or just the verb that is asked for: the other modules are then not imported."""
    parser = _Parser(prog="reid-core", description="Train and measure retrieval models on wrong and unbalanced labels.")
    parser.add_argument("--version", action="version", version=f"reid-core {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    for name in names("reid_core.cli"):
        if only is not None and name != only:
            verbs.add_parser(name)
            continue
        module = importlib.import_module(f"reid_core.cli.{name}")
        summary = (module.__doc__ or name).strip().split("\n")[0]
        verb = verbs.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        verb.set_defaults(verb_parser=verb)
        verb.add_argument("--traceback", action="store_true", help="show the stack of an error")
        module.configure(verb)
    return parser


def _let_idle_threads_sleep() -> None:
    """Threads of torch's OpenMP that wait for work shall sleep, not spin.

    On a machine that others use too, or with loader processes on the same cores, spinning makes a training step twice as
    long or worse; on an idle machine sleeping costs a seventh (``docs/results.md``). Read when torch is first imported.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def run(argv: Sequence[str]) -> int:
    """Run one verb and return its exit code."""
    _let_idle_threads_sleep()
    flags = same_dashes(argv)
    verbs = names("reid_core.cli")
    verb = flags[0] if flags and flags[0] in verbs else None
    parser = build_parser(verb)
    if flags and not flags[0].startswith("-") and verb is None:
        parser.error(f"unknown verb {flags[0]!r}: known are {', '.join(verbs)}.{closest(flags[0], verbs)}")
    args, unknown = parser.parse_known_args(flags)
    if unknown:
        getattr(args, "verb_parser", parser).error(f"unrecognized arguments: {' '.join(unknown)}")
    module = importlib.import_module(f"reid_core.cli.{args.verb}")
    return guarded(lambda: int(module.run(args) or 0), args.traceback, f"reid-core {args.verb}")


def guarded(work: object, show_stack: bool, program: str) -> int:
    """Call ``work`` and translate its errors: 2-5 for a user's, 4 for a full disk, 130 for Ctrl-C."""
    try:
        return work()  # type: ignore[operator, no-any-return]
    except ReidCoreError as error:
        if show_stack:
            traceback.print_exc()
        sys.stderr.write(f"{program}: error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: interrupted.\n")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        if show_stack or error.errno not in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EROFS,
            errno.EACCES,
            errno.EPERM,
            errno.EFBIG,
        ):
            raise
        where = f"{printable(error.filename)}: " if error.filename else ""
        sys.stderr.write(
            f"{program}: error: {where}{error.strerror or error}; nothing half-written was left: "
            "free some space, or choose a folder you may write to, and run the same command again.\n"
        )
        return 4


def main() -> NoReturn:
    """Entry point of ``reid-core``."""
    sys.exit(run(sys.argv[1:]))


def train_core() -> NoReturn:
    """Entry point of ``train_core``: ``reid-core train`` with the reference's method and schedule as defaults."""
    sys.exit(run(["train", "--reference_defaults", *sys.argv[1:]]))
