"""Batches are a function of (seed, epoch, step): any number of workers, any global random state, any starting step."""

import hashlib

import numpy as np
import pytest
import torch
from conftest import write_tiny_market

from reid_core.data import market1501
from reid_core.data._dataset import EvalImages, TrainImages, eval_loader, train_loader
from reid_core.data._samplers import EpochBatches
from reid_core.data._transforms import AUGMENTATIONS, eval_transform, train_transform


def digests(dataset, workers, batch_size=4, epochs=10, start=0):
    found = []
    for epoch in range(epochs):
        for batch in train_loader(dataset, batch_size, epoch, start, workers):
            digest = hashlib.sha256(batch.images["weak"].numpy().tobytes())
            digest.update(batch.index.numpy().tobytes() + batch.labels.numpy().tobytes())
            found.append(digest.hexdigest())
    return found


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    split = market1501.read(write_tiny_market(tmp_path_factory.mktemp("batches") / "market", ids=8, shots=5))
    labels = np.array([sample.pid - 1 for sample in split.train], np.int64)
    return TrainImages(split.root, split.train, labels, train_transform("reid", (32, 16)), seed=3)


def test_first_100_batches_are_the_same_for_any_number_of_workers(dataset):
    alone = digests(dataset, 0)
    assert len(alone) == 100 and len(set(alone)) == 100
    for workers in (1, 2, 4):
        torch.manual_seed(workers)
        np.random.seed(workers)
        assert digests(dataset, workers) == alone


def test_going_on_in_the_middle_gives_the_same_batches(dataset):
    assert digests(dataset, 0, epochs=1, start=6) == digests(dataset, 0, epochs=1)[6:]


def test_seed_changes_order_and_augmentation(dataset):
    other = TrainImages(dataset.root, dataset.samples, dataset.labels, dataset.transform, seed=4)
    assert not set(digests(other, 0, epochs=1)) & set(digests(dataset, 0, epochs=1))
    assert not torch.equal(other[(0, 0)][3], dataset[(0, 0)][3])
    assert not torch.equal(dataset[(0, 0)][3], dataset[(1, 0)][3])
    assert torch.equal(dataset[(1, 0)][3], dataset[(1, 0)][3])


@pytest.mark.parametrize(
    ("samples", "batch", "sizes"), [(9, 4, [4, 4]), (10, 4, [4, 4, 2]), (3, 8, [3]), (8, 4, [4, 4])]
)
def test_a_last_batch_of_one_is_left_out(samples, batch, sizes):
    batches = EpochBatches(samples, batch, seed=1, epoch=0)
    drawn = list(batches)
    assert [len(rows) for rows in drawn] == sizes and len(batches) == len(sizes)
    indices = [index for rows in drawn for _, index in rows]
    assert len(set(indices)) == len(indices) and set(indices) <= set(range(samples))


def test_over_the_epochs_every_sample_is_seen_also_with_one_left_out():
    seen = {index for epoch in range(6) for rows in EpochBatches(9, 4, 1, epoch) for _, index in rows}
    assert seen == set(range(9))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_transforms_give_the_size_and_normalisation(name, dataset):
    from PIL import Image

    image = Image.new("RGB", (20, 50), (124, 116, 104))  # close to the mean
    torch.manual_seed(0)
    tensor = train_transform(name, (40, 24))(image)
    assert tensor.shape == (3, 40, 24) and tensor.dtype == torch.float32
    assert tensor[:, 20, 12].abs().max() < 0.02
    assert eval_transform((33, 17))(image).shape == (3, 33, 17)


def test_reid_augmentation_crops_from_nine_eighths_of_the_size():
    from PIL import Image

    rows = np.repeat(np.arange(0, 180, dtype=np.uint8)[:, None], 90, axis=1)
    tops = set()
    for seed in range(60):
        torch.manual_seed(seed)
        tensor = train_transform("reid", (160, 80))(Image.fromarray(rows).convert("RGB"))
        tops.add(round(float((tensor[0, 0, 40] * 0.229 + 0.485) * 255)))
    assert tops <= set(range(21)) and min(tops) <= 3 and max(tops) >= 17  # 180 rows, so the first shown is 0 to 20


