"""The kernels under ThreadSanitizer, where every CUDA thread counts as one, and under AddressSanitizer."""

import subprocess

import kernel_build
import pytest

SANITIZERS = {"thread": "ThreadSanitizer: data race", "address,undefined": "AddressSanitizer: heap-buffer-overflow"}


@pytest.fixture(scope="module", params=SANITIZERS)
def build(request, tmp_path_factory):
    """The sanitizer, and what builds a program with it."""
    folder = tmp_path_factory.mktemp("kernels")
    flags = ("-O1", f"-fsanitize={request.param}", "-fno-sanitize-recover=all")
    return request.param, lambda name: kernel_build.compile_kernels(f"{name}.cpp", folder / name, *flags)


def run(program, *arguments):
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=300)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer of this compiler does not run on this kernel of Linux")
    return done


@pytest.mark.parametrize("name", ["count_tile_races", "loss_kernel_races"])
def test_no_report_and_the_same_results(build, name):
    done = run(build[1](name), *(["threads"] if build[0] == "thread" else []))
    said = [line for line in done.stderr.splitlines() if "doesn't fully support makecontext" not in line]
    assert (done.returncode, done.stdout, said) == (0, "", [])


def test_the_sanitizers_are_awake(build):
    sanitizer, made = build
    done = run(made("count_tile_races"), "race" if sanitizer == "thread" else "outside")
    assert done.returncode != 0
    assert SANITIZERS[sanitizer] in done.stderr
