"""The note in OUT that says what ``prepare`` makes OUT from and whether it is finished.

Other than that of a split (``_transfer``) it lists the images only while they are moved: else SRC, folder or archive,
still tells the plan, and a digest shows whether it is the same one. There is no way back for which to keep a list.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

from reid_core.errors import DataError, UsageError
from reid_core.prepare._folder import PART, write_note
from reid_core.prepare._plan import SPLITS, Item, digest

NAME = ".prepare.json"


@dataclass(frozen=True)
class Journal:
    """What OUT is made from.

    Attributes:
        state: ``working`` or ``complete``.
        dataset: reader's name.
        options: what else decided the plan, as text.
        source: SRC as it was named, absolute.
        top: the folder in it that was used.
        mode: how files are placed.
        plan: digest of the items.
        items: the plan while working in mode move, where it cannot be made again from what is left; else empty.
    """

    state: str
    dataset: str
    options: str
    source: str
    top: str
    mode: str
    plan: str
    items: tuple[Item, ...] = ()


def save(out: Path, journal: Journal) -> None:
    """Write the journal of ``out``."""
    note = {"version": 1, **asdict(journal), "items": [astuple(item) for item in journal.items]}
    write_note(out, NAME, json.dumps(note, ensure_ascii=True).encode())


def load(out: Path) -> Journal | None:
    """The journal of ``out``; None where ``out`` is not there, or empty but for a leftover of ours.

    Raises:
        UsageError: ``out`` is a file, or a folder with something in it that was not made here.
        DataError: the journal cannot be read.
    """
    if not os.path.lexists(out):
        return None
    if not out.is_dir():
        raise UsageError(f"{out} is not a folder; name another OUT. Nothing was changed.")
    path = out / NAME
    if not path.exists():
        others = sorted(name for name in os.listdir(out) if name != PART)
        if others:
            raise UsageError(
                f"{out} is not empty ({others[0]!r}{', ...' if len(others) > 1 else ''}) and was not made by "
                f"'reid-core prepare' (there is no {NAME}): nothing was changed. Name a folder that is new or empty."
            )
        return None
    try:
        note: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if note.pop("version") != 1:
            raise ValueError("another version")
        items = tuple(Item(*fields) for fields in note.pop("items"))
        journal = Journal(**note, items=items)
        if items and digest(items) != journal.plan or not all(map(_is_ours, items)) or not _is_below(journal.top):
            raise ValueError("its plan was changed")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path} cannot be read ({error}), so what {out} was made from is not known. Nothing was changed. "
            "Prepare into another folder."
        ) from error
    return journal


def _is_ours(item: Item) -> bool:
    """Whether a placement read back stays in its folders, whoever wrote the journal."""
    parts = item.target.split("/")
    return _is_below(item.source) and len(parts) == 3 and parts[0] in SPLITS and not {"", ".", ".."} & set(parts)


def _is_below(path: str) -> bool:
    return not re.search(r"(^|/)\.\.?(/|$)", path) and not path.startswith(("/", "\\"))


def require_same(out: Path, found: Journal, wanted: Journal) -> None:
    """Refuse to go on in a folder that was made from something else.

    Raises:
        UsageError: saying what differs.
    """
    differs = [
        f"{name} {getattr(found, name)!r} instead of {getattr(wanted, name)!r}"
        for name in ("dataset", "options")
        if getattr(found, name) != getattr(wanted, name)
    ]
    if not differs and found.plan != wanted.plan:
        differs = [f"other files (then {found.source}, now {wanted.source})"]
    if not differs and found.state != "complete" and found.mode != wanted.mode:
        differs = [f"--mode {found.mode} instead of {wanted.mode}, and it is not finished"]
    if differs:
        raise UsageError(
            f"{out} was made from something else: {'; '.join(differs)}. Nothing was changed. "
            "Name another OUT, or repeat the command that began it."
        )


def working(journal: Journal, items: Sequence[Item]) -> Journal:
    """The journal to begin with."""
    return replace(journal, state="working", items=tuple(items) if journal.mode == "move" else ())


def complete(journal: Journal) -> Journal:
    """The journal to end with."""
    return replace(journal, state="complete", items=())
