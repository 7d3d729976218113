"""The generated data set: the same pictures always, the original's layout, and a folder that is whole or absent."""

from __future__ import annotations

import collections
import hashlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from reid_core.data import synthetic
from reid_core.errors import DataError, UsageError

NAME = re.compile(r"^(-1|\d{4})_c([1-6])s([1-6])_(\d{6})_(\d{2})\.jpg$")
SMALL = {"ids": 4, "test_ids": 6, "images_per_camera": 2, "seed": 3, "size": (64, 32)}
SHOTS = [(1, 0, 0), (1, 5, 2), (7, 3, 1), (100_003, 2, 0)]


def digest(*arguments: int, seed: int = 5) -> str:
    return hashlib.sha256(synthetic.render(*arguments, seed=seed).tobytes()).hexdigest()


def tree(root: Path) -> dict[str, tuple[str, int]]:
    """Hash and time of change of every file."""
    return {
        str(p.relative_to(root)): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns)
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


def names(folder: Path) -> list[tuple[int, int]]:
    """(pid, camera from 0) of each image; every name must be a Market-1501 name."""
    found = []
    for path in sorted(folder.iterdir()):
        match = NAME.match(path.name)
        assert match, path.name
        found.append((int(match[1]), int(match[2]) - 1))
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "deep" / "set"
    synthetic.write(out, **SMALL)
    return out


def test_a_picture_depends_on_its_arguments_alone():
    here = [digest(*shot) for shot in SHOTS]
    script = (
        "import hashlib; from reid_core.data.synthetic import render\n"
        f"for a in reversed({SHOTS}): print(hashlib.sha256(render(*a, seed=5).tobytes()).hexdigest())"
    )
    # Another process, in the opposite order, from another state of the global generators.
    there = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert here == there[::-1]
    assert here == [digest(*shot) for shot in SHOTS]


def test_every_argument_changes_the_picture():
    base = digest(1, 0, 0)
    assert len({base, digest(2, 0, 0), digest(1, 1, 0), digest(1, 0, 1), digest(1, 0, 0, seed=6)}) == 5


@pytest.mark.parametrize("size", [(128, 64), (64, 64), (96, 40), (16, 16)])
def test_size_and_mode(size):
    for picture in (synthetic.render(3, 5, 0, seed=0, size=size), synthetic.render_junk(3, 4, seed=0, size=size)):
        assert picture.size == (size[1], size[0])
        assert picture.mode == "RGB"
        assert np.asarray(picture).std() > 5


@pytest.mark.parametrize(
    "bad", [{"identity": -1}, {"camera": 6}, {"camera": -1}, {"shot": -1}, {"seed": -1}, {"size": (8, 64)}]
)
def test_arguments_out_of_range_are_named(bad):
    arguments = {"identity": 0, "camera": 0, "shot": 0, "seed": 0, **bad}
    with pytest.raises(UsageError, match=next(iter(bad))):
        synthetic.render(**arguments)


def test_layout_and_counts(root):
    train, query, test = (names(root / n) for n in ("bounding_box_train", "query", "bounding_box_test"))
    assert {pid for pid, _ in train} == {1, 2, 3, 4}
    assert {pid for pid, _ in query} == {5, 6, 7, 8, 9, 10}
    assert {pid for pid, _ in test} == {-1, 0, 5, 6, 7, 8, 9, 10}
    counts = collections.Counter(pid for pid, _ in test)
    assert counts[0] == 12
    assert counts[-1] == 6
    assert {camera for _, camera in train + query} == set(range(6))
    assert len(set(query)) == len(query), "one query for an identity and camera"
    stated = json.loads((root / "synthetic.json").read_text())
    assert stated["parameters"] == {**SMALL, "size": [64, 32]}
    assert stated["files"]["query"]["images"] == len(query)


def test_every_query_has_a_match_from_another_camera(root):
    query, test = names(root / "query"), names(root / "bounding_box_test")
    for pid, camera in query:
        assert any(p == pid and c != camera for p, c in test), (pid, camera)


def test_no_frame_is_both_query_and_gallery(root):
    frames = [name.rsplit("_", 1)[0] for folder in ("query", "bounding_box_test") for name in os.listdir(root / folder)]
    assert len(set(frames)) == len(frames)


def test_no_two_images_are_equal(root):
    hashes = [h for name, (h, _) in tree(root).items() if name.endswith(".jpg")]
    assert len(set(hashes)) == len(hashes)


def test_default_counts_match_what_the_demo_is_planned_for():
    plan = list(synthetic._plan(synthetic.NUM_IDS, synthetic.NUM_TEST_IDS, synthetic.IMAGES_PER_CAMERA, 0))
    train = [path for path, *_ in plan if path.startswith("bounding_box_train")]
    assert 800 <= len(train) <= 1000
    assert len({path for path, *_ in plan}) == len(plan)


def test_written_again_it_changes_nothing(root):
    before = tree(root)
    synthetic.write(root, **SMALL)
    assert synthetic.ensure(root) == root
    assert synthetic.ensure(root, **SMALL) == root
    assert tree(root) == before


def test_two_writings_are_equal(root, tmp_path):
    seen = []
    synthetic.write(tmp_path / "b", **SMALL, progress=lambda done, total: seen.append((done, total)))
    assert {k: h for k, (h, _) in tree(tmp_path / "b").items()} == {k: h for k, (h, _) in tree(root).items()}
    assert seen == [(i, len(seen)) for i in range(1, len(seen) + 1)]


