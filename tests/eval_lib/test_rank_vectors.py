"""Every instruction set and every way of counting gives the definition's numbers, to the bits."""

import numpy as np
import pytest

import eval_lib
from eval_lib import _native

if eval_lib.why_missing():
    pytest.skip(f"no compiled parts: {eval_lib.why_missing()}", allow_module_level=True)

ISAS = list(_native._load()[0].isas())
FIELDS = ("first_hit", "ap", "ap_trapezoid", "inp", "num_matches", "num_tied", "num_dropped")
# Matches a query: compared directly, by a tree in registers, in buckets. Columns: around vectors and blocks of 1,024.
MATCHES = (1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 200, 700)
COLUMNS = (5, 16, 63, 64, 65, 1023, 1024, 1025, 2049, 3000)


def values(rng, kind, shape):
    """Distances: all different, many equal, tiny beside huge, denormal, or close together far from zero."""
    if kind == "plain":
        return rng.normal(size=shape)
    if kind == "ties":
        return np.round(rng.normal(size=shape), 1) * rng.choice([1, -1, 0], shape)  # -0.0 as well
    if kind == "spread":
        return rng.normal(size=shape) * 10.0 ** rng.integers(-37, 38, shape)
    if kind == "denormal":
        return rng.integers(-50, 50, shape) * 1e-45
    return 1 + rng.integers(0, 40, shape) * 2.0**-23


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", ["plain", "ties", "spread", "denormal", "close"])
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_the_definition(isa, kind, real, monkeypatch):
    monkeypatch.setenv("REID_CORE_ISA", isa)
    rng = np.random.default_rng(0)
    for matches in MATCHES:
        columns = int(rng.choice([c for c in COLUMNS if c > matches]))
        g_pids = rng.integers(2, 50, columns)
        g_pids[rng.random(columns) < 0.05] = -1
        g_pids[rng.choice(columns, matches, replace=False)] = 1
        table = values(rng, kind, (2, columns)).astype(real)
        ids = [1, 1], g_pids, [0, 1], rng.integers(0, 3, columns)
        drop = bool(rng.integers(2)) and matches > 3
        found = eval_lib.rank_queries(table, *ids, drop_same_camera=drop, backend="native")
        expected = eval_lib.rank_queries(table, *ids, drop_same_camera=drop, backend="python")
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("isa", ISAS)
def test_a_number_that_is_not_finite_is_found_anywhere(isa, monkeypatch):
    monkeypatch.setenv("REID_CORE_ISA", isa)
    rng = np.random.default_rng(1)
    for _ in range(150):
        columns, row = int(rng.choice(COLUMNS)), int(rng.integers(3))
        table = rng.normal(size=(3, columns)).astype(rng.choice([np.float32, np.float64]))
        column = int(rng.integers(columns))
        table[row, column] = rng.choice([np.nan, np.inf, -np.inf])
        with pytest.raises(eval_lib.NotFiniteError, match=rf"distmat\[{row}, {column}\]"):
            eval_lib.rank_queries(table, [1] * 3, rng.integers(0, 4, columns), [0] * 3, [1] * columns, backend="native")


def test_an_unknown_instruction_set_is_named(monkeypatch):
    monkeypatch.setenv("REID_CORE_ISA", "avx9")
    with pytest.raises(ValueError, match="REID_CORE_ISA is 'avx9'; this machine has plain"):
        eval_lib.rank_queries([[0.5]], [1], [1], [0], [1], backend="native")
