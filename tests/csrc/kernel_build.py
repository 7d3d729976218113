"""Compiles kernels of csrc/cuda with the host's compiler, for a machine without a GPU."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
FLAGS = ["-std=c++17", "-g", "-Wall", "-Wextra", "-Werror", "-DREID_KERNELS_ON_HOST"]
HEADERS = [f"-I{ROOT / folder}" for folder in ("csrc", "csrc/cuda", "tests/csrc")]


def compile_kernels(name, target, *flags):
    """Compile ``tests/csrc/NAME`` to ``target``; the path of it."""
    if not COMPILER:
        pytest.skip("no C++ compiler here")
    if not sys.platform.startswith("linux"):
        pytest.skip("the threads of kernels on the processor are made for Linux")
    command = [COMPILER, *FLAGS, *flags, *HEADERS, str(ROOT / "tests" / "csrc" / name), "-o", str(target)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if "cannot find" in built.stderr and ("tsan" in built.stderr or "asan" in built.stderr):
        pytest.skip("this compiler has no sanitizer libraries")
    assert built.returncode == 0, built.stderr
    return target