@pytest.mark.parametrize("other", [{"seed": 4}, {"ids": 5}, {"size": (32, 32)}])
def test_other_parameters_are_an_error_that_says_so(root, other):
    before = tree(root)
    for call in (synthetic.write, synthetic.ensure):
        with pytest.raises(UsageError, match=f"other parameters: {next(iter(other))}"):
            call(root, **{**SMALL, **other})
    assert tree(root) == before


def test_another_generator_version_is_an_error(root, monkeypatch):
    monkeypatch.setattr(synthetic, "GENERATOR", 99)
    with pytest.raises(UsageError, match="generator version"):
        synthetic.ensure(root)


@pytest.mark.parametrize(
    "bad", [{"ids": 0}, {"test_ids": 0}, {"images_per_camera": 0}, {"seed": -1}, {"ids": 9999}, {"size": (4, 4)}]
)
def test_parameters_out_of_range_write_nothing(tmp_path, bad):
    with pytest.raises(UsageError):
        synthetic.write(tmp_path / "x", **{**SMALL, **bad})
    assert not list(tmp_path.iterdir())


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match=r"synthetic\.json"):
        synthetic.write(tmp_path, **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_way_is_left_alone(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DataError):
        synthetic.write(tmp_path / "out", **SMALL)
    assert (tmp_path / "out").read_text() == "a file"


def test_size_may_be_a_list(tmp_path):
    parameters = {"ids": 1, "test_ids": 1, "images_per_camera": 1}
    synthetic.write(tmp_path / "out", **parameters, size=[32, 16])
    synthetic.write(tmp_path / "out", **parameters, size=(32, 16))


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    synthetic.write(tmp_path / "out", ids=1, test_ids=1, images_per_camera=1, size=(32, 16))
    assert (tmp_path / "out" / "synthetic.json").is_file()


def test_missing_and_emptied_images_are_noticed(tmp_path):
    parameters = {"ids": 1, "test_ids": 1, "images_per_camera": 1, "size": (32, 16)}
    out = synthetic.ensure(tmp_path / "out", **parameters)
    victim = next((out / "query").iterdir())
    victim.write_bytes(b"")
    with pytest.raises(DataError, match="query"):
        synthetic.ensure(out)
    victim.unlink()
    with pytest.raises(DataError, match="delete"):
        synthetic.write(out, **parameters)


def test_an_interruption_leaves_nothing(tmp_path):
    def stop(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthetic.write(tmp_path / "out", **SMALL, progress=stop)
    assert not list(tmp_path.iterdir())


def test_a_kill_leaves_no_half_set_and_the_next_writing_cleans_up(tmp_path):
    script = (
        f"from pathlib import Path; from reid_core.data.synthetic import write; write(Path({str(tmp_path / 'out')!r}))"
    )
    child = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".out.partial-*/query")) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "out").exists()
    assert len(list(tmp_path.glob(".out.partial-*"))) == 1
    synthetic.write(tmp_path / "out", **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_quicker_of_two_writers_wins(tmp_path):
    parameters = {"ids": 1, "test_ids": 1, "images_per_camera": 1, "size": (32, 16)}
    out = tmp_path / "out"
    synthetic.write(
        out, **parameters, progress=lambda done, total: synthetic_once(out, parameters) if done == 1 else None
    )
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert synthetic.ensure(out, **parameters) == out


def synthetic_once(out: Path, parameters: dict) -> None:
    """What another process would do in the meantime."""
    script = f"from pathlib import Path; from reid_core.data.synthetic import write; write(Path({str(out)!r}), **{parameters!r})"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_read_wants_a_written_set(tmp_path):
    with pytest.raises(DataError, match="prepare synthetic"):
        synthetic.read(tmp_path)


@pytest.mark.skipif(
    importlib.util.find_spec("reid_core.data.market1501") is None, reason="needs the Market-1501 reader"
)
def test_read(root):
    split = synthetic.read(root)
    assert split.dataset == "synthetic"
    assert {s.pid for s in split.train} == {1, 2, 3, 4}
    assert {s.role for s in split.gallery} == {"identity", "distractor", "junk"}
    assert [(s.pid, s.camid) for s in split.query] == names(root / "query")


def signature(identity: int, camera: int, shot: int) -> np.ndarray:
    """Mean colour of chest and of thighs."""
    pixels = np.asarray(synthetic.render(identity, camera, shot, seed=0), dtype=np.float64)
    return np.concatenate([pixels[26:52, 24:40].mean((0, 1)), pixels[68:90, 26:38].mean((0, 1))])


def test_identities_differ_more_than_pictures_of_one():
    people = np.array([[signature(i, c, s) for c in range(6) for s in range(2)] for i in range(12)])
    within = people.std(axis=1).mean()
    between = people.mean(axis=1).std(axis=0).mean()
    assert between > within


def test_junk_depends_on_its_arguments_alone():
    first = [synthetic.render_junk(n, n % 6, seed=0).tobytes() for n in range(6)]
    assert first[::-1] == [synthetic.render_junk(n, n % 6, seed=0).tobytes() for n in reversed(range(6))]
    assert len(set(first)) == 6
