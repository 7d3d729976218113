"""A checkpoint of other data or other networks is refused, and each difference explained."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest

from reid_core.engine.compatible import check_compatible, data_fingerprint, mismatches
from reid_core.errors import CheckpointError

PATHS = ["0002/a.jpg", "0002/b.jpg", "0007/c.jpg", "0011/d.jpg"]
NOW: dict[str, Any] = {
    "method": "core",
    "arch": "resnet50",
    "neck": "fc512",
    "neck_dim": 512,
    "num_networks": 2,
    "image_size": (256, 128),
    "num_classes": 6,
    "class_names": ["0002", "0007", "0010", "0011", "0012", "0020"],
    "data": data_fingerprint(PATHS, [0, 0, 1, 2]),
    "data_dir": "here",
    "workers": 4,
}

# (what differs, what the message must say)
KINDS = [
    ({"method": "baseline"}, ["training method", "baseline", "core", "--method"]),
    ({"arch": "resnet10t"}, ["backbone", "resnet10t", "resnet50", "--arch"]),
    ({"neck": "bnneck"}, ["neck", "bnneck", "fc512", "--neck"]),
    ({"image_size": [64, 64]}, ["image size", "64 x 64", "256 x 128", "--image_size"]),
    ({"num_classes": 5}, ["number of identities", "5 in the checkpoint", "6 now", "data of that run"]),
    (
        {"class_names": ["0002", "0007", "0011", "0012", "0020", "0021"]},
        ["names of the identities", "6 with '0011' at 2", "6 with '0010' at 2"],
    ),
    (
        {"data": data_fingerprint(PATHS, [0, 0, 1, 1])},
        ["training images and labels", "relabelled", "that run's data"],
    ),
    ({"num_networks": 1}, ["number of networks", "1 in the checkpoint", "2 now"]),
    ({"neck_dim": 256}, ["width of the neck", "256", "512"]),
]


def stored(**changes: Any) -> dict[str, Any]:
    """As a checkpoint's metadata come back: lists for tuples."""
    return json.loads(json.dumps({**NOW, **changes}))


def test_the_same_data_and_networks_fit_wherever_they_lie() -> None:
    check_compatible(stored(data_dir="elsewhere", workers=0, epoch=7), NOW)


@pytest.mark.parametrize(("change", "says"), KINDS)
def test_each_kind_of_mismatch_is_explained(change: dict[str, Any], says: list[str]) -> None:
    with pytest.raises(CheckpointError) as caught:
        check_compatible(stored(**change), NOW, where="runs/a/checkpoints/last.safetensors")
    message = str(caught.value)
    assert message.startswith("runs/a/checkpoints/last.safetensors does not fit this command, 1 thing differs: ")
    assert all(part in message for part in says)


def test_all_at_once() -> None:
    change = {key: value for kind, _ in KINDS for key, value in kind.items()}
    found = mismatches(stored(**change), NOW)
    assert len(found) == len(KINDS)
    with pytest.raises(CheckpointError, match=f"{len(KINDS)} things differ: training method"):
        check_compatible(stored(**change), NOW)


def test_a_key_that_was_never_noted_is_a_mismatch_and_one_not_asked_for_is_none() -> None:
    there = stored()
    del there["arch"]
    assert [(m.what, m.stored, m.current) for m in mismatches(there, NOW)] == [("backbone", "not noted", "resnet50")]
    assert mismatches(there, {"neck": "fc512"}) == []


def test_shorter_class_lists() -> None:
    (found,) = mismatches(stored(class_names=NOW["class_names"][:5]), {"class_names": NOW["class_names"]})
    assert (found.stored, found.current) == ("5", "6 with '0020' at 5")


def test_the_fingerprint_depends_on_names_and_labels_alone() -> None:
    pairs = list(zip(PATHS, [0, 0, 1, 2]))
    wanted = data_fingerprint(*zip(*pairs))
    for seed in range(5):
        random.Random(seed).shuffle(pairs)
        assert data_fingerprint(*zip(*pairs)) == wanted
    others = [
        ([*PATHS, "0011/e.jpg"], [0, 0, 1, 2, 2]),
        (PATHS[:3], [0, 0, 1]),
        ([*PATHS[:3], "0011/x.jpg"], [0, 0, 1, 2]),
        (PATHS, [0, 1, 0, 2]),
        ([*PATHS[:3], "0011/\udcff.jpg"], [0, 0, 1, 2]),
    ]
    prints = [wanted, *(data_fingerprint(*other) for other in others)]
    assert all(a != b for a, b in itertools.combinations(prints, 2))
    with pytest.raises(ValueError, match="shorter"):
        data_fingerprint(PATHS, [0])
