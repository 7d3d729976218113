"""The kernel by itself, on shapes from zero up, against the definition: with AddressSanitizer and UBSan, with
ThreadSanitizer, and as a compiler without vectors would build it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from eval_lib import reference

ROOT = Path(__file__).resolve().parents[2]
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
FLAGS = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{ROOT / 'csrc'}"]
ADDRESS = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-D_GLIBCXX_ASSERTIONS"]
THREADS = ["-O1", "-fsanitize=thread"]
PLAIN = ["-O2", "-pedantic", "-DREID_PLAIN_ONLY"]


def build(folder, flags, source=None):
    """Path of the driver, or of ``source``, built with ``flags``."""
    if not COMPILER:
        pytest.skip("no C++ compiler here")
    program = folder / "program"
    source = source or Path(__file__).with_name("rank_driver.cpp")
    command = [COMPILER, *FLAGS, *flags, str(source), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if re.search(r"cannot find .*([atu]san|clang_rt)|unsupported option '-fsanitize", built.stderr):
        pytest.skip(f"this compiler has no libraries for {flags[1]}")
    assert built.returncode == 0, built.stderr
    return program


def run(program, *arguments):
    """Standard output of a run without complaints."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=600)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer cannot run under this kernel's memory layout (vm.mmap_rnd_bits)")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def random_table(rng, wide=False):
    rows, columns = int(rng.integers(0, 6)), int(rng.integers(0, 25))
    if wide:
        columns = int(rng.choice([511, 512, 513, 600, 1040, 1537]))
    levels = int(rng.choice([1, 4, 1000, 2**24]))
    distances = (rng.integers(0, levels, (rows, columns)) / 8 - 1).astype(rng.choice([np.float32, np.float64]))
    if rng.random() < 0.2:
        distances *= rng.choice([1e-45, 1e-38, 1e32])
    if rng.random() < 0.2:
        distances[rng.random((rows, columns)) < 1.5 / (1 + columns)] = rng.choice([np.nan, np.inf, -np.inf])
    big = rng.choice([1, 2**62])
    most = int(rng.choice([1, 4, 60])) if wide else 4  # few identities: many matches
    ids = [rng.integers(low, high, size) for low, high, size in ((-1, most, rows), (-1, most, columns), (0, 4, rows))]
    ids = [*ids, rng.integers(0, 4, columns)]
    ids = [np.where(values > 0, values % 4 * (big // 4) + values, values).astype(np.int64) for values in ids]
    return distances, *ids, bool(rng.integers(2))


def write(path, tables):
    with open(path, "wb") as file:
        for distances, q_pids, g_pids, q_camids, g_camids, drop in tables:
            head = [*distances.shape, int(drop), distances.dtype.itemsize]
            file.write(np.array(head, dtype=np.int64).tobytes())
            for array in (q_pids, g_pids, q_camids, g_camids, distances):
                file.write(array.tobytes())


def expected_line(distances, q_pids, g_pids, q_camids, g_camids, drop):
    counts, scores = [], []
    for i, row in enumerate(distances):
        column = reference.first_not_finite(row)
        if column >= 0:
            return [i, column]
        one = reference.rank_query(row, g_pids, g_camids, int(q_pids[i]), int(q_camids[i]), drop)
        counts += [one.first_hit, one.num_matches, one.num_tied, one.num_dropped]
        scores += [one.ap, one.ap_trapezoid, one.inp]
    return [-1, -1, *counts, *scores]


def assert_answers(output, tables):
    lines = output.splitlines()
    assert len(lines) == len(tables)
    for line, table in zip(lines, tables):
        np.testing.assert_array_equal(np.array(line.split(), dtype=float), expected_line(*table))


@pytest.mark.parametrize("flags", [ADDRESS, PLAIN], ids=["address and undefined behaviour", "plain"])
def test_no_report_and_the_same_answers(flags, tmp_path):
    program = build(tmp_path, flags)
    rng = np.random.default_rng(7)
    tables = [random_table(rng) for _ in range(400)] + [random_table(rng, wide=True) for _ in range(80)]
    write(tmp_path / "tables.bin", tables)
    assert_answers(run(program, tmp_path / "tables.bin"), tables)


@pytest.mark.parametrize("flags", [ADDRESS, PLAIN], ids=["address and undefined behaviour", "plain"])
def test_products_without_a_report(flags, tmp_path):
    # No contraction, as setup.py builds it: the definition beside it counts on that.
    source = Path(__file__).with_name("product_cases.cpp")
    assert run(build(tmp_path, [*flags, "-ffp-contract=off"], source)) == ""


def test_threads_share_a_gallery_without_a_race(tmp_path):
    program = build(tmp_path, THREADS)
    rng = np.random.default_rng(8)
    tables = [random_table(rng, wide=k % 2 == 0) for k in range(24)]
    write(tmp_path / "tables.bin", tables)
    assert_answers(run(program, tmp_path / "tables.bin", "3"), tables)


BAD = {
    "heap-buffer-overflow": """
#include "rank.hpp"
#include <memory>
int main() {
    std::unique_ptr<std::int64_t[]> ids(new std::int64_t[3]{1, 2, 1});
    std::unique_ptr<float[]> distances(new float[2]{1, 2});
    const reid::Gallery gallery(ids.get(), ids.get(), 3);
    std::int64_t counts[4];
    double scores[3];
    reid::rank_rows(distances.get(), 1, gallery, ids.get(), ids.get(), false, reid::best_isa(), counts, scores);
}
""",
    "data race": """
#include "rank.hpp"
#include <thread>
int main() {
    const std::int64_t ids[3] = {1, 2, 1};
    const float distances[3] = {1, 2, 3};
    const reid::Gallery gallery(ids, ids, 3);
    std::int64_t counts[4];  // one for two threads
    double scores[3];
    const auto rank = [&] {
        for (int k = 0; k < 1000; ++k)
            reid::rank_rows(distances, 1, gallery, ids, ids, false, reid::Isa::plain, counts, scores);
    };
    std::thread one(rank), two(rank);
    one.join();
    two.join();
}
""",
}


@pytest.mark.parametrize(("words", "flags"), [("heap-buffer-overflow", ADDRESS), ("data race", THREADS)])
def test_the_sanitizers_are_awake(words, flags, tmp_path):
    """A wrong use must be reported, else the tests above prove nothing."""
    (tmp_path / "bad.cpp").write_text(BAD[words])
    program = build(tmp_path, flags, tmp_path / "bad.cpp")
    done = subprocess.run([program], capture_output=True, text=True, timeout=60)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer cannot run under this kernel's memory layout (vm.mmap_rnd_bits)")
    assert done.returncode != 0
    assert words in done.stderr


def test_no_c_long_in_compiled_sources():
    """``long`` has 32 bits on Windows; sizes are ptrdiff_t or Py_ssize_t, identities int64_t."""
    for source in (*ROOT.glob("csrc/**/*.h*"), *ROOT.glob("csrc/**/*.c*"), *ROOT.glob("eval_lib/*.pyx")):
        assert not re.search(r"\blong\b|\bunsigned int\b|cimport numpy", source.read_text()), source
