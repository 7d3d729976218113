"""CSV files that spreadsheets do not execute and that are never half-written.

A spreadsheet takes a cell that starts with ``=``, ``+``, ``-`` or ``@`` for a formula, and tabs and line breaks may
hide one. Text cells that start so get a ``'`` in front, and so do those that start with ``'`` themselves: then taking
one ``'`` away again always gives the original. Numbers are written as they are.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from reid_core.errors import DataError
from reid_core.files import write_atomically
from reid_core.plugins import closest

MAX_BYTES = 2**30
"""Larger files are refused: five million rows, more than any re-identification data set has, take about half of it."""

_TRIGGERS = tuple("=+-@\t\r\n\0\uff1d\uff0b\uff0d\uff20")  # the last four are the full-width forms


def to_cell(value: object) -> str:
    """A value as the text of a cell: text that a spreadsheet could execute gets a leading ``'``; None is empty."""
    if value is None:
        return ""
    text = str(value)
    return "'" + text if isinstance(value, str) and text.startswith((*_TRIGGERS, "'")) else text


def from_cell(cell: str) -> str:
    """The text that ``to_cell`` was given."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith((*_TRIGGERS, "'")) else cell


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a UTF-8 CSV file in one step: it has all rows, or stands as it was before.

    Args:
        path: the file; its folder exists.
        header: column names.
        rows: cells; text is made safe by ``to_cell``, None is an empty cell.
    """
    text = "".join(line(row) for row in (header, *rows))
    # File names that are not UTF-8 travel as surrogates and go out as the bytes they were.
    write_atomically(Path(path), text.encode("utf-8", "surrogateescape"))


def line(cells: Sequence[object]) -> str:
    """One line of a CSV file with its end: text made safe by ``to_cell``, quotes where needed."""
    return ",".join(_quoted(to_cell(value)) for value in cells) + "\n"


def read_csv(
    path: str | Path, required: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a UTF-8 CSV file with a header, one at a time.

    Args:
        path: the file. A byte order mark, Windows line ends, empty lines and columns in any order and case are fine.
        required: lower-case columns that must be there.
        optional: further columns to hand over; others are ignored.

    Yields:
        The line number (from 1, of the row's last line) and the cells by column, a protecting ``'`` taken off; a missing optional column is "". Bytes that are not UTF-8 arrive as surrogates (``is_utf8``).

    Raises:
        DataError: no such file, too large, UTF-16, a missing or doubled column, a row of another length, or broken
            quotes; the message names file and line.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            start = file.peek(4)[:4]  # not read: a pipe cannot go back
            if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in start:
                raise DataError(
                    f"{path} is not UTF-8 text (it looks like UTF-16, or is no text); save it as CSV UTF-8."
                )
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise DataError(f"{path} has {size} bytes, more than {MAX_BYTES}: is it the right file?")
            text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
            yield from _rows(path, csv.reader(text, strict=True), required, optional)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; a CSV file was expected there.") from error


def is_utf8(text: str) -> bool:
    """Whether ``text`` came from valid UTF-8."""
    return not any("\udc80" <= c <= "\udcff" for c in text)


def _quoted(cell: str) -> str:
    """Quotes where needed. The csv module of older Pythons leaves a lone carriage return unquoted."""
    return '"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"\r\n') else cell


def _rows(
    path: Path, reader: Iterator[list[str]], required: Sequence[str], optional: Sequence[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        places = _places(path, header, required, optional)
        for cells in reader:
            number: int = reader.line_num  # type: ignore[attr-defined]
            if not cells or cells == [""]:
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{path}, line {number}: {len(header)} cells were expected as in the header, got {len(cells)}; "
                    'text with commas in it needs double quotes ("a,b.jpg").'
                )
            row = {name: from_cell(cells[place]) for name, place in places.items()}
            yield number, {name: row.get(name, "") for name in (*required, *optional)}
    except csv.Error as error:
        raise DataError(f"{path}, near line {reader.line_num}: {error}; are the quotes in order?") from error  # type: ignore[attr-defined]


def _places(path: Path, header: list[str], required: Sequence[str], optional: Sequence[str]) -> dict[str, int]:
    """Column positions; a missing required column is an error that offers the nearest."""
    if not header:
        raise DataError(f"{path} is empty; its first line must name the columns {','.join(required)}.")
    for name in (*required, *optional):
        if header.count(name) > 1:
            raise DataError(f"{path}: the column {name!r} is there {header.count(name)} times.")
    for name in required:
        if name not in header:
            signs = {";": "semicolons", "\t": "tabs"}
            other = next((word for sign, word in signs.items() if sign in "".join(header)), None)
            hint = f" It seems to be separated by {other}; commas are needed." if other else closest(name, header)
            raise DataError(
                f"{path}: there is no column {name!r} in the first line ({', '.join(header)[:200]}); "
                f"needed are {', '.join(required)}.{hint}"
            )
    return {name: header.index(name) for name in (*required, *optional) if name in header}
