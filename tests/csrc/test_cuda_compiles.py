"""nvcc compiles every kernel for every GPU that is served, without a warning; what it needs of a GPU is in docs/gpu.md."""

import functools
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURES = (75, 80, 86, 90, 100, 120)
TARGETS = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in ARCHITECTURES]
NVCC = shutil.which("nvcc")
SOURCES = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
PARTS = (
    "CrossEntropyLoss", "CrossEntropyGradient", "SoftTargetLoss", "SoftTargetGradient", "ConfidencePenaltyLoss",
    "ConfidencePenaltyGradient", "PeerLoss", "ShiftedLogits",
)  # fmt: skip
"""Template arguments that make a kernel another one."""

pytestmark = pytest.mark.skipif(NVCC is None, reason="nvcc was not found: the CUDA sources are not compiled here")


@functools.cache
def said_of(source):
    """What the compiler says of one source."""
    torch = pytest.importorskip("torch")
    includes = [f"-I{ROOT / 'csrc'}", f"-I{Path(torch.__file__).parent / 'include'}"]
    macros = ["-DTORCH_TARGET_VERSION=0x020a000000000000", "-DUSE_CUDA"]
    options = ["-Xptxas", "-v", "-Werror", "all-warnings", "-o", "/dev/null"]
    command = [NVCC, "-c", str(source), "-std=c++17", "-O3", *includes, *macros, *TARGETS, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def name_of(mangled):
    """``co_refine_kernel``, or ``row_loss_kernel of CrossEntropyLoss, ShiftedLogits``; and its type of numbers."""
    length, rest = re.match(r"_ZN4reid(\d+)(.*)", mangled).groups()
    kernel, arguments = rest[: int(length)], rest[int(length) :]
    parts = ", ".join(part for part in PARTS if part in arguments)
    return f"`{kernel}`" + f" of {parts}" * bool(parts), "float64" if "Id" in arguments else "float32, 16 bits"


def resources(said):
    """By kernel, type and architecture: registers (the most of its types), bytes of shared memory, bytes spilled."""
    table, key = {}, None
    for line in said.splitlines():
        if found := re.search(r"Compiling entry function '(\w+)' for 'sm_(\d+)'", line):
            key = *name_of(found[1]), int(found[2])
        elif found := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line):
            spilled = int(found[1]) + int(found[2])
        elif key and (found := re.search(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?", line)):
            one = int(found[1]), int(found[2] or 0), spilled
            table[key], key = tuple(map(max, table.get(key, one), one)), None
    return table


def lines_of(table):
    """The table of docs/gpu.md."""
    for kernel, kind in sorted({key[:2] for key in table}):
        found = [table[kernel, kind, number] for number in ARCHITECTURES]
        yield " | ".join(
            ["", kernel, kind, *(str(one[0]) for one in found), str(max(one[1] for one in found)), ""]
        ).strip()


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_it_compiles_and_nothing_is_spilled(source):
    table = resources(said_of(source))
    assert {key[2] for key in table} == set(ARCHITECTURES)
    for (kernel, kind, number), (registers, shared, spilled) in table.items():
        assert spilled == 0, kernel
        # A multiprocessor has 65,536 registers: they do for 768 threads at least, in float64 for 384.
        assert registers <= (65_536 // 384 if kind == "float64" else 65_536 // 768), (kernel, kind, number)
        assert shared <= 16 * 1024, kernel


def test_the_table_in_the_docs_is_true():
    version = subprocess.run([NVCC, "--version"], capture_output=True, text=True, timeout=60).stdout
    text = (ROOT / "docs" / "gpu.md").read_text()
    stated = re.search(r"nvcc (\d+\.\d+)", text)[1]
    if f"release {stated}," not in version:
        pytest.skip(f"the table in docs/gpu.md was made with nvcc {stated}")
    rows = [line for line in text.splitlines() if re.match(r"\| `\w+_kernel`", line)]
    assert rows == [line for source in SOURCES for line in lines_of(resources(said_of(source)))]
