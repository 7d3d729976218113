"""Cut users' own data into training, query and gallery images with no identity on both sides.

Every draw is the order of SHA-256 over the seed and a name (``_draw``).
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reid_core.data._csv import write_csv
from reid_core.errors import DataError, UsageError
from reid_core.prepare._draw import draw_order
from reid_core.prepare._plan import Item
from reid_core.types import Sample, Split


@dataclass(frozen=True)
class SplitPlan:
    """Where every image of a data set goes.

    Attributes:
        root: the source's folder.
        protocol: market1501 where the images have cameras, else any-camera.
        items: sorted by target.
        options: what decided the plan, in plain values.
    """

    root: Path
    protocol: str
    items: tuple[Item, ...]
    options: Mapping[str, str | int] = field(default_factory=dict)

    def counts(self) -> dict[str, tuple[int, int]]:
        """(images, identities) of train, query and gallery; junk is an image and no identity."""
        return {
            name: (
                sum(i.split == name for i in self.items),
                len({i.pid for i in self.items if i.split == name and i.pid != -1}),
            )
            for name in ("train", "query", "gallery")
        }


def plan_split(split: Split, test_ids: str = "0.5", seed: int = 1, queries_per_id: int = 1) -> SplitPlan:
    """Decide where every image goes; nothing is touched.

    Test identities are drawn among those that can be searched for: with two cameras or more, or, where the data have
    no cameras, with two images or more. The others are all training identities. With cameras, each camera of a test
    identity gives one query, as in Market-1501, as long as every query keeps a match under another camera in the
    gallery; without cameras, ``queries_per_id`` images do, and at least one stays in the gallery. Junk and distractors
    of the source go to the gallery. An earlier division of the source into splits is not kept.

    Args:
        split: all images of the source, from any reader.
        test_ids: a share of all identities in (0, 1) if written with a point, else a number of identities.
        seed: 0 or more.
        queries_per_id: only without cameras.

    Raises:
        UsageError: ``test_ids`` or ``queries_per_id`` cannot be meant.
        DataError: too few identities, or too few of them can be searched for; the numbers are in the message.
    """
    if queries_per_id < 1:
        raise UsageError(f"--queries_per_id must be 1 or more, got {queries_per_id}")
    samples = sorted({s.path: s for s in (*split.train, *split.query, *split.gallery)}.values(), key=lambda s: s.path)
    has_cameras = any(s.camid >= 0 for s in samples)
    by_id: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.role == "identity":
            by_id[sample.pid].append(sample)
    name_of = {pid: identity_folder(images[0], split) for pid, images in by_id.items()}
    count = _number(test_ids, len(by_id))
    searchable = [pid for pid, images in by_id.items() if _distinct(images, has_cameras) >= 2]
    need = "at least two cameras" if has_cameras else "at least two images"
    if count > len(searchable):
        raise DataError(
            f"--test_ids {test_ids} asks for {count} of {len(by_id)} identities, but only {len(searchable)} have {need}, "
            "without which no search can find them; ask for fewer, or add images."
        )
    if len(by_id) - count < 2:
        raise DataError(
            f"--test_ids {test_ids} leaves {len(by_id) - count} of {len(by_id)} identities to train on; at least 2 are "
            "needed."
        )
    test = set(sorted(searchable, key=lambda pid: draw_order(seed, name_of[pid]))[:count])
    placed: list[tuple[Sample, str]] = []
    for pid, images in by_id.items():
        queries = _queries(images, has_cameras, queries_per_id, seed) if pid in test else set()
        for sample in images:
            placed.append((sample, "train" if pid not in test else "query" if sample.path in queries else "gallery"))
    placed.extend((sample, "gallery") for sample in samples if sample.role != "identity")
    items = _with_targets(placed, split)
    options: dict[str, str | int] = {"test_ids": test_ids, "seed": seed}
    if not has_cameras:
        options["queries_per_id"] = queries_per_id
    return SplitPlan(split.root, "market1501" if has_cameras else "any-camera", items, options)


def write_manifest(plan: SplitPlan, file: Path) -> None:
    """Write the plan as a manifest of the images where they lie; no image is touched.

    Args:
        plan: from ``plan_split``.
        file: a new CSV file in the source's folder or above it, as a manifest names only images below itself.

    Raises:
        UsageError: the file is there already, or the images would not be below its folder.
    """
    if os.path.lexists(file):
        raise UsageError(f"{file} is there already; choose another name, or remove it.")
    below = os.path.relpath(os.path.realpath(plan.root), os.path.realpath(file.parent)).replace(os.sep, "/")
    if below.startswith(".."):
        raise UsageError(
            f"{file}: a manifest names images below its own folder, so it must be written to {plan.root} or a folder "
            f"above, for example as {plan.root / 'manifest.csv'}; or choose another --mode than manifest."
        )
    start = "" if below == "." else below + "/"
    rows = ((start + i.source, i.pid, i.camid if i.camid >= 0 else None, i.split) for i in plan.items)
    write_csv(file, ("path", "pid", "camid", "split"), rows)


def identity_folder(sample: Sample, split: Split) -> str:
    """Name of an identity's folder: kept where the source has such folders, else the pid with four digits."""
    parts = sample.path.split("/")
    if split.dataset == "pid_folders":
        # With parts (train/0001/a.jpg) the identity is the second folder, flat (0001/a.jpg) the first.
        return parts[1 if split.train_folder or split.query or split.gallery else 0]
    return "-1" if sample.pid == -1 else f"{sample.pid:04d}"


