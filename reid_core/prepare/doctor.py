"""Is a data set fit to train on and to measure with? Every finding says how it is mended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reid_core.data._images import ImageFacts
from reid_core.errors import UsageError
from reid_core.plugins import closest
from reid_core.prepare._findings import CODES, LEVELS, Finding, finding
from reid_core.types import Sample, Split

PROTOCOLS = ("market1501", "cuhk03", "any-camera")
PARTS = ("train", "query", "gallery")
CLASS_PARTS = ("train", "test")


@dataclass(frozen=True)
class DoctorReport:
    """What ``diagnose`` found.

    Attributes:
        dataset, protocol: the reader's name and the ranking rule that was assumed; ``classification`` for class folders.
        counts: images, identities, cameras, junk and distractors by part.
        sizes: width and height in pixels: least, median, most; empty without images.
        findings: serious ones first.
    """

    dataset: str
    protocol: str
    counts: Mapping[str, Mapping[str, int]]
    sizes: Mapping[str, tuple[int, int, int]]
    findings: tuple[Finding, ...]

    @property
    def fit(self) -> bool:
        """Whether nothing serious was found."""
        return all(f.level != "serious" for f in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with every example."""
        return {"fit": self.fit, **asdict(self)}


def image_paths(split: Split) -> list[Path]:
    """Every image file of ``split`` once, sorted: what ``diagnose`` needs facts of."""
    return [split.root / path for path in sorted({s.path for part in _parts_of(split) for s in getattr(split, part)})]


def _parts_of(split: Split) -> tuple[str, ...]:
    return CLASS_PARTS if split.class_names else PARTS


def diagnose(split: Split, facts: Sequence[ImageFacts], protocol: str | None = None) -> DoctorReport:
    """Judge a data set by its records and by what decoding its images told; nothing is read here.

    Args:
        split: from a reader.
        facts: ``examine_images(image_paths(split))``.
        protocol: market1501 (cuhk03 drops the same pairs) or any-camera; the split's own if None.

    Raises:
        UsageError: an unknown protocol.
        ValueError: ``facts`` are not those of ``split``.
    """
    if split.class_names and protocol:
        raise UsageError(f"--protocol has no meaning for --dataset {split.dataset}, whose images are classified.")
    protocol = "classification" if split.class_names else protocol or split.protocol
    if protocol not in (*PROTOCOLS, "classification"):
        raise UsageError(
            f"--protocol is one of {', '.join(PROTOCOLS)}, got {protocol!r}.{closest(protocol, PROTOCOLS)}"
        )
    by_path = {f.path: f for f in facts}
    missing = [path for path in image_paths(split) if path not in by_path]
    if missing:
        raise ValueError(f"facts of {len(missing)} images are missing, the first of {missing[0]}")
    found = [
        *_parts(split),
        *_images(by_path, upright=not split.class_names),
        *_identities(split),
        *_duplicates(split, by_path),
        *_matches(split, protocol),
    ]
    found.sort(key=lambda f: LEVELS.index(f.level))
    counts = {part: _counts(getattr(split, part)) for part in _parts_of(split)}
    return DoctorReport(split.dataset, protocol, counts, _sizes(facts), tuple(found))


def why_no_match(query: Sample, gallery: Iterable[Sample], protocol: str) -> str:
    """The code of the finding that ``query`` has no match in ``gallery``, or "".

    ``any-camera`` asks only for a gallery image of the same identity, the others for one under another camera.
    """
    same = [g for g in gallery if g.pid == query.pid]
    real = [g for g in same if g.role == "identity"]
    if not same:
        return "query_identity_not_in_gallery"
    if not real:
        return "query_only_junk"
    if protocol != "any-camera" and all(g.camid == query.camid for g in real):
        return "query_only_same_camera"
    return ""


def _counts(samples: Sequence[Sample]) -> dict[str, int]:
    people = [s for s in samples if s.role == "identity"]
    return {
        "images": len(samples),
        "identities": len({s.pid for s in people}),
        "cameras": len({s.camid for s in samples if s.camid >= 0}),
        "junk": sum(s.role == "junk" for s in samples),
        "distractors": sum(s.role == "distractor" for s in samples),
    }


