"""Ranking from a distance matrix: ours against one pass of ``distmat.min()`` and against the evaluators of others.

Two matrices of Market-1501's size and identities: "trained" are cosine distances of embeddings that rank well, "random"
are uniform numbers, where matches lie as far as anything and nothing can be passed over. All must agree first. Then the
works take turns, so that a busy machine is as hard on each, and each starts behind one pass over the matrix that is not
counted; the median counts. Torchreid's NumPy code takes a minute: it has three turns, on one matrix. Prints a table and writes
tools/bench/rank_matrix.csv.

Usage: python tools/bench/rank_matrix.py [--repeats 7] [--threads 2] [--peers FOLDER] [--no-peers]
  FOLDER keeps what was fetched of the other projects; without it they are fetched anew.
"""

from __future__ import annotations

import argparse
import csv
import functools
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import _peers

import eval_lib
from eval_lib import _native

ROOT = Path(__file__).resolve().parents[2]
QUERIES, GALLERY, IDENTITIES, DISTRACTORS, CAMERAS = 3368, 15913, 750, 2798, 6
CALLS = 2000
PEERS = {"trained": ("fastreid", "torchreid"), "random": ("fastreid",)}
Work = Callable[[], Any]


def identities(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """q_pids, g_pids, q_camids, g_camids: 17.5 images an identity on average, from 4 to about 70, as in Market-1501."""
    share = rng.gamma(3.0, size=IDENTITIES)
    images = 4 + rng.multinomial(GALLERY - DISTRACTORS - 4 * IDENTITIES, share / share.sum())
    g_pids = np.concatenate([np.repeat(np.arange(1, IDENTITIES + 1), images), np.zeros(DISTRACTORS, np.int64)])
    rng.shuffle(g_pids)
    q_pids = rng.integers(1, IDENTITIES + 1, QUERIES)
    return q_pids, g_pids, rng.integers(0, CAMERAS, QUERIES), rng.integers(0, CAMERAS, GALLERY)


def trained(rng: np.random.Generator, q_pids: np.ndarray, g_pids: np.ndarray) -> np.ndarray:
    """Cosine distances of points around a centre for each identity; distractors are anywhere."""
    centres = rng.standard_normal((IDENTITIES + 1, 64), dtype=np.float32)

    def embed(pids: np.ndarray) -> np.ndarray:
        points = centres[pids] + 1.1 * rng.standard_normal((len(pids), 64), dtype=np.float32)
        points[pids == 0] = rng.standard_normal(((pids == 0).sum(), 64), dtype=np.float32)
        length: np.ndarray = np.linalg.norm(points, axis=1, keepdims=True)
        return points / length

    distmat: np.ndarray = 1 - embed(q_pids) @ embed(g_pids).T
    return np.ascontiguousarray(distmat, dtype=np.float32)


def minimum(distmat: np.ndarray, threads: int) -> Work:
    """One pass over the matrix that keeps next to nothing, by as many threads."""
    if threads == 1:
        return distmat.min
    parts = np.array_split(distmat, threads)
    pool = ThreadPoolExecutor(threads)
    return lambda: min(pool.map(np.min, parts))


def take_turns(works: dict[str, Work], repeats: int, warm_up: Work) -> dict[str, tuple[list[float], list[float]]]:
    """Wall and processor seconds of ``repeats`` runs of each."""
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in works}
    for turn in range(repeats):
        for name, work in works.items():
            if turn >= 3 and found[name][0][0] > 10:
                continue
            warm_up()
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            found[name][0].append(time.perf_counter() - wall)
            found[name][1].append(time.process_time() - cpu)
        print(f"turn {turn + 1} of {repeats}", file=sys.stderr)
    return found


def agree(works: dict[str, Callable[[], tuple[Any, float]]], tolerance: float) -> None:
    """Stop where CMC or mAP differ: a fast wrong answer is none."""
    results = {name: work() for name, work in works.items()}
    (first, (cmc, mean_ap)), *others = results.items()
    print(f"  {first}: rank-1 {cmc[0]:.6f}, mAP {mean_ap:.6f}")
    for name, (other_cmc, other_ap) in others:
        gap = max(float(np.abs(np.asarray(other_cmc) - cmc).max()), abs(other_ap - mean_ap))
        print(f"  {name}: largest difference {gap:.1e}")
        if not gap <= tolerance:
            raise SystemExit(f"{name} and {first} do not agree")


