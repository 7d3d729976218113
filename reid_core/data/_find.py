"""From what users type to a reader's name and a folder."""

from __future__ import annotations

from pathlib import Path

from reid_core import plugins
from reid_core.data._files import Folder, some
from reid_core.data._layout import Layout, fits
from reid_core.errors import DataError, UsageError

PACKAGE = "reid_core.data"
ALIASES = {"market": "market1501", "duke": "dukemtmcreid"}


def plain(text: str) -> str:
    """Lower case without ``-``, ``_``, blanks and dots: how names are compared."""
    return "".join(c for c in text.lower() if c not in "-_ .")


def resolve_name(user_text: str) -> str:
    """The reader module a user means: case, ``-`` and ``_`` do not matter, ``market`` and ``duke`` are short names.

    A dotted name (a user's own module) is returned as it stands.

    Raises:
        UsageError: no such data set; the known ones and the closest are named.
    """
    known = plugins.names(PACKAGE)
    by_plain = {plain(name): name for name in known}
    wanted = plain(user_text)
    wanted = ALIASES.get(wanted, wanted)
    if wanted in by_plain:
        return by_plain[wanted]
    if "." in user_text.strip("."):
        return user_text
    offer = plugins.closest(wanted, list(by_plain) + list(ALIASES))
    raise UsageError(f"unknown data set {user_text!r}: known are {', '.join(known)}.{offer}")


def find_root(data_dir: str | Path, dataset_name: str) -> Path:
    """The folder of a data set: ``data_dir`` itself, or a folder with one of its usual names in it.

    Looks two levels down (archives often unpack to a folder in a folder). Of several folders that fit, the one
    with the reference program's name (``market``, ``duke``, ...) is taken. Readers that describe no layout get
    ``data_dir`` itself.

    Raises:
        DataError: nothing fits; says what was looked for and what is there.
        UsageError: several folders fit.
    """
    start = Path(data_dir)
    layout = getattr(plugins.load(PACKAGE, resolve_name(dataset_name)), "LAYOUT", None)
    if not isinstance(layout, Layout):
        if not start.exists():
            raise DataError(f"--data_dir {start} does not exist.")
        return start
    level = [start]
    for _ in range(3):
        fitting = [folder for folder in level if fits(layout, Folder(folder))]
        preferred = [folder for folder in fitting if folder.name == layout.usual_names[0]]
        if len(fitting) == 1 or len(preferred) == 1:
            return (preferred or fitting)[0]
        if fitting:
            raise UsageError(
                f"--data_dir {start} holds several folders that could be {layout.title}: "
                f"{some([str(f) for f in fitting])}. Name the one you mean with --data_dir."
            )
        level = [child for folder in level for child in _named_children(folder, layout)]
    raise DataError(_nothing(start, layout))


def _named_children(folder: Path, layout: Layout) -> list[Path]:
    wanted = {plain(name) for name in layout.usual_names}
    folders, _ = Folder(folder).entries("") or ([], [])
    return [folder / name for name in sorted(folders) if plain(name) in wanted]


def _nothing(start: Path, layout: Layout) -> str:
    listing = Folder(start).entries("")
    if listing is None:
        return f"--data_dir {start} is not a folder; expected {layout.title} or the folder it lies in."
    there = sorted(listing[0]) + sorted(listing[1])
    others = [name for name in sorted(listing[0]) if fits(layout, Folder(start / name))]
    hint = f" {others[0]!r} in it would fit: name that folder." if others else ""
    return (
        f"no {layout.title} in --data_dir {start}: looked there, and in folders named "
        f"{', '.join(layout.usual_names)}, for {layout.expected} (as released) or train, query, gallery "
        f"(prepared); there is {some(there, 8) if there else 'nothing'}.{hint}"
    )
