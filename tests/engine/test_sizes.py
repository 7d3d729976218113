"""Which epoch sees which image size, and in batches of how many."""

import pytest

from reid_core.engine.phases import PhaseWalk
from reid_core.engine.sizes import ImageSizes
from reid_core.types import Phase


def walk_of(*phases):
    return PhaseWalk(
        [Phase(f"p{i}", None, epochs, lambda e, t: 1.0, **more) for i, (epochs, more) in enumerate(phases)]
    )


def test_a_share_of_the_trained_epochs_is_small_and_frozen_ones_are():
    sizes = ImageSizes((384, 384), 64, (224, 224), 0.6)
    walk = walk_of((2, {"frozen": True}), (3, {}), (7, {}))
    assert [sizes.of(walk, e)[0] for e in range(12)] == [224] * 8 + [384] * 4  # 2 frozen, 6 of 10
    assert sizes.all(walk) == [(224, 224), (384, 384)]
    assert {ImageSizes((384, 384), 64).of(walk, e) for e in range(12)} == {(384, 384)}


def test_a_phases_own_size_goes_first():
    walk = walk_of((2, {"image_size": (96, 48)}), (2, {}))
    sizes = ImageSizes((128, 64), 32)
    assert [sizes.of(walk, e) for e in range(4)] == [(96, 48)] * 2 + [(128, 64)] * 2
    assert sizes.all(walk) == [(128, 64), (96, 48)]


@pytest.mark.parametrize(
    ("batch", "size", "expected"),
    [
        (64, (224, 224), 64),
        (64, (384, 384), 16),  # 21.8
        (64, (288, 288), 32),  # 38.7
        (64, (112, 112), 64),  # never more than was asked for
        (12, (384, 384), 8),  # 4.1 would be none
        (4, (384, 384), 4),
    ],
)
def test_batches_shrink_by_area_to_a_multiple_of_eight(batch, size, expected):
    assert ImageSizes((384, 384), batch, (224, 224)).batch(size) == expected


def test_frozen_epochs_at_the_end_have_the_size_of_the_end():
    walk = walk_of((4, {}), (2, {"frozen": True}))
    sizes = ImageSizes((384, 384), 64, (224, 224), 0.5)
    assert [sizes.of(walk, e)[0] for e in range(6)] == [224, 224, 384, 384, 384, 384]
