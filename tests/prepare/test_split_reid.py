"""Splitting: identities disjoint, every image somewhere, every query with a match, the same plan everywhere."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_core.data import manifest, pid_folders
from reid_core.errors import DataError, UsageError
from reid_core.prepare.split_reid import SplitPlan, plan_split, write_manifest
from reid_core.types import Sample, Split

# One identity by its cameras, an image each: "001" has two images of camera 0 and one of camera 1.
identities = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=7), min_size=6, max_size=14)


def data(cameras: list[list[int]], with_cameras: bool = True) -> Split:
    samples = tuple(
        Sample(f"{pid:04d}/{i}_c{c}.jpg", pid, c if with_cameras else -1)
        for pid, seen in enumerate(cameras)
        for i, c in enumerate(seen)
    )
    return Split("manifest", Path("/data"), "", samples, protocol="market1501" if with_cameras else "any-camera")


def check(split: Split, plan: SplitPlan) -> None:
    """The promises, restated plainly."""
    parts = {name: [i for i in plan.items if i.split == name] for name in ("train", "query", "gallery")}
    assert sorted(i.source for i in plan.items) == sorted(s.path for s in (*split.train, *split.query, *split.gallery))
    assert len({i.target.casefold() for i in plan.items}) == len(plan.items)
    test = {i.pid for i in parts["query"] + parts["gallery"]} - {-1}
    assert test.isdisjoint({i.pid for i in parts["train"]})
    assert {i.pid for i in parts["query"]} >= test - {s.pid for s in split.gallery if s.role == "distractor"}
    for query in parts["query"]:
        matches = [g for g in parts["gallery"] if g.pid == query.pid]
        if query.camid >= 0:
            matches = [g for g in matches if g.camid != query.camid]
        assert matches, query


@given(identities, st.integers(0, 5), st.sampled_from(["1", "2", "0.3"]))
@settings(max_examples=150, deadline=None)
def test_promises_with_cameras(cameras: list[list[int]], seed: int, test_ids: str) -> None:
    split = data(cameras)
    testable = sum(len(set(seen)) > 1 for seen in cameras)
    count = int(test_ids) if "." not in test_ids else round(0.3 * len(cameras))
    if testable < count:
        with pytest.raises(DataError, match=f"only {testable} have at least two cameras"):
            plan_split(split, test_ids, seed)
        return
    plan = plan_split(split, test_ids, seed)
    check(split, plan)
    queries = Counter((i.pid, i.camid) for i in plan.items if i.split == "query")
    assert len({pid for pid, _ in queries}) == count
    assert max(queries.values()) == 1


@given(identities, st.integers(0, 5), st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_promises_without_cameras(images: list[list[int]], seed: int, queries_per_id: int) -> None:
    split = data(images, with_cameras=False)
    if sum(len(seen) > 1 for seen in images) < 2:
        return
    plan = plan_split(split, "2", seed, queries_per_id)
    check(split, plan)
    for pid, count in Counter(i.pid for i in plan.items if i.split == "query").items():
        assert count == min(queries_per_id, len(images[pid]) - 1)


def test_by_hand() -> None:
    """Two cameras with two images each: a query from either, and one image of each camera is left to be found."""
    plan = plan_split(data([[0, 0, 1, 1]] * 4), "2")
    assert plan.counts() == {"train": (8, 2), "query": (4, 2), "gallery": (4, 2)}
    # A single image in each of two cameras: the second cannot be a query too, the first would lose its match.
    plan = plan_split(data([[0, 1]] * 4), "2")
    assert plan.counts() == {"train": (4, 2), "query": (2, 2), "gallery": (2, 2)}
    # Three cameras: the third stays for the other two.
    plan = plan_split(data([[0, 1, 2]] * 4), "2")
    assert plan.counts() == {"train": (6, 2), "query": (4, 2), "gallery": (2, 2)}


def test_identities_that_cannot_be_found_are_trained_on() -> None:
    plan = plan_split(data([[0, 0, 0], [0, 1], [3], [0, 1], [2, 2]]), "2")
    assert {i.pid for i in plan.items if i.split == "train"} == {0, 2, 4}


def test_same_plan_for_any_order_and_stable_for_additions() -> None:
    split = data([[0, 1, 2, 0]] * 10)
    shuffled = Split("manifest", Path("/data"), "", split.train[::-1][:20], split.train[5:], split.train[:5])
    assert plan_split(split).items == plan_split(shuffled).items
    assert plan_split(split, seed=2).items != plan_split(split).items
    more = data([[0, 1, 2, 0]] * 9 + [[0, 1, 2, 0, 3, 3]])
    before = {i.source: i.split for i in plan_split(split, "5").items}
    after = {i.source: i.split for i in plan_split(more, "5").items}
    assert sum(after[source] != part for source, part in before.items()) <= 4  # at most the changed identity's


def test_a_known_draw() -> None:
    """Another machine or version must divide the same data alike.

    By ``printf '1\\0%04d' $pid | sha256sum`` the order is 0 (0deb), 3 (3d43), 5 (4611), 1 (9239), 2 (b1c7), 4 (cc5b).
    """
    plan = plan_split(data([[0, 1]] * 6), "3", seed=1)
    assert sorted({i.pid for i in plan.items if i.split == "train"}) == [1, 2, 4]


def test_junk_and_distractors_stay_in_the_gallery() -> None:
    split = data([[0, 1]] * 4)
    extra = (Sample("j.jpg", -1, 0, "junk"), Sample("d.jpg", 0, 3, "distractor"))
    samples = tuple(Sample(s.path, s.pid + 1, s.camid) for s in split.train)
    whole = Split("market1501", Path("/data"), "train", samples, (), extra)
    items = {i.source: i for i in plan_split(whole, "2").items}
    assert items["j.jpg"].target == "gallery/-1/j.jpg" and items["d.jpg"].target == "gallery/0000/d.jpg"


@pytest.mark.parametrize("test_ids", ["0", "-1", "0.0", "1.0", "1.5", "nan", "inf", "half", "", "1e1.", "2,5"])
def test_ids_that_cannot_be_meant(test_ids: str) -> None:
    with pytest.raises(UsageError, match="--test_ids is a share"):
        plan_split(data([[0, 1]] * 4), test_ids)


def test_too_few_to_train_on() -> None:
    with pytest.raises(DataError, match="leaves 1 of 4 identities"):
        plan_split(data([[0, 1]] * 4), "3")
    with pytest.raises(UsageError, match="queries_per_id"):
        plan_split(data([[0, 1]] * 4), queries_per_id=0)


def test_equal_file_names_are_told_apart(tmp_path: Path) -> None:
    names = ["amy/cam1/a.jpg", "amy/cam2/a.jpg", "amy/cam3/A.JPG", "amy/b.jpg", "bob/a.jpg", "bob/b.jpg", "eve/x.jpg"]
    for name in [*names, "eve/y.jpg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    split = pid_folders.read(tmp_path)
    plan = plan_split(split, "1")
    check(split, plan)
    assert {i.target.split("/")[1] for i in plan.items} == {"amy", "bob", "eve"}  # words are kept
    amy = sorted(i.target.rsplit("/", 1)[1] for i in plan.items if i.pid == 0)
    assert "b.jpg" in amy and len({name.casefold() for name in amy}) == 4


def test_identity_folders_are_kept_from_parts(tmp_path: Path) -> None:
    for name in [
        "train/07/a.jpg",
        "train/07/b.jpg",
        "query/8/c.jpg",
        "gallery/8/d.jpg",
        "gallery/zoé/e.jpg",
        "train/9/f.jpg",
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    plan = plan_split(pid_folders.read(tmp_path), "1")
    assert {i.target.split("/")[1] for i in plan.items} == {"07", "8", "9", "zoé"}


def test_manifest_of_images_where_they_lie(tmp_path: Path) -> None:
    root = tmp_path / "crops"
    for pid in range(4):
        for name in (f"{pid}/=a_c1.jpg", f"{pid}/b é_c2.jpg"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"")
    plan = plan_split(pid_folders.read(root))
    for file, start in ((root / "manifest.csv", ""), (tmp_path / "all.csv", "crops/")):
        write_manifest(plan, file)
        again = manifest.read(file)
        listed = [("train", again.train), ("query", again.query), ("gallery", again.gallery)]
        assert sorted((s.path, s.pid, s.camid, part) for part, samples in listed for s in samples) == sorted(
            (start + i.source, i.pid, i.camid, i.split) for i in plan.items
        )
        with pytest.raises(UsageError, match="is there already"):
            write_manifest(plan, file)
    (tmp_path / "other").mkdir()
    with pytest.raises(UsageError, match="below its own folder"):
        write_manifest(plan, tmp_path / "other" / "manifest.csv")


def test_names_that_stay_equal_get_a_number() -> None:
    """``a_b/x.jpg`` and ``a/b/x.jpg`` of one person: the folders joined are the same name again."""
    names = ["a_b/x.jpg", "a/b/x.jpg", "A/b/X.jpg"]
    same = tuple(Sample(f"p/{name}", 0, -1) for name in names)
    others = tuple(Sample(f"q/{pid}{i}.jpg", pid, -1) for pid in (1, 2) for i in (0, 1))
    split = Split("manifest", Path("/data"), "", (*same, *others), protocol="any-camera")
    for seed in range(6):
        check(split, plan_split(split, "1", seed))
