"""Builds copies of the sources: one binary for all Pythons, without a compiler, asked for nothing."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("Cython")
setuptools = pytest.importorskip("setuptools")

ROOT = Path(__file__).resolve().parents[1]
IS_ABI3 = (
    sys.implementation.name == "cpython"
    and sys.version_info >= (3, 11)
    and not sysconfig.get_config_var("Py_GIL_DISABLED")
)
SUFFIX = ".abi3.so" if IS_ABI3 else sysconfig.get_config_var("EXT_SUFFIX")
RANK = """
import json, logging, eval_lib
logging.basicConfig(format="LOGGED %(message)s")
args = ([[0.2, 0.1, 0.3]], [1], [1, 2, 1], [0], [1, 1, 1])
results = [eval_lib.evaluate_rank(*args, 3) for _ in range(3)]
print(json.dumps([results[0][0].tolist(), results[0][1], eval_lib.rank_queries(*args).backend, eval_lib.why_missing()]))
"""

needs_compiler = pytest.mark.skipif(
    not (os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler here"
)


@pytest.fixture
def checkout(tmp_path):
    """A copy of what is needed to build, without anything built, and without the torch ops, which take a while."""
    target = tmp_path / "checkout"
    ignore = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd", "_rank.cpp", "_build.json")
    for name in ("csrc", "eval_lib", "reid_core"):
        shutil.copytree(ROOT / name, target / name, ignore=ignore)
    for name in ("cpu", "cuda"):
        shutil.rmtree(target / "csrc" / name)
    for name in ("setup.py", "pyproject.toml", "LICENSE", "MANIFEST.in", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, target / name)
    return target


def build(checkout, *command, check=True, **environment):
    """Run setup.py in ``checkout``."""
    run = subprocess.run(
        [sys.executable, "setup.py", *command],
        cwd=checkout,
        env=os.environ | {"REID_CORE_BUILD": "auto"} | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert not check or run.returncode == 0, run.stdout + run.stderr
    return run


def rank(checkout):
    """What evaluation gives in ``checkout``, and what it logs."""
    run = subprocess.run([sys.executable, "-c", RANK], cwd=checkout, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout), [line for line in run.stderr.splitlines() if line.startswith("LOGGED")]


def record(checkout):
    return json.loads((checkout / "eval_lib" / "_build.json").read_text())


@needs_compiler
def test_in_place_build_is_one_binary_for_every_python(checkout):
    build(checkout, "build_ext", "--inplace", REID_CORE_BUILD="cpu")
    assert [p.name for p in (checkout / "eval_lib").glob("_rank.*.so")] == [f"_rank{SUFFIX}"]
    about = record(checkout)
    assert about["skipped"] == {}
    assert about["built"]["eval_lib._rank"]["file"] == f"_rank{SUFFIX}"
    for flag in ("-march=native", "-ffast-math", "-fopenmp"):
        assert flag not in about["built"]["eval_lib._rank"]["flags"]
    result, logged = rank(checkout)
    assert result == [[0.0, 1.0, 1.0], pytest.approx((1 / 2 + 2 / 3) / 2), "native", ""]
    assert logged == []

    # A later build that is asked for nothing leaves no old binary behind that could pass for a new one.
    build(checkout, "build_ext", "--inplace", REID_CORE_BUILD="none")
    assert not list((checkout / "eval_lib").glob("_rank.*.so"))


def test_a_build_of_nothing_ranks_in_python_and_warns_once(checkout):
    run = build(checkout, "build_ext", "--inplace", REID_CORE_BUILD="none")
    assert "REID_CORE_BUILD=none" in run.stderr
    result, logged = rank(checkout)
    assert result[:3] == [[0.0, 1.0, 1.0], pytest.approx((1 / 2 + 2 / 3) / 2), "python"]
    assert "REID_CORE_BUILD=none" in result[3]
    assert len(logged) == 1 and "plain Python" in logged[0]


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_without_a_compiler_the_rest_is_built_and_one_warning_says_so(checkout, compiler):
    broken = {name: str(shutil.which(compiler) or checkout / compiler) for name in ("CC", "CXX")}
    run = build(checkout, "build_ext", "--inplace", **broken)
    warnings = [line for line in run.stderr.splitlines() if line.startswith("warning: some parts of reid-core")]
    assert len(warnings) == 1 and "g++" in warnings[0]
    result, logged = rank(checkout)
    assert result[2] == "python" and "C++17 compiler" in result[3]
    assert len(logged) == 1

    run = build(checkout, "build_ext", "--inplace", check=False, REID_CORE_BUILD="cpu", **broken)
    assert run.returncode != 0
    assert "REID_CORE_BUILD=cpu, but eval_lib._product cannot be built" in run.stdout + run.stderr


def test_unknown_and_impossible_builds_are_refused(checkout):
    run = build(checkout, "build_ext", "--inplace", check=False, REID_CORE_BUILD="gpu")
    assert run.returncode != 0 and "must be one of auto, none, cpu, cuda" in run.stderr
    run = build(checkout, "build_ext", "--inplace", check=False, REID_CORE_BUILD="cuda")
    assert run.returncode != 0 and "no CUDA kernel" in run.stderr


@needs_compiler
@pytest.mark.parametrize("mode", ["auto", "none"])
def test_wheel_holds_the_binary_and_its_record(checkout, mode):
    (checkout / "eval_lib" / "_build.json").write_text('{"left": "over"}')
    build(checkout, "bdist_wheel", "--dist-dir", "dist", REID_CORE_BUILD=mode)
    (wheel,) = (checkout / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        about = json.loads(archive.read("eval_lib/_build.json"))
    assert about["mode"] == mode
    assert (f"eval_lib/_rank{SUFFIX}" in names) == (mode == "auto")
    assert {"eval_lib/reference.py", "reid_core/py.typed", "reid_core/cli/info.py"} <= set(names)
    assert not [name for name in names if name.startswith(("tests", "tools", "csrc")) or name.endswith("_rank.cpp")]
    if mode == "none":
        assert wheel.name.endswith("-py3-none-any.whl")
    elif IS_ABI3:
        assert "-cp311-abi3-" in wheel.name


def test_source_distribution_can_build(checkout):
    build(checkout, "sdist", "--dist-dir", "dist")
    (archive,) = (checkout / "dist").glob("*.tar.gz")
    shutil.unpack_archive(archive, checkout / "unpacked")
    names = {
        path.relative_to(next((checkout / "unpacked").iterdir())).as_posix()
        for path in (checkout / "unpacked").rglob("*")
    }
    assert {"csrc/rank.hpp", "eval_lib/_rank.pyx", "setup.py", "pyproject.toml", "LICENSE"} <= names
    assert "eval_lib/_build.json" not in names


OP = """
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/csrc/stable/ops.h>

