"""What a table of results is made of; ``results_table.py`` runs it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Row = dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table and its runs.

    Attributes:
        settings: flags that all runs share, so that only the losses differ.
        planned: all runs, the most telling first; ``name`` is the run folder's.
        flags: those of one run, given its row and the folder of all runs.
        columns: of the CSV.
        describe: a row of the CSV from a planned row and its finished run folder.
        summary: the Markdown table of the rows.
    """

    settings: str
    planned: Callable[[], list[Row]]
    flags: Callable[[Row, Path], list[str]]
    columns: list[str]
    describe: Callable[[Row, Path], Row]
    summary: Callable[[list[Row]], str]


def spread(values: list[float], error: bool = False) -> str:
    """Mean, and from two values on the standard deviation, or the standard error of the mean."""
    if len(values) < 2:
        return f"{values[0]:.1f}"
    deviation = statistics.stdev(values) / (len(values) ** 0.5 if error else 1)
    return f"{statistics.mean(values):.1f} ± {deviation:.1f}"


def share(row: Row) -> str:
    """The noise of a row in words."""
    return f"{100 * float(row['ratio']):.0f} % {row['noise']}" if float(row["ratio"]) else "none"
