"""Re-ranking against the bare product of all pairs and torchreid 0.2.5: agreement first, then time, then peak memory.

Usage: python tools/bench/rerank.py [--sizes small market] [--repeats 7] [--no_peer] [--csv FILE]

``small`` is 1,200 + 6,000 images, 256-d; ``market`` 3,368 + 15,913, 2,048-d, where torchreid's function would need 8 GB
and is left out. Contenders take turns; each figure is the median. The product is NumPy's, once of an array with itself,
which computes one half and copies it, and once with a copy, which computes both; the ratio is to the faster. torchreid
comes from the package index and lives in a temporary folder.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import platform
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import scipy

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from reid_core.metrics.rerank import k_reciprocal_rerank
from reid_core.metrics.rerank_reference import rerank_dense

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"small": (1200, 6000, 256), "market": (3368, 15913, 2048)}
Array = np.ndarray[Any, Any]


def embeddings(num_query: int, num_gallery: int, width: int) -> tuple[Array, Array]:
    """People with about 13 images each, the same at every call; rows are made one by one, so that no peak is left."""
    rng = np.random.default_rng(0)
    people = rng.standard_normal((1501 * num_gallery // 15913 + 1, width), dtype=np.float32)
    sets = (np.empty((num_query, width), np.float32), np.empty((num_gallery, width), np.float32))
    for rows in sets:
        for row in rows:
            row[:] = people[rng.integers(len(people))] + rng.standard_normal(width, dtype=np.float32)
            row /= np.linalg.norm(row)
    return sets


def peer(folder: Path) -> ModuleType | None:
    """The module with torchreid's ``re_ranking``; None, with the reason on the screen, where it cannot be had."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation", "--no-binary"]
    run = subprocess.run([*command, "torchreid", "torchreid==0.2.5", "-d", str(folder)], capture_output=True, text=True)
    found = list(folder.glob("torchreid-0.2.5.tar.gz"))
    if not found:
        print(f"torchreid is left out, it could not be downloaded: {run.stderr.strip().splitlines()[-1:]}")
        return None
    with tarfile.open(found[0]) as archive:
        member = archive.extractfile("torchreid-0.2.5/torchreid/reid/utils/rerank.py")
        assert member is not None
        (folder / "torchreid_rerank.py").write_bytes(member.read())
    spec = importlib.util.spec_from_file_location("torchreid_rerank", folder / "torchreid_rerank.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_peer(module: ModuleType, query: Array, gallery: Array) -> Array:
    """As its users call it: Euclidean distances of all pairs, then its function."""
    rows = np.concatenate([query, gallery])
    distances = np.sqrt(np.maximum(2 - 2 * (rows @ rows.T), 0))
    q = len(query)
    result: Array = module.re_ranking(distances[:q, q:], distances[:q, :q], distances[q:, q:])
    return result


def check_agreement(module: ModuleType | None) -> None:
    """Stop unless all agree to 1e-5; against torchreid but for a few queries whose neighbours float32 cannot order."""
    query, gallery = embeddings(60, 340, 32)
    rows = np.concatenate([query, gallery]).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    worst = float(np.abs(k_reciprocal_rerank(query, gallery) - rerank_dense(2 - 2 * rows @ rows.T, 60)).max())
    print(f"agreement with the dense definition, 60 + 340 images: {worst:.1e}")
    if worst > 1e-5:
        raise SystemExit("the results differ: nothing was timed")
    if module is not None:
        query, gallery = embeddings(*SIZES["small"])
        difference = np.abs(k_reciprocal_rerank(query, gallery) - with_peer(module, query, gallery)).max(axis=1)
        off = int((difference > 1e-5).sum())
        print(
            f"agreement with torchreid, small: {np.median(difference):.1e} (median query), {off} queries off by > 1e-5"
        )
        if off > len(query) // 100:
            raise SystemExit("the results differ: nothing was timed")


def timed(work: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of each contender by the clock and of processor time; they take turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, run in work.items():
            start, cpu = time.perf_counter(), time.process_time()
            run()
            found[name].append((time.perf_counter() - start, time.process_time() - cpu))
    return found


def peak(size: str) -> float:
    """MiB above the inputs, in a fresh process."""
    command = [sys.executable, __file__, "--peak_of", size]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def highest() -> float:
    """Largest resident size so far, MiB. Linux keeps ru_maxrss over fork and exec, so it may be the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().split("\n") if line[:6] == "VmHWM:") / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def print_peak(size: str) -> None:
    """What ``peak`` runs: the largest size with inputs and code in place, and after the work."""
    k_reciprocal_rerank(*embeddings(50, 200, 32))
    query, gallery = embeddings(*SIZES[size])
    before = highest()
    k_reciprocal_rerank(query, gallery)
    print(highest() - before)


def measure(size: str, repeats: int, module: ModuleType | None) -> list[dict[str, object]]:
    """Lines of the CSV for one size."""
    query, gallery = embeddings(*SIZES[size])
    rows = np.concatenate([query, gallery])
    copy = rows.copy()
    work: dict[str, Callable[[], object]] = {
        "product with itself": lambda: rows @ rows.T,
        "product with a copy": lambda: rows @ copy.T,
        "k_reciprocal_rerank": lambda: k_reciprocal_rerank(query, gallery),
    }
    if module is not None and size == "small":
        work["torchreid 0.2.5 with its product"] = lambda: with_peer(module, query, gallery)
    times = timed(work, repeats)
    medians, cpu = ({name: float(np.median(v, axis=0)[i]) for name, v in times.items()} for i in (0, 1))
    product = min(medians["product with itself"], medians["product with a copy"])
    lines: list[dict[str, object]] = []
    for name, values in times.items():
        ours = name == "k_reciprocal_rerank"
        line: dict[str, object] = {
            "size": size,
            "contender": name,
            "median_s": f"{medians[name]:.3f}",
            "p20_s": f"{np.percentile([wall for wall, _ in values], 20):.3f}",
            "p80_s": f"{np.percentile([wall for wall, _ in values], 80):.3f}",
            "cpu_s": f"{cpu[name]:.3f}",
            "times_the_product": f"{medians[name] / product:.2f}",
            "times_ours": f"{medians[name] / medians['k_reciprocal_rerank']:.2f}",
            "peak_mib": f"{peak(size):.0f}" if ours else "",
        }
        lines.append(line)
        print("  ".join(f"{key} {value}" for key, value in line.items() if value))
    return lines


def about(repeats: int) -> dict[str, object]:
    """Machine, versions and commit, for the CSV."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    return {
        "repeats": repeats,
        "threads": os.environ.get("OMP_NUM_THREADS") or os.cpu_count(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": f"Python {platform.python_version()}, NumPy {np.__version__}, SciPy {scipy.__version__}",
        "commit": commit.strip(),
    }


def main() -> None:
    """Print a line a contender and append them to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no_peer", action="store_true", help="leave torchreid out")
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument("--peak_of", choices=SIZES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak_of:
        print_peak(args.peak_of)
        return
    facts = about(args.repeats)
    with tempfile.TemporaryDirectory() as folder:
        module = None if args.no_peer else peer(Path(folder))
        check_agreement(module)
        lines = [{**line, **facts} for size in args.sizes for line in measure(size, args.repeats, module)]
    is_new = not args.csv.exists()
    with open(args.csv, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        if is_new:
            writer.writeheader()
        writer.writerows(lines)


if __name__ == "__main__":
    main()