using torch::stable::Tensor;

Tensor plus_one(Tensor input) {
    Tensor output = torch::stable::empty_like(input);
    const auto* from = static_cast<const float*>(input.data_ptr());
    auto* to = static_cast<float*>(output.data_ptr());
    for (int64_t i = 0; i < input.numel(); ++i) to[i] = from[i] + 1;
    return output;
}

STABLE_TORCH_LIBRARY(reid_core_build_test, m) { m.def("plus_one(Tensor input) -> Tensor"); }
STABLE_TORCH_LIBRARY_IMPL(reid_core_build_test, CPU, m) { m.impl("plus_one", TORCH_BOX(&plus_one)); }
"""


@pytest.mark.slow
@needs_compiler
def test_a_torch_op_dropped_into_csrc_is_built_without_touching_setup(checkout):
    pytest.importorskip("torch")
    (checkout / "csrc" / "cpu").mkdir()
    (checkout / "csrc" / "cpu" / "plus_one.cpp").write_text(OP)
    build(checkout, "build_ext", "--inplace", REID_CORE_BUILD="cpu")
    (library,) = (checkout / "reid_core" / "ops").glob("_torch_ops.*.so")
    program = (
        f"import torch; torch.ops.load_library({str(library)!r}); "
        "print(torch.ops.reid_core_build_test.plus_one(torch.arange(3.0)).tolist())"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert run.stdout.strip() == "[1.0, 2.0, 3.0]"
    assert record(checkout)["built"]["reid_core.ops._torch_ops"]["torch"]


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("mode", ["cpu", "cuda"])
def test_the_torch_ops_are_built_and_load_without_a_gpu(checkout, mode):
    pytest.importorskip("torch")
    if mode == "cuda" and not shutil.which("nvcc"):
        pytest.skip("nvcc was not found")
    for name in ("cpu", "cuda"):
        shutil.copytree(ROOT / "csrc" / name, checkout / "csrc" / name)
    build(checkout, "build_ext", "--inplace", REID_CORE_BUILD=mode)
    program = "import json; from reid_core import ops; print(json.dumps([ops.why_missing(), ops.why_missing('cuda')]))"
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, "-c", program]
    run = subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    cpu, cuda = json.loads(run.stdout)
    assert cpu == "" and (cuda == "") == (mode == "cuda")

    # A build of nothing leaves no old library behind, and says why there is none.
    build(checkout, "build_ext", "--inplace", REID_CORE_BUILD="none")
    run = subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert "REID_CORE_BUILD=none" in json.loads(run.stdout)[0]
