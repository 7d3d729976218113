"""Ranking from embeddings: the bits of the matrix route, whatever the memory, the threads and the order."""

import gc
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from contextlib import ExitStack

import numpy as np
import pytest

from reid_core.errors import DataError, NumericalError, UsageError
from reid_core.metrics import _chunks, _host, _tiles
from reid_core.metrics._chunks import _MATCH_BYTES, cut_queries
from reid_core.metrics._host import _PackedTiles
from reid_core.metrics._matches import find_matches
from reid_core.metrics._products import Packed
from reid_core.metrics._tiles import TILE, Tile
from reid_core.metrics.distance import distance_matrix
from reid_core.metrics.embeddings import bytes_of, rank_metrics_from_embeddings
from reid_core.metrics.rank import rank_metrics

FIELDS = (
    "cmc mAP mAP_trapezoid mINP ap ap_trapezoid inp first_hit num_queries num_valid_queries num_junk num_dropped "
    "protocol tie_share"
).split()


def same(one, other):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def problem(seed, queries, gallery, width, identities, ties=False):
    """Random embeddings; with ``ties`` of few different values, and every second gallery image the same."""
    rng = np.random.default_rng(seed)
    q, g = (rng.normal(size=(n, width)).astype(np.float32) for n in (queries, gallery))
    if ties:
        q, g = np.round(q) + 0.5, np.round(g) + 0.5
        g[::2] = g[0]
    pids = rng.integers(0, identities, queries), rng.integers(-1, identities, gallery)
    return q, g, *pids, rng.integers(0, 4, queries), rng.integers(0, 4, gallery)


def outcome(call, *args, **more):
    try:
        return call(*args, **more)
    except DataError as error:
        return str(error)


SIZES = [
    (1, 1, 1, 1),
    (3, 7, 2, 2),
    (40, 511, 5, 9),
    (513, 512, 8, 30),
    (600, 1300, 33, 40),
    (1600, 700, 16, 1),
    (1600, 700, 16, 12),
    (30, 1030, 3, 300),
]


