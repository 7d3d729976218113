"""The counting kernel under ThreadSanitizer, where every CUDA thread counts as one, and under AddressSanitizer."""

import subprocess

import kernel_build
import pytest

SANITIZERS = {"thread": "ThreadSanitizer: data race", "address,undefined": "AddressSanitizer: heap-buffer-overflow"}


@pytest.fixture(scope="module", params=SANITIZERS)
def program(request, tmp_path_factory):
    """The sanitizer, and the program built with it."""
    path = tmp_path_factory.mktemp("kernels") / "count_tile_races"
    flags = ("-O1", f"-fsanitize={request.param}", "-fno-sanitize-recover=all")
    return request.param, kernel_build.compile_kernels("count_tile_races.cpp", path, *flags)


def run(program, *arguments):
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=300)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer of this compiler does not run on this kernel of Linux")
    return done


def test_no_report_and_the_same_counts(program):
    done = run(program[1])
    said = [line for line in done.stderr.splitlines() if "doesn't fully support makecontext" not in line]
    assert (done.returncode, done.stdout, said) == (0, "", [])


def test_the_sanitizers_are_awake(program):
    name, path = program
    done = run(path, "race" if name == "thread" else "outside")
    assert done.returncode != 0
    assert SANITIZERS[name] in done.stderr