def _sizes(facts: Sequence[ImageFacts]) -> dict[str, tuple[int, int, int]]:
    sizes: dict[str, tuple[int, int, int]] = {}
    for name in ("width", "height"):
        values = sorted(getattr(f, name) for f in facts if not f.reason)
        if values:
            sizes[name] = (values[0], values[len(values) // 2], values[-1])
    return sizes


def _parts(split: Split) -> list[Finding]:
    root = [str(split.root)]
    people = sorted({s.pid for s in split.train})
    return [
        *finding("no_train", root if not people else ()),
        *finding("one_train_identity", [_who(split.train[0])] if len(people) == 1 else ()),
        *finding("no_test", root if not split.class_names and not split.query and not split.gallery else ()),
        *finding("no_class_test", root if split.class_names and not split.test else ()),
        *finding("no_query", root if split.gallery and not split.query else ()),
        *finding("no_gallery", root if split.query and not split.gallery else ()),
    ]


def _identities(split: Split) -> list[Finding]:
    train = _by_id(split.train)
    test = _by_id((*split.query, *split.gallery))
    both = (
        f"{_who(train[pid][0])}: {len(train[pid])} to train like {train[pid][0].path}, {len(test[pid])} to test like "
        f"{test[pid][0].path}"
        for pid in sorted(train.keys() & test.keys())
    )
    people = [images for _, images in sorted(train.items())]
    cameras = [len({s.camid for s in images}) for images in people]
    one_camera = (
        f"{_who(images[0])}: {len(images)} images of camera {images[0].camid}"
        for images, count in zip(people, cameras)
        if count == 1 and len(images) > 1 and images[0].camid >= 0
    )
    return [
        *finding("identity_in_train_and_test", both),
        *finding("identity_with_one_image", (f"{_who(p[0])}: {p[0].path}" for p in people if len(p) == 1)),
        *finding("identity_with_one_camera", one_camera),
    ]


def _matches(split: Split, protocol: str) -> list[Finding]:
    if not split.query or not split.gallery:
        return []
    gallery: dict[int, list[Sample]] = defaultdict(list)
    for sample in split.gallery:
        gallery[sample.pid].append(sample)
    dropped: dict[str, list[str]] = defaultdict(list)
    for q in split.query:
        dropped[why_no_match(q, gallery[q.pid], protocol)].append(f"{q.path} ({_who(q)}, camera {q.camid})")
    return [
        *finding("no_query_has_a_match", [f"--protocol {protocol}"] if not dropped[""] else ()),
        *finding("query_identity_not_in_gallery", dropped["query_identity_not_in_gallery"]),
        *finding("query_only_same_camera", dropped["query_only_same_camera"]),
        *finding("query_only_junk", dropped["query_only_junk"]),
    ]


def _images(facts: Mapping[Path, ImageFacts], upright: bool) -> list[Finding]:
    """``upright``: the images are of standing people, by all that is known."""
    sound = sorted((f for f in facts.values() if not f.reason), key=lambda f: f.path)
    wide = [f"{f.path}: {f.width} x {f.height}" for f in sound if f.width > f.height]
    return [
        *finding("unreadable_image", sorted(f"{f.path}: {f.reason}" for f in facts.values() if f.reason)),
        *finding("tiny_image", (f"{f.path}: {f.width} x {f.height}" for f in sound if min(f.width, f.height) < 16)),
        *finding("lying_images", wide if upright and len(wide) > len(sound) / 2 else ()),
    ]


def _duplicates(split: Split, facts: Mapping[Path, ImageFacts]) -> list[Finding]:
    """Groups of equal files, each under the gravest name that fits it."""
    groups: dict[str, list[tuple[str, Sample]]] = defaultdict(list)
    for part in _parts_of(split):
        for sample in getattr(split, part):
            fact = facts[split.root / sample.path]
            if not fact.reason:  # empty and damaged files are alike without being pictures of anything
                groups[fact.sha256].append((part, sample))
    codes: dict[str, list[str]] = defaultdict(list)
    for group in groups.values():
        if len(group) > 1:
            text = " = ".join(f"{s.path} ({_who(s)}, {part})" for part, s in group)
            for code in _kinds_of_duplicate(group):
                codes[code].append(text)
    return [f for code in CODES if code.startswith("duplicate") for f in finding(code, sorted(codes[code]))]


def _kinds_of_duplicate(group: list[tuple[str, Sample]]) -> list[str]:
    parts = {part for part, _ in group}
    serious = []
    if len({s.pid for _, s in group if s.role == "identity"}) > 1:
        serious.append("duplicate_across_identities")
    if "train" in parts and len(parts) > 1:
        serious.append("duplicate_across_train_and_test")
    if serious:
        return serious
    if {"query", "gallery"} <= parts:
        return ["duplicate_across_query_and_gallery"]
    if len({s.role for _, s in group}) > 1:
        return ["duplicate_of_junk_or_distractor"]
    return ["duplicate_within_identity"]


def _by_id(samples: Iterable[Sample]) -> dict[int, list[Sample]]:
    people: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.role == "identity":
            people[sample.pid].append(sample)
    return people


def _who(sample: Sample) -> str:
    return f"pid {sample.pid}" if sample.role == "identity" else sample.role
