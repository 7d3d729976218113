"""nvcc compiles every kernel for every GPU that is served, without a warning; what it needs of a GPU is in docs/gpu.md."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURES = (75, 80, 86, 90, 100, 120)
TARGETS = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in ARCHITECTURES]
NVCC = shutil.which("nvcc")

pytestmark = pytest.mark.skipif(NVCC is None, reason="nvcc was not found: the CUDA sources are not compiled here")


def compile_source(source, *options):
    torch = pytest.importorskip("torch")
    includes = [f"-I{ROOT / 'csrc'}", f"-I{Path(torch.__file__).parent / 'include'}"]
    macros = ["-DTORCH_TARGET_VERSION=0x020a000000000000", "-DUSE_CUDA"]
    command = [NVCC, "-c", str(source), "-std=c++17", "-O3", *includes, *macros, *TARGETS, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def resources(said):
    """By kernel's type and architecture: registers, bytes of shared memory, bytes spilled."""
    table, key = {}, None
    for line in said.splitlines():
        if found := re.search(r"Compiling entry function '\w*?count_tile_kernelI([fd])\w*' for 'sm_(\d+)'", line):
            key = {"f": "float32", "d": "float64"}[found[1]], int(found[2])
        elif found := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line):
            spilled = int(found[1]) + int(found[2])
        elif key and (found := re.search(r"Used (\d+) registers.*?(\d+) bytes smem", line)):
            table[key], key = (int(found[1]), int(found[2]), spilled), None
    return table


@pytest.mark.parametrize("source", sorted((ROOT / "csrc" / "cuda").glob("*.cu")), ids=lambda path: path.name)
def test_it_compiles_and_the_table_in_the_docs_is_true(source, tmp_path):
    said = compile_source(source, "-Xptxas", "-v", "-Werror", "all-warnings", "-o", str(tmp_path / "kernels.o"))
    found = resources(said)
    assert set(found) == {(kind, number) for kind in ("float32", "float64") for number in ARCHITECTURES}
    for registers, shared, spilled in found.values():
        assert spilled == 0
        # Six blocks of 256 threads at the least share a multiprocessor's 65,536 registers; on sm_75, with 64 KiB of
        # shared memory, four.
        assert registers <= 40 and shared <= 16 * 1024
    version = subprocess.run([NVCC, "--version"], capture_output=True, text=True, timeout=60).stdout
    text = (ROOT / "docs" / "gpu.md").read_text()
    stated = re.search(r"nvcc (\d+\.\d+)", text)[1]
    if f"release {stated}," not in version:
        pytest.skip(f"the table in docs/gpu.md was made with nvcc {stated}")
    rows = re.findall(r"^\| sm_(\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|", text, re.MULTILINE)
    assert {int(row[0]): tuple(map(int, row[1:])) for row in rows} == {
        number: (*found["float32", number][:2], *found["float64", number][:2]) for number in ARCHITECTURES
    }
