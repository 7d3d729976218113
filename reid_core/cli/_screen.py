"""What commands show: results on stdout, talk on stderr, progress only on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from reid_core.errors import UsageError, printable

Tick = Callable[[int, int], None]
"""Progress callback: (done, total)."""


def say(text: str) -> None:
    """Talk to the person at the terminal, on stderr; control characters in names are made visible."""
    lines = [printable(line) for line in text.split("\n")]
    tqdm.write("\n".join(lines), file=sys.stderr)


def warn(text: str) -> None:
    """A warning on stderr, in yellow where that is welcome."""
    mark = "\x1b[33mwarning:\x1b[0m" if colour() else "warning:"
    tqdm.write(f"{mark} {printable(text)}", file=sys.stderr)


def result(text: str) -> None:
    """A result on stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def colour() -> bool:
    """Colour only on a terminal and without ``NO_COLOR``."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


@contextmanager
def progress(title: str, unit: str = "file") -> Iterator[Tick]:
    """A progress bar as a callback ``(done, total)``; silent when stderr is not a terminal."""
    with tqdm(desc=title, unit=unit, disable=not sys.stderr.isatty(), leave=False, dynamic_ncols=True) as bar:

        def tick(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield tick


def confirm(question: str, assume_yes: bool) -> None:
    """Ask for a typed ``yes``; anything else, or no terminal, is an error and nothing is touched.

    Raises:
        UsageError: the answer was not ``yes``.
    """
    if assume_yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question} There is no terminal to answer at: add --yes to go ahead. Nothing was changed.")
    sys.stderr.write(f"{question} Type yes to go ahead: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != "yes":
        raise UsageError("not confirmed; nothing was changed.")


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A plain text table: first column left, the others right aligned."""
    cells = [[str(c) for c in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip()

    return "\n".join([line(cells[0]), "  ".join("-" * w for w in widths), *(line(row) for row in cells[1:])])


def results_table(body: Mapping[str, Any], title: str = "") -> str:
    """The table of a measurement in percent: each network, both together, the same of averaged weights, and by what they were
    measured.

    Args:
        body: as in result.json.
        title: a line above the table.
    """
    if "accuracy" in body:
        columns = {title: key for title, key in _CLASSIFIED.items() if body[key] is not None}
        below = f"{body['num_test_images']} test images of {len(body['recall']) - len(body['absent_classes'])} classes"
    else:
        columns = _RANKED
        below = f"{body['protocol']} protocol, {body['num_valid_queries']} of {body['num_queries']} queries valid"
    rows = [(name, *(f"{100 * net[key]:.1f}" for key in columns.values())) for name, net in _measured(body)]
    return (f"{title}\n" if title else "") + table(("", *columns), rows) + f"\npercent, {below}"


_RANKED = {"rank-1": "rank1", "rank-5": "rank5", "rank-10": "rank10", "mAP": "mAP", "mINP": "mINP"}
_CLASSIFIED = {
    "accuracy": "accuracy",
    "top-5": "accuracy5",
    "balanced": "balanced_accuracy",
    "geometric": "geometric_mean",
    "harmonic": "harmonic_mean",
    "lowest": "lowest_recall",
    "many": "many",
    "medium": "medium",
    "few": "few",
}


def roc_table(body: Mapping[str, Any]) -> str:
    """True positive rates of pairs at small false positive rates, in percent."""
    rows = [(name, *(f"{100 * tpr:.1f}" for tpr in net["roc"]["tpr_at_fpr"].values())) for name, net in _measured(body)]
    roc = body["roc"]
    return (
        table(("TPR at FPR", *roc["tpr_at_fpr"]), rows)
        + f"\npercent of {roc['num_matches']} matching pairs, at rates of {roc['num_non_matches']} others"
    )


def _measured(body: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    found = [(f"network {k}", net) for k, net in enumerate(body["networks"])]
    found += [("both", body["ensemble"])] if body.get("ensemble") else []
    if body.get("ema"):  # averages of the weights, beside them
        found += [(f"{name}, averaged", net) for name, net in _measured(body["ema"])]
    return found
