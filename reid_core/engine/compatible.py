"""Whether a checkpoint belongs to the data and networks at hand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reid_core.errors import CheckpointError

_ADVICE = {
    "method": ("training method", "resume with the same --method"),
    "arch": ("backbone", "resume with the same --arch"),
    "neck": ("neck", "resume with the same --neck"),
    "neck_dim": ("width of the neck", "resume with the same --neck_dim"),
    "num_networks": ("number of networks", "resume with the same --method"),
    "image_size": ("image size", "resume with the same --image_size"),
    "normalisation": ("normalisation of the images", "resume with the same --normalisation"),
    "view": ("what is measured of an image", "resume with the same --augment and --arch"),
    "num_classes": ("number of identities", "the classifier has one row for each: give the training data of that run"),
    "class_names": (
        "names of the identities",
        "rows of the classifier would change their meaning: give that run's data",
    ),
    "data": ("training images and labels", "files were added, removed, renamed or relabelled: give that run's data"),
}


PLAIN_VIEW = {"margin": 1.0, "interpolation": "bicubic"}
"""How ``eval_transform`` made images before it had a choice."""


@dataclass(frozen=True)
class Mismatch:
    """One way in which a checkpoint does not fit: ``what`` (a phrase), both values shortened to text, ``advice``."""

    what: str
    stored: str
    current: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what}: {self.stored} in the checkpoint, {self.current} now ({self.advice})"


def data_fingerprint(paths: Iterable[str], labels: Iterable[int]) -> str:
    """sha256 over the training images and their given labels; their order does not matter, their contents are not read.

    Args:
        paths: (N,) relative to the training folder, so that a moved folder is the same data.
        labels: (N,) given labels.
    """
    digest = hashlib.sha256()
    for path, label in sorted(zip(paths, labels, strict=True)):
        name = path.encode("utf-8", "surrogateescape")
        digest.update(b"%d %d %b\n" % (int(label), len(name), name))
    return digest.hexdigest()


def modern(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of its networks, as it is said today.

    Earlier versions had one architecture for all networks, and gave all of them images normalised for ImageNet.
    """
    found = {"normalisation": "imagenet", "view": PLAIN_VIEW, **identity}
    if isinstance(found.get("arch"), str):
        found["arch"] = [found["arch"]] * int(found.get("num_networks", 1))
    return found


def mismatches(stored: Mapping[str, Any], current: Mapping[str, Any]) -> list[Mismatch]:
    """Every known key of ``current`` whose value is another, or missing, in ``stored``.

    Args:
        stored: a checkpoint's metadata, see :func:`modern`. Keys that mean nothing here (folders, ...) are ignored.
        current: the same keys for the data and networks at hand: ``method, arch, neck, neck_dim, num_networks,
            image_size, num_classes, class_names, data`` (``data_fingerprint``). A key left out is not compared.
    """
    found = []
    for key, (what, advice) in _ADVICE.items():
        if key not in current:
            continue
        if key not in stored:
            found.append(Mismatch(what, "not noted", _short(current[key]), advice))
        elif _plain(stored[key]) != _plain(current[key]):
            found.append(Mismatch(what, *_difference(stored[key], current[key]), advice))
    return found


def check_compatible(stored: Mapping[str, Any], current: Mapping[str, Any], *, where: str = "the checkpoint") -> None:
    """Refuse to go on from a checkpoint of other data or other networks; arguments as ``mismatches``.

    Raises:
        CheckpointError: names each thing that differs, its two values, and what to do.
    """
    found = mismatches(stored, current)
    if found:
        raise CheckpointError(
            f"{where} does not fit this command, {len(found)} thing{'s' * (len(found) > 1)} differ"
            f"{'s' * (len(found) == 1)}: {'; '.join(map(str, found))}. Nothing was changed."
        )


def _plain(value: Any) -> Any:
    """Tuples and lists are alike: JSON knows only lists."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _difference(stored: Any, current: Any) -> tuple[str, str]:
    """Two short texts that differ: long lists show how many there are and the first place where they part."""
    lists = isinstance(stored, list | tuple) and isinstance(current, list | tuple)
    if lists and max(len(stored), len(current)) > 4:
        first = next((i for i, (a, b) in enumerate(zip(stored, current)) if a != b), min(len(stored), len(current)))
        return _place(stored, first), _place(current, first)
    return _short(stored), _short(current)


def _place(values: Sequence[Any], first: int) -> str:
    return f"{len(values)} with {values[first]!r} at {first}" if first < len(values) else f"{len(values)}"


def _short(value: Any) -> str:
    text = " x ".join(map(str, value)) if isinstance(value, list | tuple) and len(value) <= 4 else str(value)
    return text if len(text) <= 40 else f"{text[:16]}..."
