"""Matrices that are too large to be there: windows of one array, more than 2**31 pairs, and a Ctrl-C in between."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import eval_lib

needs_native = pytest.mark.skipif(
    bool(eval_lib.why_missing()), reason=f"compiled ranking is missing: {eval_lib.why_missing()}"
)


def windows(rows, columns, step=7):
    """(rows, columns) float32 and the identities of the columns; row i begins ``step`` numbers after row i - 1."""
    rng = np.random.default_rng(0)
    base = np.round(rng.random(columns + step * rows), 5).astype(np.float32)  # ties are common
    distmat = np.lib.stride_tricks.as_strided(base, (rows, columns), (4 * step, 4), writeable=False)
    return distmat, rng.integers(-1, columns // 20, columns), rng.integers(0, 6, columns)


def counted(row, pid, camid, g_pids, g_camids):
    """AP and first hit of a query, from the definition of a rank alone."""
    kept = (g_pids != -1) & ~((g_pids == pid) & (g_camids == camid))
    matches = np.sort(row[kept & (g_pids == pid)])
    others = row[kept & (g_pids != pid)]
    ranks = [int((others <= distance).sum()) + j for j, distance in enumerate(matches)]
    return ranks[0], float(np.mean([(j + 1) / (rank + 1) for j, rank in enumerate(ranks)]))


def check(rows, columns, samples):
    distmat, g_pids, g_camids = windows(rows, columns)
    rng = np.random.default_rng(1)
    q_pids, q_camids = rng.integers(0, columns // 20, rows), rng.integers(0, 6, rows)
    ranks = eval_lib.rank_queries(distmat, q_pids, g_pids, q_camids, g_camids)
    chosen = rng.choice(np.flatnonzero(ranks.valid), samples, replace=False)
    for i in [*chosen, np.flatnonzero(ranks.valid)[-1]]:
        first, ap = counted(distmat[i], q_pids[i], q_camids[i], g_pids, g_camids)
        assert ranks.first_hit[i] == first
        assert ranks.ap[i] == pytest.approx(ap, abs=1e-14)


@needs_native
def test_windows_of_one_array():
    check(220, 10_003, samples=20)


@needs_native
@pytest.mark.slow
def test_more_pairs_than_32_bits_count():
    assert 2_200 * 1_000_003 > 2**31
    check(2_200, 1_000_003, samples=20)


CHILD = """
import signal, sys, numpy as np, eval_lib
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background of a script inherit that it is ignored
row = np.random.default_rng(0).random(100_003, np.float32)
distmat = np.lib.stride_tricks.as_strided(row, (2_000_000, 100_003), (0, 4), writeable=False)
ids = np.arange(100_003)
print("ready", flush=True)
q_pids, q_camids = np.arange(2_000_000) % 9, ids[:1].repeat(2_000_000)
eval_lib.rank_queries(distmat, q_pids, ids % 1000, q_camids, ids + 1, threads=int(sys.argv[1]))
"""


@needs_native
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child on Windows")
@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_stops_it(threads):
    """Of 2e11 pairs, a hundred matches a query, minutes of work; it stops after the blocks under way."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(threads)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(eval_lib.__file__).parents[1],
        env={**os.environ, "PYTHONPATH": str(Path(eval_lib.__file__).parents[1])},
    )
    try:
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.7)
        start = time.monotonic()
        child.send_signal(signal.SIGINT)
        _, words = child.communicate(timeout=60)
    finally:
        child.kill()
    assert "KeyboardInterrupt" in words and child.returncode != 0
    assert time.monotonic() - start < 20
