"""A released data set becomes ``train_all, train, val, query, gallery, multi-query`` with one folder an identity.

The layout is that of the preparation script everybody uses, without its leak: ``val`` gets the first image (by name)
of every identity with two or more, and ``train`` never does, however often the command is run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reid_core import plugins
from reid_core.data._find import PACKAGE, resolve_name
from reid_core.data._layout import Layout, Published
from reid_core.errors import DataError, UsageError
from reid_core.prepare import _cuhk03_mat, _journal, _manifest
from reid_core.prepare._checks import check_layout
from reid_core.prepare._fill import Progress, fill
from reid_core.prepare._folder import locked
from reid_core.prepare._journal import Journal
from reid_core.prepare._place import MODES
from reid_core.prepare._plan import Item, digest, plan_released
from reid_core.prepare._source import FolderSource, Source, locate, open_source

OPTIONS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "cuhk03": {
        "images": ("detected", "labeled"),
        "protocol": ("new", "classic"),
        "test_split": tuple(str(n) for n in range(1, 21)),
    }
}
"""What a data set needs to know besides, and the values it takes; the first is the default."""


@dataclass(frozen=True)
class Prepared:
    """What ``prepare`` made or found.

    Attributes:
        dataset: reader's name.
        out: the folder.
        already: it was complete before; nothing was changed.
        counts: (images, identities) by split.
        published: the same as the owners publish them; None where unknown.
        missing: files of the manifest that are no longer there (only looked at when ``already``).
    """

    dataset: str
    out: Path
    already: bool
    counts: Mapping[str, tuple[int, int]]
    published: Published
    missing: tuple[str, ...] = ()

    @property
    def differing(self) -> list[str]:
        """Splits whose counts differ from the published ones."""
        return [
            split
            for split, found in self.counts.items()
            if any(
                p is not None and p != f for f, p in zip(found, self.published.get(split, (None, None)), strict=True)
            )
        ]


def prepare(
    dataset: str,
    src: str | Path,
    out: str | Path,
    *,
    mode: str = "copy",
    options: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Make the training layout of a released data set; go on with, or leave alone, what is there already.

    Args:
        dataset: name as users type it.
        src: the released folder, its .zip, or a folder that holds it.
        out: a new or empty folder, or one that this function began.
        mode: ``copy``; ``hardlink`` and ``symlink`` leave the images where they are; ``move`` empties the source:
            an image with two places (train_all and train or val) is moved to the first and hard-linked, or else
            copied, to the second.
        options: what a data set needs to know besides (CUHK03: ``images``, ``protocol``, ``test_split``).
        progress: called with (placed, total).

    Raises:
        UsageError: unknown data set or mode, a mode that the source cannot give, an ``out`` that is not ours or
            was made from something else.
        DataError: the source is not the data set, names or archive are refused, images are empty or damaged, or a
            link among them leads out of ``src``.
        CheckpointError: not enough space.
        OSError: the disk is full after all, or may not be written.
    """
    src, out = Path(src), Path(out)
    name = resolve_name(dataset)
    layout = getattr(plugins.load(PACKAGE, name), "LAYOUT", None)
    if not isinstance(layout, Layout):
        raise UsageError(f"data set {dataset!r} has no released layout to prepare.")
    if mode not in MODES:
        raise UsageError(f"--mode must be one of {', '.join(MODES)}, got {mode!r}.{plugins.closest(mode, MODES)}")
    options = _complete(layout, options or {})
    found = _journal.load(out)
    wanted = Journal("working", name, json.dumps(options), os.path.realpath(src), "", mode, "", ())
    if found is not None and found.mode == "move" and _same_start(found, wanted):
        if found.state == "complete":
            return _already(layout, out, None, _published(layout, options))
        source: Source = FolderSource(Path(found.source)).below(found.top)
        items: list[Item] = list(found.items)
        wanted = replace(wanted, top=found.top, plan=found.plan)
    else:
        source, items, top_name = _planned(layout, src, options)
        wanted = replace(wanted, top=top_name, plan=digest(items))
    if found is not None:
        _journal.require_same(out, found, wanted)
        if found.state == "complete":
            return _already(layout, out, items, _published(layout, options))
    check_layout(items, source, out, mode)
    rows = _carry_out(source, items, out, wanted, progress)
    return Prepared(name, out, False, _manifest.count(layout, rows), _published(layout, options))


def _same_start(found: Journal, wanted: Journal) -> bool:
    """Whether both began with the same words; a half-moved source can say no more than that."""
    return all(getattr(found, n) == getattr(wanted, n) for n in ("dataset", "options", "source", "mode"))


def _planned(layout: Layout, src: Path, options: Mapping[str, str]) -> tuple[Source, list[Item], str]:
    matlab = _cuhk03_mat.find(src) if layout.dataset == "cuhk03" else None
    if matlab is not None:
        return *_cuhk03_mat.plan(layout, matlab, options), ""
    if options.get("protocol") == "classic":
        raise DataError(
            f"the classic protocol is made from {_cuhk03_mat.DATA}, which is not in {src}; unpack it there."
        )
    source, top = locate(layout, open_source(src), options.get("images", ""))
    return source, plan_released(layout, source), top


def _complete(layout: Layout, options: Mapping[str, str]) -> dict[str, str]:
    """Options with their defaults.

    Raises:
        UsageError: an option that this data set has not, or a value it cannot have.
    """
    known = OPTIONS.get(layout.dataset, {})
    for name, value in options.items():
        if name not in known:
            raise UsageError(f"{layout.dataset} has no option {name!r}; it has {', '.join(known) or 'none'}.")
        if value not in known[name]:
            raise UsageError(f"--{name} must be one of {', '.join(known[name])}, got {value!r}.")
    return {name: options.get(name, values[0]) for name, values in known.items()}


def _published(layout: Layout, options: Mapping[str, str]) -> Published:
    variant = "classic" if options.get("protocol") == "classic" else options.get("images", "")
    return layout.variants.get(variant, layout.published)


def _carry_out(
    source: Source, items: list[Item], out: Path, wanted: Journal, progress: Progress | None
) -> list[_manifest.Row]:
    with locked(out):
        _journal.save(out, _journal.working(wanted, items))
        rows = _manifest.rows_of(items, fill(out, items, source, wanted.mode, progress))
        _manifest.write(out, rows)
        _journal.save(out, _journal.complete(wanted))
    return rows


def _already(layout: Layout, out: Path, items: list[Item] | None, published: Published) -> Prepared:
    rows = _manifest.read(out)
    sizes = {item.target: item.size for item in items or ()}
    missing = []
    for row in rows:
        path = out / row.path
        if not path.is_file() or sizes.get(row.path, -1) not in (-1, path.stat().st_size):
            missing.append(row.path)
    return Prepared(layout.dataset, out, True, _manifest.count(layout, rows), published, tuple(missing))
