"""Text cells of CSV files that spreadsheets must not take for formulas.

A text that begins with ``=``, ``+``, ``-``, ``@``, a tab, a line break or NUL gets a ``'`` in front, and so does one
that begins with ``'`` itself: then taking one ``'`` away again always gives the original. Numbers are not text.
"""

from __future__ import annotations

TRIGGERS = tuple("=+-@\t\r\n\0\uff1d\uff0b\uff0d\uff20")
"""First characters that make a spreadsheet run a cell; the last four are the full-width forms."""


def guard(text: str) -> str:
    """``text`` as it is written; ``unguard(guard(text)) == text`` for every text."""
    return "'" + text if text.startswith((*TRIGGERS, "'")) else text


def unguard(cell: str) -> str:
    """``cell`` as it was meant. A ``'`` before anything harmless was never a guard and stays."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith((*TRIGGERS, "'")) else cell


def line(cells: tuple[object, ...]) -> str:
    """A line of a CSV file with its line end: text guarded, numbers as they are, quotes where needed."""
    return ",".join(_quoted(guard(c) if isinstance(c, str) else str(c)) for c in cells) + "\n"


def _quoted(cell: str) -> str:
    # The csv module of older Pythons leaves a lone carriage return unquoted and then cannot read it.
    return '"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"\r\n') else cell