def overhead() -> float:
    """Seconds of one call on 10 x 100, the median."""
    rng = np.random.default_rng(1)
    table = rng.random((10, 100)), np.arange(10), np.arange(100) % 10, np.zeros(10, int), np.ones(100, int)
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        eval_lib.evaluate_rank(*table)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def facts() -> dict[str, str]:
    """Where and with what this ran."""
    native = _native.choose("native")
    assert native is not None
    number = _native.instruction_set(native)
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
        cpu = names[0] if names else cpu
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "device": f"{cpu}, {os.cpu_count()} processors",
        "isa": next(name for name, value in native.isas().items() if value == number),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


def main() -> None:
    """Agreement, times, ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2, help="threads of the second row; the first has one")
    parser.add_argument("--peers", type=Path, help="folder for what is fetched of other projects")
    parser.add_argument("--no-peers", action="store_true")
    args = parser.parse_args()
    peers: dict[str, Callable[..., tuple[Any, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        scratch = (args.peers or Path(temporary)).resolve()
        scratch.mkdir(parents=True, exist_ok=True)
        if not args.no_peers:
            peers = {"fastreid": _peers.fastreid(scratch), "torchreid": _peers.torchreid(scratch)}
        measure(args.repeats, args.threads, peers)


def measure(repeats: int, threads: int, peers: dict[str, Callable[..., tuple[Any, float]]]) -> None:
    """All of it, with what was fetched."""
    where = facts()
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    rng = np.random.default_rng(0)
    ids = identities(rng)
    matrices = {"trained": trained(rng, ids[0], ids[1]), "random": rng.random((QUERIES, GALLERY), dtype=np.float32)}
    rows: list[dict[str, Any]] = []
    for matrix, distmat in matrices.items():
        table = (distmat, *ids)
        print(f"{matrix}: {QUERIES} x {GALLERY} float32; agreement")

        def ours(count: int, table: tuple[Any, ...] = table) -> tuple[Any, float]:
            ranks = eval_lib.rank_queries(*table, threads=count, backend="native")
            return ranks.cmc(50), ranks.mAP

        works: dict[str, Work] = {"ours": lambda: ours(1), f"ours x{threads}": lambda: ours(threads)}
        works |= {name: functools.partial(peer, *table) for name, peer in peers.items() if name in PEERS[matrix]}
        agree(works, 1e-5)
        works |= {"min": minimum(distmat, 1), f"min x{threads}": minimum(distmat, threads)}
        for name, (wall, cpu) in take_turns(works, repeats, distmat.min).items():
            rows.append(
                {
                    "matrix": matrix,
                    "work": name,
                    "runs": len(wall),
                    "seconds": float(np.median(wall)),
                    "p20": float(np.percentile(wall, 20)),
                    "p80": float(np.percentile(wall, 80)),
                    "cpu_seconds": float(np.median(cpu)),
                }
            )
    rows.append({"matrix": "10 x 100", "work": "one call", "runs": CALLS, "seconds": overhead()})
    show(rows, threads)
    target = Path(__file__).with_suffix(".csv")
    with open(target, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], *where], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **where} for row in rows)
    print(f"written to {target.relative_to(ROOT)}")


def show(rows: list[dict[str, Any]], threads: int) -> None:
    """The table, and the ratios that count."""
    print(f"{'matrix':9} {'work':12} {'runs':>4} {'median ms':>10} {'20 %':>9} {'80 %':>9} {'cpu ms':>9}")
    for row in rows[:-1]:
        figures = (1e3 * row[key] for key in ("seconds", "p20", "p80", "cpu_seconds"))
        print(
            f"{row['matrix']:9} {row['work']:12} {row['runs']:4} " + "{:10.2f} {:9.2f} {:9.2f} {:9.2f}".format(*figures)
        )
    print(f"one call on 10 x 100: {1e6 * rows[-1]['seconds']:.0f} microseconds (bar: 100)")
    for matrix in ("trained", "random"):
        found = {row["work"]: row for row in rows if row["matrix"] == matrix}
        for suffix in ("", f" x{threads}"):
            for key, words in (("seconds", "wall"), ("cpu_seconds", "processor")):
                ratio = found["ours" + suffix][key] / found["min" + suffix][key]
                print(f"{matrix}: ours{suffix} / min{suffix} = {ratio:.2f} by {words} time (bar: 4)")
        for peer in ("fastreid", "torchreid"):
            if peer in found:
                for suffix in ("", f" x{threads}"):
                    ratio = found[peer]["seconds"] / found["ours" + suffix]["seconds"]
                    print(
                        f"{matrix}: {peer} / ours{suffix} = {math.floor(ratio)}{' (bar: 100)' if peer == 'fastreid' else ''}"
                    )


if __name__ == "__main__":
    main()
