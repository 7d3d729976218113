"""What the readers of released retrieval data sets share: folders in, file names parsed, records out.

A reader module describes itself by one ``Layout``; everything here works on that description and on ``Files``, which
a folder and an archive both can be. No image is opened.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reid_core import plugins
from reid_core.data._files import Files, Folder, images_below, some
from reid_core.errors import DataError, UsageError
from reid_core.types import Role, Sample, Split

logger = logging.getLogger(__name__)

PREPARED = {"train": "train", "query": "query", "gallery": "gallery"}
"""Folders of the prepared layout by split; ``train_all``, ``val`` and ``multi-query`` may stand beside them."""

Published = Mapping[str, tuple["int | None", "int | None"]]
"""(images, identities) by split; None where no figure was published."""

Names = Callable[[str], "tuple[int, int, Role]"]
Where = Callable[[Files], "Mapping[str, str] | None"]
Lists = Callable[[Files, Mapping[str, str]], Mapping[str, Sequence[str]]]


@dataclass(frozen=True)
class Layout:
    """What there is to know about a released data set.

    Attributes:
        dataset: the reader module's name.
        title: the name people write.
        pattern: the file name expected, for messages.
        parse: file name to (pid, camid from 0, role).
        folders: released folder by split (``train``, ``query``, ``gallery``, and optional ones).
        usual_names: names such a folder usually has; the first is the reference program's.
        published: (images, identities) by split; None where no figure was published.
        variants: the same for other releases, by the option that chooses them.
        optional: splits that may be missing.
        find_folders: released folders by split, or None, where their names differ between releases.
        list_images: image paths by split, where more than the folders decides.
        absent_are_distractors: gallery identities without a query are distractors.
        protocol: how query and gallery are ranked, from the training records.
        needs: what the released layout consists of, for messages, where that is more than folders.
        folder_of: name of the identity folder of a file name in the prepared layout.
    """

    dataset: str
    title: str
    pattern: str
    parse: Names
    folders: Mapping[str, str]
    usual_names: Sequence[str]
    published: Published
    variants: Mapping[str, Published] = field(default_factory=dict)
    optional: Sequence[str] = ("multi-query",)
    find_folders: Where | None = None
    list_images: Lists | None = None
    absent_are_distractors: bool = False
    protocol: Callable[[Sequence[Sample]], str] = field(default=lambda samples: "market1501")
    needs: str = ""
    folder_of: Callable[[str], str] = field(default=lambda name: name.split("_", 1)[0])

    @property
    def expected(self) -> str:
        """What a released folder holds, for messages."""
        return self.needs or ", ".join(folder for split, folder in self.folders.items() if split not in self.optional)


def misfit(name: str, layout: str, pattern: str, why: str = "") -> DataError:
    """The error of a file name that does not fit."""
    return DataError(f"the file name {name!r} does not fit {layout}: expected {pattern}{why}.")


def released_folders(layout: Layout, files: Files) -> Mapping[str, str] | None:
    """Folder by split where ``files`` is the data set as released, else None. Nothing inside is looked at."""
    if layout.find_folders is not None:
        return layout.find_folders(files)
    there = {split: folder for split, folder in layout.folders.items() if files.entries(folder) is not None}
    return there if all(split in there or split in layout.optional for split in layout.folders) else None


def released_images(layout: Layout, files: Files, folders: Mapping[str, str]) -> Mapping[str, Sequence[str]]:
    """Image paths by split, sorted."""
    if layout.list_images is not None:
        return layout.list_images(files, folders)
    return {split: images_below(files, folder) for split, folder in folders.items()}


def looks_prepared(files: Files) -> bool:
    """Whether the prepared folders are there."""
    there = files.entries("")
    return there is not None and {"query", "gallery"} <= set(there[0]) and bool({"train", "train_all"} & set(there[0]))


def fits(layout: Layout, files: Files) -> bool:
    """Whether ``files`` looks like the data set, released or prepared."""
    return looks_prepared(files) or released_folders(layout, files) is not None


def samples_of(layout: Layout, paths: Sequence[str], where: str, split: str) -> tuple[Sample, ...]:
    """Records of the images of one split, in the order of ``paths``.

    Raises:
        DataError: names that do not fit (the first few and how many), or distractors and junk outside the gallery.
    """
    samples, wrong, first = [], [], None
    for path in paths:
        name = path.rsplit("/", 1)[-1]
        try:
            pid, camid, role = layout.parse(name)
        except DataError as error:
            wrong.append(name)
            first = first or error
        else:
            samples.append(Sample(path, pid, camid, role))
    if wrong:
        raise DataError(
            f"{len(wrong)} of {len(paths)} file names of split {split} in {where} do not fit {layout.title}: "
            f"{some(wrong)}. Expected {layout.pattern}. {_advice(layout, wrong[0])}"
        ) from first
    marked = [s.path for s in samples if s.role != "identity"]
    if marked and split not in ("gallery", "multi-query"):
        raise DataError(
            f"{len(marked)} images of split {split} in {where} are marked as distractor (0) or junk (-1) by their "
            f"names: {some(marked)}. In {layout.title} such images belong to the gallery; number identities from 1, "
            "or use --dataset pid_folders or manifest."
        )
    return tuple(samples)


def _advice(layout: Layout, name: str) -> str:
    """What else such a name could be."""
    fitting = []
    for other in plugins.names("reid_core.data"):
        described = getattr(plugins.load("reid_core.data", other), "LAYOUT", None)
        if isinstance(described, Layout) and other != layout.dataset:
            try:
                described.parse(name)
            except DataError:
                continue
            fitting.append(other)
    if fitting:
        return f"They look like --dataset {' or '.join(fitting)}."
    return "For other names use --dataset pid_folders or manifest."


def mark_absent(gallery: tuple[Sample, ...], query: tuple[Sample, ...]) -> tuple[Sample, ...]:
    """Gallery images whose identity no query has become distractors."""
    asked = {s.pid for s in query}
    return tuple(
        s if s.role != "identity" or s.pid in asked else Sample(s.path, s.pid, s.camid, "distractor") for s in gallery
    )


def read(layout: Layout, root: Path, train_split: str) -> Split:
    """The records of a data set in ``root``, as released or as prepared.

    Args:
        layout: the data set.
        root: its folder.
        train_split: ``train`` or ``train_all``; as released both are all training images.

    Raises:
        UsageError: ``train_split`` is neither.
        DataError: the folder is missing or is another layout, names do not fit, or a split is empty.
    """
    if train_split not in ("train", "train_all"):
        raise UsageError(
            f"--train_split must be train or train_all, got {train_split!r}."
            + plugins.closest(train_split, ("train", "train_all"))
        )
    files = Folder(Path(root))
    there = files.entries("")
    if there is None:
        raise DataError(f"{root} is not a folder that can be read; expected {layout.title}. Check --data_dir.")
    folders = released_folders(layout, files)
    if folders is not None and looks_prepared(files):
        raise DataError(
            f"{root} holds {layout.title} both as released ({', '.join(folders.values())}) and prepared "
            f"({', '.join(PREPARED)}); which one is meant cannot be known. Move one of them to a folder of its own."
        )
    if looks_prepared(files):
        if train_split not in there[0]:
            raise DataError(f"{root} has no folder {train_split!r}; there is {some(sorted(there[0]), 9)}.")
        folders = {**PREPARED, "train": train_split}
        paths: Mapping[str, Sequence[str]] = {split: images_below(files, folder) for split, folder in folders.items()}
        _warn_of_moved(paths, files.where)
    else:
        if folders is None:
            raise DataError(wrong_folder(layout, files))
        paths = released_images(layout, files, {split: folders[split] for split in PREPARED})
    samples = {split: samples_of(layout, paths[split], str(root), split) for split in PREPARED}
    gallery = samples["gallery"]
    if layout.absent_are_distractors:
        gallery = mark_absent(gallery, samples["query"])
    protocol = layout.protocol([*samples["train"], *gallery])
    counts = {split: len(found) for split, found in samples.items() if split != "train"}
    counts[train_split if looks_prepared(files) else "train_all"] = len(samples["train"])
    for difference in differences(layout, counts):
        logger.info("%s: %s", root, difference)
    return Split(layout.dataset, Path(root), folders["train"], samples["train"], samples["query"], gallery, protocol)


def differences(layout: Layout, counts: Mapping[str, int]) -> list[str]:
    """Which numbers of images by split are not the published ones, in words; subsets and users' own data differ too."""
    said = []
    for split, count in counts.items():
        published = {kind.get(split, (None, None))[0] for kind in (layout.published, *layout.variants.values())}
        known = sorted(number for number in published if number is not None)
        if known and count not in known:
            said.append(f"{split} has {count:,} images, published are {' or '.join(f'{n:,}' for n in known)}")
    return said


def wrong_folder(layout: Layout, files: Files) -> str:
    """The message for a folder in which the data set is not."""
    dirs, names = files.entries("") or ([], [])
    there = sorted(dirs) + sorted(names)
    return (
        f"{files.where} is not {layout.title}: expected {layout.expected} (as released) "
        f"or train, query, gallery (prepared); there is {some(there, 8) if there else 'nothing in it'}."
    )


def _warn_of_moved(paths: Mapping[str, Sequence[str]], where: str) -> None:
    """A file in another identity's folder may be somebody's correction: the name decides, but say so."""
    moved = [p for found in paths.values() for p in found if "/" in p and not _in_own_folder(p)]
    if moved:
        logger.warning(
            "%d images in %s lie in a folder that is not named as their file name begins (first: %r); "
            "the file name decides their identity",
            len(moved),
            where,
            min(moved),
        )


def _in_own_folder(path: str) -> bool:
    parts = path.split("/")
    return len(parts) < 3 or parts[-1].startswith(parts[-2] + "_")
