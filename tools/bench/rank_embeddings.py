"""Ranking from embeddings against the bare product of all pairs: agreement first, then time, then peak memory.

Usage: python tools/bench/rank_embeddings.py [--sizes market wide million] [--repeats 7] [--csv FILE]

``market`` is 3,368 x 15,913 images, 2,048-d; ``wide`` the same at 512-d; ``million`` 3,368 x 1,000,000, 512-d, once. The
product is NumPy's ``query @ gallery.T`` with as many BLAS threads as processors; contenders take turns. The peak is that of a
fresh process, less what it held before the call.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from reid_core.metrics.distance import distance_matrix
from reid_core.metrics.embeddings import rank_metrics_from_embeddings
from reid_core.metrics.rank import rank_metrics

SIZES = {"market": (3368, 15913, 2048), "wide": (3368, 15913, 512), "million": (3368, 1_000_000, 512)}
Array = np.ndarray[Any, Any]


def problem(num_query: int, num_gallery: int, width: int) -> tuple[Array, ...]:
    """750 people in queries and gallery, what is beyond 13,115 images (or five sixths) distractors; six cameras; by name."""
    rng = np.random.default_rng(0)
    query, gallery = np.empty((num_query, width), np.float32), np.empty((num_gallery, width), np.float32)
    q_pids = np.arange(num_query) * 750 // num_query + 1
    known = min(13115, num_gallery * 5 // 6)
    g_pids = np.where(np.arange(num_gallery) < known, np.arange(num_gallery) * 750 // known + 1, 0)
    people = rng.standard_normal((751, width), dtype=np.float32)
    for rows, pids in ((query, q_pids), (gallery, g_pids)):
        for start in range(0, len(rows), 4096):
            part = slice(start, start + 4096)
            rng.standard_normal(out=rows[part], dtype=np.float32)
            rows[part] += 0.3 * people[pids[part]] * (pids[part] > 0)[:, None]
    return query, gallery, q_pids, g_pids, rng.integers(0, 6, num_query), rng.integers(0, 6, num_gallery)


def check_agreement() -> None:
    """Stop unless a smaller problem gives the bits of the matrix route."""
    query, gallery, *ids = problem(700, 3000, 96)
    one, other = rank_metrics_from_embeddings(query, gallery, *ids), rank_metrics(distance_matrix(query, gallery), *ids)
    if not np.array_equal(one.ap, other.ap, equal_nan=True) or (one.cmc != other.cmc).any():
        raise SystemExit("the results differ: nothing was timed")
    print(f"agreement with the matrix route, 700 x 3,000: every bit (backend {one.notes['backend']})")


def measure(size: str, repeats: int) -> dict[str, Any]:
    """Medians of both, and their ratio, pair by pair."""
    query, gallery, *ids = problem(*SIZES[size])
    pairs = []
    if size == "million":
        start = time.perf_counter()
        rank_metrics_from_embeddings(query, gallery, *ids)
        pairs.append((time.perf_counter() - start, float("nan")))
    else:
        product = np.empty((len(query), len(gallery)), np.float32)
        for repeat in range(repeats + 1):
            start = time.perf_counter()
            np.matmul(query, gallery.T, out=product)
            middle = time.perf_counter()
            rank_metrics_from_embeddings(query, gallery, *ids)
            if repeat:  # the first one warms up
                pairs.append((time.perf_counter() - middle, middle - start))
    ours, bare = np.array(pairs).T
    per_pair = float(np.median(ours)) / (len(query) * len(gallery)) * 1e9
    return {
        "size": size,
        "ours_s": round(float(np.median(ours)), 3),
        "product_s": round(float(np.median(bare)), 3),
        "ratio": round(float(np.median(ours / bare)), 3),
        "ns_a_pair": round(per_pair, 3),
        "repeats": len(pairs),
    }


def peak(size: str) -> float:
    """MB above the inputs, in a fresh process."""
    command = [sys.executable, __file__, "--peak_of", size]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def report_peak(size: str) -> None:
    """Print how much more than before the process held at most during one call."""
    query, gallery, *ids = problem(*SIZES[size])
    Path("/proc/self/clear_refs").write_text("5")  # from here on, VmHWM is that of what follows
    before = status("VmRSS")
    rank_metrics_from_embeddings(query, gallery, *ids)
    print(max(status("VmHWM"), resource.getpagesize() / 1e6) - before)


def status(name: str) -> float:
    """A line of /proc/self/status, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise KeyError(name)


def main() -> None:
    """Print a line a size, and write them as CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=sorted(SIZES), default=["market", "wide", "million"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument("--peak_of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak_of:
        report_peak(args.peak_of)
        return
    check_agreement()
    rows = []
    for size in args.sizes:
        row = measure(size, args.repeats)
        row["peak_mb"] = round(peak(size)) if Path("/proc/self/clear_refs").exists() else ""
        row["load"] = round(os.getloadavg()[0], 1)
        rows.append(row)
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    print(
        f"Python {platform.python_version()}, NumPy {np.__version__}, {os.cpu_count()} processors, {platform.machine()}"
    )
    with args.csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
