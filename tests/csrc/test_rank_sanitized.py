"""The kernel by itself, under AddressSanitizer and UBSan, on shapes from zero up, against the definition."""

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
FLAGS = ["-std=c++17", "-O1", "-g", "-Wall", "-Wextra", "-Werror"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-D_GLIBCXX_ASSERTIONS"]


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """Path of the driver, built with sanitizers."""
    if not COMPILER:
        pytest.skip("no C++ compiler here")
    program = tmp_path_factory.mktemp("csrc") / "rank_driver"
    source = Path(__file__).with_name("rank_driver.cpp")
    command = [COMPILER, *FLAGS, *SANITIZERS, f"-I{ROOT / 'csrc'}", str(source), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if "cannot find" in built.stderr and "asan" in built.stderr:
        pytest.skip("this compiler has no sanitizer libraries")
    assert built.returncode == 0, built.stderr
    return program


def random_table(rng):
    rows, columns = int(rng.integers(0, 6)), int(rng.integers(0, rng.choice([25, 25, 25, 2200])))
    levels = int(rng.choice([1, 4, 1000]))
    distances = (rng.integers(0, levels, (rows, columns)) / 8 - 1).astype(rng.choice([np.float32, np.float64]))
    if rng.random() < 0.2:
        distances[rng.random((rows, columns)) < 2 / (columns + 1)] = np.nan
    if rng.random() < 0.2:
        distances[rng.random((rows, columns)) < 2 / (columns + 1)] = rng.choice([np.inf, -np.inf])
    big = rng.choice([1, 2**62])
    ids = [rng.integers(low, 4, size) for low, size in ((-1, rows), (-1, columns), (0, rows), (0, columns))]
    ids = [np.where(values > 0, values * big // 4 + values, values).astype(np.int64) for values in ids]
    return distances, *ids, bool(rng.integers(2))


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


def test_no_report_and_the_same_answers(driver, tmp_path):
    rng = np.random.default_rng(7)
    tables = [random_table(rng) for _ in range(1000)]
    with open(tmp_path / "tables.bin", "wb") as file:
        for distances, q_pids, g_pids, q_camids, g_camids, drop in tables:
            head = [*distances.shape, int(drop), distances.dtype.itemsize]
            file.write(np.array(head, dtype=np.int64).tobytes())
            for array in (q_pids, g_pids, q_camids, g_camids, distances):
                file.write(array.tobytes())
    run = subprocess.run([driver, tmp_path / "tables.bin"], capture_output=True, text=True, timeout=300)
    assert (run.returncode, run.stderr) == (0, "")
    lines = run.stdout.splitlines()
    assert len(lines) == len(tables)
    for line, table in zip(lines, tables):
        np.testing.assert_array_equal(np.array(line.split(), dtype=float), expected_line(*table))


def test_the_sanitizers_are_awake(driver, tmp_path):
    """A gallery said to be longer than its arrays must be reported, else the test above proves nothing."""
    source = (
        '#include "rank.hpp"\n#include <memory>\nint main() {\n'
        "  std::unique_ptr<std::int64_t[]> ids(new std::int64_t[3]{1, 2, 3});\n"
        "  std::unique_ptr<float[]> distances(new float[3]{1, 2, 3});\n"
        "  reid::RankScratch<float> scratch;\n"
        "  reid::QueryRank result;\n"
        "  const reid::Gallery gallery(ids.get(), ids.get(), 4);\n"
        "  reid::rank_query<float>(distances.get(), gallery, 1, 0, true, reid::best_isa(), scratch, result);\n}\n"
    )
    (tmp_path / "bad.cpp").write_text(source)
    program = tmp_path / "bad"
    command = [COMPILER, "-std=c++17", *SANITIZERS, f"-I{ROOT / 'csrc'}", str(tmp_path / "bad.cpp"), "-o", str(program)]
    subprocess.run(command, check=True, timeout=300)
    run = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert run.returncode != 0
    assert "heap-buffer-overflow" in run.stderr


def test_no_c_long_in_compiled_sources():
    """``long`` has 32 bits on Windows; sizes are ptrdiff_t or Py_ssize_t, identities int64_t."""
    for source in (*ROOT.glob("csrc/**/*.h*"), *ROOT.glob("csrc/**/*.c*"), *ROOT.glob("eval_lib/*.pyx")):
        assert not re.search(r"\blong\b|\bunsigned int\b|cimport numpy", source.read_text()), source
