"""The counting kernel, run on the processor in many orders of its threads, against the definition in NumPy."""

import ctypes

import kernel_build
import numpy as np
import pytest

from reid_core.metrics._counting import Counts

SEEDS = (0, 1, 2)
LENGTHS = (0, 1, 2, 7, 33, 1023, 1024, 1025, 5000)
"""Matches of a row: none, few, as many as shared memory holds, more."""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("kernels") / "count_tile_cases.so"
    return ctypes.CDLL(str(kernel_build.compile_kernels("count_tile_cases.cpp", path, "-O1", "-shared", "-fPIC")))


def count(library, problem, seed=0, on_device=True, between=None, tied=None):
    """What the kernel, or its plain twin, adds to ``between`` and ``tied``."""
    tile, column, thresholds, starts, low, high = problem
    between = np.zeros(len(thresholds), np.int64) if between is None else between
    tied = np.zeros(len(thresholds), np.int64) if tied is None else tied
    message = ctypes.create_string_buffer(400)
    whole = ctypes.c_int64
    real = {np.float32: library.count_float32, np.float64: library.count_float64}[tile.dtype.type]
    arrays = [array.ctypes.data_as(ctypes.c_void_p) for array in (tile, thresholds, starts, low, high, between, tied)]
    stride = tile.strides[0] // tile.itemsize
    real(
        ctypes.c_bool(on_device), ctypes.c_uint64(seed), arrays[0], whole(len(tile)), whole(tile.shape[1]), whole(stride),
        whole(column), *arrays[1:], message, len(message),
    )  # fmt: skip
    assert message.value == b""
    return between, tied


def random_problem(rng, rows, columns, lengths, kind=np.float32):
    """A tile with many equal distances, some NaN and infinite, that begins somewhere in the gallery."""
    levels = int(rng.choice([2, 30, 100_000]))
    whole = (rng.integers(-levels, levels, (rows, columns + 5)) / 64).astype(kind)
    whole[rng.random(whole.shape) < 0.01] = rng.choice([np.inf, -np.inf, np.nan, -0.0])
    tile = whole[:, :columns]
    sizes = rng.choice(lengths, rows)
    starts = 3 + np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    thresholds = np.full(starts[-1] + 2, 9, kind)
    for a, b in zip(starts[:-1], starts[1:]):
        thresholds[a:b] = np.sort((rng.integers(-levels, levels + 1, b - a) / 64).astype(kind))
    column = int(rng.integers(0, 1000))
    low = rng.integers(column - 50, column + columns + 50, rows)
    high = low + rng.integers(0, max(columns, 2), rows) // rng.integers(1, 4)
    return tile, column, thresholds, starts, low, high


def expected(problem):
    tile, column, thresholds, starts, low, high = problem
    counts = Counts(thresholds, starts)
    # The definition refuses what is not finite; here NaN and infinity are behind every match, and the other in front.
    far = np.nan_to_num(tile, nan=1e30, posinf=1e30, neginf=-1e30)
    assert counts.add_tile(far, tile.shape[1], 0, *(np.clip(edge - column, 0, tile.shape[1]) for edge in (low, high)))
    return counts.between, counts.tied


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("columns", [1, 31, 33, 512, 4099])
def test_the_counts_of_the_definition(library, rows, columns):
    rng = np.random.default_rng(rows * 10_000 + columns)
    for case in range(4):
        kind = (np.float32, np.float64)[case % 2]
        problem = random_problem(rng, rows, columns, LENGTHS, kind)
        between, tied = expected(problem)
        for seed in SEEDS:
            found = count(library, problem, seed)
            np.testing.assert_array_equal(found[0], between)
            np.testing.assert_array_equal(found[1], tied)
        plain = count(library, problem, on_device=False)
        np.testing.assert_array_equal(plain[0], between)
        np.testing.assert_array_equal(plain[1], tied)


def test_by_hand(library):
    """Matches at 1, 2, 2 and 5; of the others two lie before 1, one at 1, one at 2, two before 5, one behind all."""
    tile = np.array([[0.5, 1, 2, 0.0, 4, 3, 6, 0.1, 1.0]], np.float32)  # the last two are of the query's own identity
    thresholds = np.array([1, 2, 2, 5], np.float32)
    problem = tile, 10, thresholds, np.array([0, 4]), np.array([17]), np.array([19])
    found = [expected(problem), count(library, problem, on_device=False)]
    found += [count(library, problem, seed) for seed in range(5)]
    for between, tied in found:
        assert (between.tolist(), tied.tolist()) == ([3, 1, 0, 2], [1, 1, 0, 0])


def test_tiles_add_up(library):
    """A tile cut into pieces, and counted on top of what was there."""
    rng = np.random.default_rng(5)
    tile, column, thresholds, starts, low, high = problem = random_problem(rng, 3, 700, (4, 50))
    between, tied = (7 * np.ones(len(thresholds), np.int64) for _ in range(2))
    for a, b in ((0, 1), (1, 300), (300, 700)):
        count(library, (tile[:, a:b], column + a, thresholds, starts, low, high), 1, True, between, tied)
    for found, wanted in zip((between, tied), expected(problem)):
        np.testing.assert_array_equal(found - 7, wanted)


def test_few_rows_are_shared_by_several_blocks(library):
    """40,000 columns make 19 shares of a row: still the same counts."""
    problem = random_problem(np.random.default_rng(6), 1, 40_000, (20,))
    for seed in (0, 1):
        for found, wanted in zip(count(library, problem, seed), expected(problem)):
            np.testing.assert_array_equal(found, wanted)


def test_a_collapsed_embedding(library):
    """All distances equal: every non-match is tied with the first match."""
    tile = np.full((3, 500), -1, np.float32)
    thresholds, starts = np.full(9, -1, np.float32), np.array([0, 3, 6, 9])
    problem = tile, 0, thresholds, starts, np.array([0, 100, 490]), np.array([10, 120, 600])
    for seed in SEEDS:
        between, tied = count(library, problem, seed)
        assert between.tolist() == tied.tolist() == [490, 0, 0, 480, 0, 0, 490, 0, 0]