def test_only_reid_augmentation_flips():
    import numpy as np
    from PIL import Image

    left_white = Image.fromarray(np.repeat(np.tile([255, 0], (32, 1)), 16, axis=1).astype(np.uint8)).convert("RGB")

    def flipped(name):
        transform, count = train_transform(name, (32, 32)), 0
        for seed in range(200):
            torch.manual_seed(seed)
            tensor = transform(left_white)
            count += bool(tensor[:, :, :8].mean() < tensor[:, :, -8:].mean())
        return count

    assert 70 < flipped("reid") < 130
    assert flipped("small") == 0 and flipped("none") == 0


def test_evaluation_order_is_the_order_of_the_samples(dataset):
    images = EvalImages(dataset.root, dataset.samples, eval_transform((32, 16)))
    for workers in (0, 2):
        rows = torch.cat([index for index, _ in eval_loader(images, 7, workers)])
        assert rows.tolist() == list(range(40))


def test_the_whole_augmentation_of_a_sample_is_a_function_of_seed_epoch_and_index(dataset):
    transform = train_transform("classes", (32, 32), trivial_augment=True, random_erasing=0.5)
    images = TrainImages(dataset.root, dataset.samples, dataset.labels, transform, seed=1)
    torch.manual_seed(3)
    first = [images[(0, i)][3] for i in range(12)]
    torch.manual_seed(4)
    backwards = [images[(0, i)][3] for i in reversed(range(12))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, backwards))
    assert sum(torch.equal(a, images[(1, i)][3]) for i, a in enumerate(first)) <= 1
    torch.manual_seed(5)
    state = torch.get_rng_state()
    images[(0, 0)]
    assert torch.equal(torch.get_rng_state(), state)


def test_classes_crops_most_of_an_image_and_flips_unless_asked_not_to():
    from PIL import Image

    columns = Image.fromarray(np.tile(np.linspace(0, 250, 100, dtype=np.uint8), (100, 1))).convert("RGB")

    def shown(**more):
        for seed in range(200):
            torch.manual_seed(seed)
            tensor = train_transform("classes", (50, 50), **more)(columns)
            yield tensor[0, 25] * 0.229 + 0.485

    rows = list(shown())
    assert 70 < sum(bool(row[0] > row[-1]) for row in rows) < 130
    assert not any(row[0] > row[-1] for row in shown(mirror=False))
    spans = [abs(float(row[-1] - row[0])) * 255 / 250 for row in rows]
    # 0.7 of the area at 3:4 is 0.72 of the width, and all of it is 1; half a column is lost on either side.
    assert 0.68 < min(spans) < 0.80 and max(spans) > 0.95


def test_erased_rectangles_are_zero_after_normalisation_and_within_their_area():
    from PIL import Image

    image = Image.new("RGB", (40, 40), (255, 0, 0))
    transform = train_transform("none", (64, 64), random_erasing=0.25)
    shares = []
    for seed in range(400):
        torch.manual_seed(seed)
        shares.append(float((transform(image) == 0).all(dim=0).float().mean()))
    erased = [share for share in shares if share > 0]
    assert 70 < len(erased) < 130
    assert min(erased) > 0.015 and 0.15 < max(erased) < 0.21
    torch.manual_seed(0)
    assert not (train_transform("none", (64, 64))(image) == 0).any()


def test_trivial_augment_is_a_switch_of_its_own():
    from PIL import Image

    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
    plain = eval_transform((32, 32))(image)
    changed = 0
    for seed in range(50):
        torch.manual_seed(seed)
        changed += not torch.equal(train_transform("none", (32, 32), trivial_augment=True)(image), plain)
        torch.manual_seed(seed)
        assert torch.equal(train_transform("none", (32, 32))(image), plain)
    assert changed > 30


def test_measuring_with_a_margin_shows_the_middle_and_keeps_the_shape():
    from PIL import Image

    # 256 wide, 512 high, brightness is the row: the shorter side becomes 256, and rows 144 to 367 of 512 are shown.
    rows = np.repeat((np.arange(512) / 2).astype(np.uint8)[:, None], 256, axis=1)
    tensor = eval_transform((224, 224), margin=256 / 224)(Image.fromarray(rows).convert("RGB"))
    shown = (tensor[0, :, 100] * 0.229 + 0.485) * 255
    assert tensor.shape == (3, 224, 224)
    assert shown[0].item() == pytest.approx(72, abs=1) and shown[-1].item() == pytest.approx(183, abs=1)
    assert eval_transform((112, 56), margin=256 / 224)(Image.new("RGB", (50, 50))).shape == (3, 112, 56)