def _number(test_ids: str, identities: int) -> int:
    try:
        value = float(test_ids)
        share = "." in test_ids
        if share and not 0 < value < 1 or not share and int(test_ids) < 1:
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--test_ids is a share of the identities in (0, 1), like 0.5, or a number of them from 1, got {test_ids!r}"
        ) from None
    return max(1, round(value * identities)) if share else int(test_ids)


def _distinct(images: Sequence[Sample], has_cameras: bool) -> int:
    return len({s.camid for s in images}) if has_cameras else len(images)


def _queries(images: Sequence[Sample], has_cameras: bool, queries_per_id: int, seed: int) -> set[str]:
    """Paths of one test identity's queries."""
    drawn = sorted(images, key=lambda s: draw_order(seed, s.path))
    if not has_cameras:
        return {s.path for s in drawn[: min(queries_per_id, len(drawn) - 1)]}
    gallery = Counter(s.camid for s in images)
    chosen: dict[int, str] = {}
    for sample in drawn:  # the first image drawn of a camera stands for it
        if sample.camid in chosen:
            continue
        gallery[sample.camid] -= 1
        asking = (*chosen, sample.camid)
        if all(gallery.total() - gallery[camera] > 0 for camera in asking):
            chosen[sample.camid] = sample.path
        else:
            gallery[sample.camid] += 1
    return set(chosen.values())


def _with_targets(placed: Sequence[tuple[Sample, str]], split: Split) -> tuple[Item, ...]:
    """Give every image a file name of its own, also where ``A.jpg`` and ``a.jpg`` are one file."""
    wanted = [f"{part}/{identity_folder(s, split)}/{s.path.rsplit('/', 1)[-1]}" for s, part in placed]
    uses = Counter(name.casefold() for name in wanted)
    taken: set[str] = {name.casefold() for name in wanted if uses[name.casefold()] == 1}
    items: list[Item] = []
    for (sample, part), name in zip(placed, wanted):
        if uses[name.casefold()] > 1:
            folder, file = name.rsplit("/", 1)
            # Tell them apart by the folders they come from, and where that is not enough by a number.
            stem = f"{folder}/{sample.path.rsplit('/', 1)[0].replace('/', '_')}_{file}"
            name, number = stem, 1
            while name.casefold() in taken:
                number += 1
                name = f"{folder}/{number}_{stem.rsplit('/', 1)[1]}"
            taken.add(name.casefold())
        items.append(Item(sample.path, name, sample.pid, sample.camid, part))
    return tuple(sorted(items, key=lambda item: item.target))