@pytest.mark.parametrize("protocol", ["market1501", "any-camera"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("ties", [False, True])
def test_the_bits_of_the_matrix_route(protocol, metric, ties):
    for seed, size in enumerate(SIZES):
        q, g, *ids = problem(seed, *size, ties=ties)
        expected = outcome(rank_metrics, distance_matrix(q, g, metric), *ids, protocol=protocol)
        for memory, threads, backend in (("256MB", 2, "auto"), ("3MB", 3, "python"), (1, 1, "auto")):
            more = {"memory": memory, "threads": threads, "backend": backend, "protocol": protocol}
            found = outcome(rank_metrics_from_embeddings, q, g, *ids, metric, **more)
            if isinstance(expected, str):
                assert found == expected
            else:
                same(found, expected)


def test_by_hand():
    """One query at 0 degrees, matches at 10 and 40 degrees, others at 20, 30 and 50: ranks 0 and 3."""
    turn = np.radians([10, 40, 20, 30, 50, 5, 1])
    gallery = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    result = rank_metrics_from_embeddings(
        [[2.0, 0.0]], gallery, [7], [7, 7, 1, 2, 0, -1, 7], [0], [1, 2, 1, 1, 1, 1, 0], max_rank=3
    )
    assert result.first_hit.tolist() == [0] and result.cmc.tolist() == [1, 1, 1]
    assert result.mAP == pytest.approx((1 + 2 / 4) / 2) and result.mINP == pytest.approx(2 / 4)
    assert (result.num_junk, result.num_dropped) == (1, 1)


def test_an_order_of_the_gallery_means_nothing():
    q, g, *ids = problem(3, 60, 1200, 24, 20, ties=True)
    expected = rank_metrics_from_embeddings(q, g, *ids)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(g))
        found = rank_metrics_from_embeddings(q, g[order], ids[0], ids[1][order], ids[2], ids[3][order])
        same(found, expected)


def test_memory_maps_and_other_types(tmp_path):
    q, g, *ids = problem(4, 50, 600, 16, 12)
    expected = rank_metrics_from_embeddings(q, g, *ids)
    stored = np.memmap(tmp_path / "g", np.float32, "w+", shape=g.shape)
    stored[:] = g
    same(rank_metrics_from_embeddings(q, np.memmap(tmp_path / "g", np.float32, "r", shape=g.shape), *ids), expected)
    same(rank_metrics_from_embeddings(np.asfortranarray(q), np.repeat(g, 2, axis=0)[::2], *ids), expected)
    for kind in (np.float16, np.float64):
        a, b = q.astype(kind), g.astype(kind)
        same(rank_metrics_from_embeddings(a, b, *ids), rank_metrics(distance_matrix(a, b), *ids))


def test_every_tile_is_multiplied_once(monkeypatch):
    """What the matches' distances were read from is kept for the counting, while there is room."""
    calls = []

    def product(left, right, metric, out, real=_tiles.tile_distances):
        calls.append(1)
        real(left, right, metric, out)

    monkeypatch.setattr("reid_core.metrics._host.tile_distances", product)
    q, g, *ids = problem(5, 3400, 1900, 8, 50)
    ids[1][ids[1] == -1] = 0
    rank_metrics_from_embeddings(q, g, *ids)
    assert len(calls) == 5 * 4
    calls.clear()
    rank_metrics_from_embeddings(q, g, *ids, memory=1)
    assert len(calls) > 5 * 4


def test_progress_reaches_its_total():
    q, g, *ids = problem(6, 800, 1100, 8, 20)
    for memory in ("256MB", 1):
        calls: list[tuple[int, int]] = []

        def note(done, total, calls=calls):
            calls.append((done, total))

        rank_metrics_from_embeddings(q, g, *ids, memory=memory, progress=note)
        assert [done for done, _ in calls] == list(range(1, len(calls) + 1)) and calls[-1][0] == calls[-1][1]


def test_chunks_hold_as_many_tiles_of_queries_as_memory(monkeypatch):
    """Four queries with three matches each, a tile a query: some of 100 bytes and three matches have room together."""
    matches = find_matches(*(np.array(ids) for ids in ([1, 1, 2, 2], [1, 2] * 3, [0] * 4, [1] * 6)), True)
    each = 100 + 3 * _MATCH_BYTES
    for budget, chunks in (
        (4 * each, [(0, 4)]),
        (4 * each - 1, [(0, 3), (3, 4)]),
        (2 * each, [(0, 2), (2, 4)]),
        (2 * each - 1, [(0, 1), (1, 2), (2, 3), (3, 4)]),
        (0, [(0, 1), (1, 2), (2, 3), (3, 4)]),
    ):
        assert cut_queries(matches, 1, 100, budget) == chunks
    assert cut_queries(matches, 3, 100, 1) == [(0, 3), (3, 4)]
    # A tile whose matches alone are too many is cut; less than what is allowed always, it is not.
    monkeypatch.setattr(_chunks, "_LEAST", 0)
    assert cut_queries(matches, 3, 100, 6 * _MATCH_BYTES) == [(0, 2), (2, 4)]
    assert cut_queries(matches, 3, 100, 1) == [(0, 1), (1, 2), (2, 3), (3, 4)]
    monkeypatch.setattr(_chunks, "_LEAST", 6 * _MATCH_BYTES)
    assert cut_queries(matches, 3, 100, 1) == [(0, 2), (2, 4)]


def test_matches_of_any_queries_are_those_of_a_search():
    rng = np.random.default_rng(0)
    for trial in range(40):
        people = int(rng.integers(1, 12))
        ids = [rng.integers(low, people, size) for low, size in ((-1, 30), (-1, 70))]
        ids += [rng.integers(-2, 3, size) for size in (30, 70)]
        for drop in (True, False):
            matches = find_matches(*ids, drop_same_camera=drop)
            q_pids, g_pids, q_cams, g_cams = ids
            q_pids, q_cams = q_pids[matches.query_order], q_cams[matches.query_order]
            g_pids, g_cams = g_pids[matches.gallery_order], g_cams[matches.gallery_order]
            assert sorted(matches.gallery_order) == np.flatnonzero(ids[1] != -1).tolist()
            same = q_pids[:, None] == g_pids
            camera = same & (q_cams[:, None] == g_cams) & drop
            for i in range(30):
                np.testing.assert_array_equal(np.flatnonzero(same[i]), np.arange(matches.low[i], matches.high[i]))
            np.testing.assert_array_equal(matches.num_dropped, camera.sum(axis=1))
            first, last = sorted(rng.integers(0, 31, 2))
            owner, column = np.nonzero((same & ~camera)[first:last])
            for found, expected in zip(matches.pairs(first, last), (owner, column)):
                np.testing.assert_array_equal(found, expected, err_msg=str(trial))
            assert matches.total == (same & ~camera).sum()


def test_many_matches_stay_within_the_memory_too():
    """Four million matches, of which a hundred bytes each would be 400 MB."""
    rng = np.random.default_rng(0)
    q, g = rng.normal(size=(800, 8)).astype(np.float32), rng.normal(size=(10_000, 8)).astype(np.float32)
    ids = [rng.integers(0, 2, size) for size in (800, 10_000)]
    ids += [rng.integers(0, 50, size) for size in (800, 10_000)]
    peaks = []
    for memory in ("20MB", "2GB"):
        tracemalloc.start()
        result = rank_metrics_from_embeddings(q, g, *ids, memory=memory, threads=2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert result.num_valid_queries == 800
    # Two tiles of distances and of the gallery for the threads stand beside the limit.
    assert peaks[0] < 20e6 + 2 * 2 * 4 * TILE.rows * TILE.columns
    assert peaks[1] > 2 * peaks[0]  # else this shows nothing


def test_a_tile_in_use_is_never_packed_over():
    """Memory of the tile longest unused goes to the next one; what somebody still reads stays as it is."""
    given = []

    def pack(number, into):
        given.append(into)
        rows = np.empty(4) if into is None else into
        rows[:] = number
        return Tile(Packed(rows, 4))

    tiles = _PackedTiles(pack, room=0)
    with ExitStack() as stack:
        held = [stack.enter_context(tiles.use(number)).packed.rows for number in (0, 1, 0)]
        with tiles.use(2):
            pass
        held += [stack.enter_context(tiles.use(number)).packed.rows for number in (3, 4)]
        assert held[0] is held[2] and [rows.tolist() for rows in held] == [[n] * 4 for n in (0, 1, 0, 3, 4)]
    assert [into is None for into in given] == [True, True, True, False, True]


def test_a_thread_that_is_late_changes_nothing(monkeypatch):
    """One that counts a tile must not overtake the one that is about to make it."""

    def late(chunk, tile, real=_host._HostChunk._match_distances):
        time.sleep(0.02)
        real(chunk, tile)

    expected = [rank_metrics_from_embeddings(*problem(seed, 50, 200, 16, 9), threads=1) for seed in range(4)]
    monkeypatch.setattr(_host._HostChunk, "_match_distances", late)
    for seed, one in enumerate(expected):
        same(rank_metrics_from_embeddings(*problem(seed, 50, 200, 16, 9), threads=2), one)


def test_memory_is_free_when_the_call_returns(monkeypatch):
    """Without the collector of cycles, which comes when it likes."""
    chunks = []

    def note(chunk, *more, real=_host._HostChunk.__init__):
        real(chunk, *more)
        chunks.append(weakref.ref(chunk))

    monkeypatch.setattr(_host._HostChunk, "__init__", note)
    gc.disable()
    try:
        rank_metrics_from_embeddings(*problem(8, 900, 300, 4, 9), memory=1)
        assert len(chunks) == 2 and [chunk() for chunk in chunks] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("backend", ["auto", "python"])
def test_a_match_too_far_away_is_named(backend):
    q, g = np.full((1, 4), 3e38, np.float32), np.stack([np.full(4, -3e38), np.full(4, 2.7e38)]).astype(np.float32)
    with pytest.raises(NumericalError, match="query image 0 to gallery image 0 is inf"):
        rank_metrics_from_embeddings(q, g, [1], [1, 2], [0], [1, 1], "euclidean", backend=backend)


def test_the_error_is_the_same_whoever_meets_it():
    q, g, *ids = problem(9, 900, 2100, 33, 50)
    q[0] = 3e38
    for _ in range(8):
        with pytest.raises(NumericalError, match="query image 0 to gallery image"):
            rank_metrics_from_embeddings(q, g, *ids, "euclidean", threads=3)


def test_an_error_in_a_thread_comes_out():
    """Threads that wait for distances of the matches must not wait for ever where one could not be made."""
    program = (
        "import numpy as np\n"
        "from reid_core.metrics import _host\n"
        "from reid_core.metrics.embeddings import rank_metrics_from_embeddings\n"
        "def fail(*_):\n"
        "    raise MemoryError('no room')\n"
        "_host.tile_distances = fail\n"
        "rank_metrics_from_embeddings(np.ones((9, 2)), np.ones((9, 2)), [1] * 9, [1] * 9, [0] * 9, [1] * 9, threads=2)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.endswith("MemoryError: no room\n")


def test_images_too_far_apart_are_named_as_they_were_given():
    """Queries and gallery are put in the order of their identities; the message speaks of the caller's."""
    ids = [5, 9, 2], [9, 2, 9, 7, 5], [0] * 3, [1] * 5
    for side, image, words in (
        (0, 1, r"query image 1 to gallery image \d"),
        (1, 3, r"query image \d to gallery image 3"),
    ):
        sides = np.ones((3, 2)), np.ones((5, 2))
        sides[side][image] = 1e300
        with pytest.raises(NumericalError, match=f"distance of {words} is inf: their embeddings are too far apart"):
            rank_metrics_from_embeddings(*sides, *ids, "euclidean")


def test_an_interruption_ends_it_soon():
    q, g, *ids = problem(7, 600, 40_000, 64, 30)
    seen = []

    def stop(done, total):
        seen.append(done)
        raise KeyboardInterrupt

    began, threads = time.monotonic(), threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        rank_metrics_from_embeddings(q, g, *ids, threads=2, progress=stop)
    assert seen == [1] and threading.active_count() == threads
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"gallery": np.ones((4, 3))}, UsageError, "query embeddings have 2 numbers, gallery embeddings 3"),
        ({"gallery": np.ones(4)}, UsageError, r"gallery embeddings must be \(N, D\)"),
        ({"gallery": np.ones((4, 2), complex)}, UsageError, "complex128"),
        ({"gallery": np.ones((4, 2), object)}, UsageError, "object"),
        ({"g_pids": [1, 1, 2]}, UsageError, "g_pids must have one entry for each of the 4"),
        ({"q_pids": [0.5, 1.0]}, UsageError, "q_pids must be integers"),
        ({"max_rank": 0}, UsageError, "max_rank must be at least 1"),
        ({"threads": 0}, UsageError, "threads must be at least 1"),
        ({"metric": "cosin"}, UsageError, "unknown distance 'cosin'.*cosine"),
        ({"protocol": "cuhk03"}, UsageError, "distance_matrix"),
        ({"memory": "lots"}, UsageError, "memory must be"),
        ({"memory": 0}, UsageError, "memory must be"),
        ({"memory": "9" * 400 + "GB"}, UsageError, "memory must be"),
        ({"max_rank": 10**13}, UsageError, "max_rank must be at most"),
        ({"metric": None}, UsageError, "unknown distance None"),
        ({"protocol": None}, UsageError, "got None"),
        ({"q_pids": [8, 9]}, DataError, "none of the 2 queries has a match among the 4 gallery images: 0 identities"),
        ({"backend": "gpu"}, UsageError, "backend must be auto, native or python"),
        ({"gallery": np.full((4, 2), 1e300), "metric": "euclidean"}, NumericalError, "distance of query image 0"),
        ({"query": np.zeros((2, 2))}, NumericalError, r"query image 0 \(a.jpg\) is all zeros"),
        ({"gallery": [[1, 2], [1, np.nan], [2, 2], [3, 1.0]]}, NumericalError, "gallery image 1 is not finite"),
        ({"gallery": [[1, 2], [1, 1], [2, -np.inf], [3, 1.0]]}, NumericalError, "gallery image 2 is not finite"),
    ],
)
def test_what_does_not_fit_is_named(change, error, words):
    call = {
        "query": np.ones((2, 2)),
        "gallery": np.ones((4, 2)),
        "q_pids": [1, 2],
        "g_pids": [1, 1, 2, 2],
        "q_camids": [0, 0],
        "g_camids": [1, 1, 1, 1],
        "query_names": ["a.jpg", "b.jpg"],
    }
    with pytest.raises(error, match=words):
        rank_metrics_from_embeddings(**{**call, **change})


@pytest.mark.parametrize(
    ("text", "size"), [("256MB", 256_000_000), ("1 KiB", 1024), ("1.5gb", 1_500_000_000), ("7B", 7), (12, 12)]
)
def test_memory_as_people_write_it(text, size):
    assert bytes_of(text) == size
