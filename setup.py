"""The extensions, and nothing else: all other packaging is in pyproject.toml.

Whatever lies in ``eval_lib/*.pyx`` becomes a Cython module over ``csrc/*.hpp``; whatever lies in ``csrc/cpu/*.cpp`` and
``csrc/cuda/*.cu`` becomes one library of torch ops (LibTorch stable ABI). Adding a kernel edits nothing here.
``REID_CORE_BUILD`` = ``auto`` (build what can be built, say what was skipped), ``none``, ``cpu`` or ``cuda`` (exactly
that, or fail). What was built, and why something was not, goes to ``eval_lib/_build.json`` for ``reid-core info``.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.errors import SetupError

MODES = ("auto", "none", "cpu", "cuda")
MODE = os.environ.get("REID_CORE_BUILD") or "auto"
TORCH_OPS = "reid_core.ops._torch_ops"
TORCH_TARGET = "0x020a000000000000"  # the stable ABI of PyTorch 2.10; later versions load it too
CUDA_ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
MSVC = sys.platform == "win32"
# Measures must be the same on every processor: no -ffast-math, no -march=native, no contraction to fused multiply-add.
FLAGS = (
    ["/O2", "/std:c++17", "/EHsc"] if MSVC else ["-O3", "-std=c++17", "-ffp-contract=off", "-fvisibility=hidden", "-g0"]
)
# One binary serves CPython 3.11 and later. Before, buffers are not in the limited API; free-threaded builds cannot load
# it.
ABI3 = (
    sys.implementation.name == "cpython"
    and sys.version_info >= (3, 11)
    and not sysconfig.get_config_var("Py_GIL_DISABLED")
)


class Skipped(Exception):
    """Why something is not built."""


def explain(error: BaseException) -> str:
    """A failed build in one line; the compiler's own words are on the screen already."""
    if isinstance(error, Skipped):
        return str(error)
    if type(error).__module__.startswith("Cython."):
        return f"Cython {metadata.version('Cython')} could not translate {error}"
    text = str(error)[:300]
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, subprocess.CalledProcessError):
            text = f"{inner.cmd[0]} failed with exit code {inner.returncode}, its own words stand above"
        inner = inner.__cause__ or inner.__context__
    return f"{text}; a C++17 compiler (Debian: g++) is needed"


def cython_modules() -> list[Extension]:
    """One module a ``.pyx``."""
    return [
        Extension(
            f"eval_lib.{source.stem}",
            [source.as_posix()],
            include_dirs=["csrc"],
            depends=[header.as_posix() for header in sorted(Path("csrc").glob("*.h*"))],
            language="c++",
            define_macros=[("Py_LIMITED_API", "0x030B0000")] if ABI3 else [],
            py_limited_api=ABI3,
            extra_compile_args=FLAGS,
        )
        for source in sorted(Path("eval_lib").glob("*.pyx"))
    ]


def torch_ops() -> Extension:
    """The library of torch ops without its CUDA part; ``facts`` of it is what was found of torch."""
    try:
        import torch
    except Exception as error:  # a broken torch fails in many ways, and must not stop the rest from being built
        raise Skipped(
            f"torch cannot be imported here ({error}); install torch first and this package with --no-build-isolation"
        ) from error
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < (2, 10):
        raise Skipped(f"torch {torch.__version__} lacks the stable ABI of 2.10; install a newer torch")
    home = Path(torch.__file__).parent
    extension = Extension(
        TORCH_OPS,
        [source.as_posix() for source in sorted(Path("csrc/cpu").glob("*.cpp"))],
        include_dirs=["csrc", str(home / "include")],
        library_dirs=[str(home / "lib")],
        libraries=["torch", "torch_cpu", "c10"],
        depends=[header.as_posix() for header in sorted(Path("csrc").rglob("*.h*"))],
        language="c++",
        define_macros=[("TORCH_TARGET_VERSION", TORCH_TARGET)],
        py_limited_api=True,  # it has no CPython symbol at all
        extra_compile_args=FLAGS,
    )
    # On the extension, which outlives the command: an editable install makes several of those.
    extension.facts = {"torch": torch.__version__, "torch_cuda": torch.version.cuda or ""}
    return extension


def find_nvcc(torch_cuda: str) -> tuple[Path, str]:
    """nvcc of the major version that torch was built with."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    found = shutil.which("nvcc", path=str(Path(home) / "bin")) if home else shutil.which("nvcc")
    if not torch_cuda:
        raise Skipped("this torch was built without CUDA")
    if not found:
        raise Skipped(f"nvcc was not found (CUDA_HOME is {home or 'not set'}); torch wants CUDA {torch_cuda}")
    text = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"release (\d+)\.(\d+)", text)
    if match is None or match[1] != torch_cuda.split(".")[0]:
        raise Skipped(f"{found} is CUDA {match[0] if match else '?'}, torch wants {torch_cuda}")
    return Path(found).resolve(), f"{match[1]}.{match[2]}"


def compile_cuda(extension: Extension, torch_cuda: str, temporary: Path) -> dict[str, str]:
    """Compile ``csrc/cuda/*.cu`` with nvcc and hand the objects to the linker of ``extension``."""
    nvcc, version = find_nvcc(torch_cuda)
    listed = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=True).stdout
    architectures = [number for number in CUDA_ARCHITECTURES if f"sm_{number}\n" in listed + "\n"]
    targets = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in architectures]
    targets.append(f"-gencode=arch=compute_{architectures[-1]},code=compute_{architectures[-1]}")  # later GPUs
    macros = [f"-DTORCH_TARGET_VERSION={TORCH_TARGET}", "-DUSE_CUDA"]
    includes = [f"-I{folder}" for folder in extension.include_dirs]
    temporary.mkdir(parents=True, exist_ok=True)
    objects = []
    for source in sorted(Path("csrc/cuda").glob("*.cu")):
        target = temporary / f"{source.stem}_cuda.o"
        host = [] if MSVC else ["-Xcompiler", "-fPIC,-fvisibility=hidden"]
        command = [
            str(nvcc),
            "-c",
            str(source),
            "-o",
            str(target),
            "-O3",
            "-std=c++17",
            "--threads=0",  # architectures side by side
            *host,
            *macros,
            *includes,
            *targets,
        ]
        print(" ".join(command))
        if subprocess.run(command).returncode:
            raise Skipped(f"nvcc could not compile {source}; its message stands above")
        objects.append(str(target))
    extension.extra_objects += objects
    extension.define_macros.append(("USE_CUDA", None))
    extension.libraries += ["torch_cuda", "cudart"]
    # nvcc may be a wrapper script elsewhere; a dry run says where its toolkit is.
    dry = subprocess.run([nvcc, "--dryrun", "-c", "any.cu"], capture_output=True, text=True, check=False)
    root = re.search(r"^#\$ TOP=(.*)$", dry.stderr, re.MULTILINE)
    home = Path(root[1]) if root else nvcc.parent.parent
    extension.library_dirs += [str(home / name) for name in ("lib64", "lib/x64", "lib") if (home / name).is_dir()]
    return {"nvcc": version, "architectures": " ".join(f"sm_{number}" for number in architectures)}


class BuildExt(build_ext):
    """Builds each extension on its own and keeps a record of what came of it."""

    def finalize_options(self) -> None:
        self.facts: dict[str, dict[str, str]] = {}
        self.skipped: dict[str, str] = {}
        self.has_ops = any(Path("csrc/cpu").glob("*.cpp")) or any(Path("csrc/cuda").glob("*.cu"))
        known = [extension.name for extension in self.distribution.ext_modules or []]
        if MODE != "none" and self.has_ops and TORCH_OPS not in known:
            try:
                self.distribution.ext_modules.append(torch_ops())
            except Skipped as reason:
                self.skip(TORCH_OPS, str(reason))
        super().finalize_options()

    def skip(self, name: str, reason: str) -> None:
        """Record why ``name`` is missing; an error where it was asked for."""
        if MODE in ("cpu", "cuda"):
            raise SetupError(f"REID_CORE_BUILD={MODE}, but {name} cannot be built: {reason}")
        self.skipped[name] = " ".join(reason.split())

    def run(self) -> None:
        wanted = cython_modules()
        if MODE == "none":
            names = [*(extension.name for extension in wanted), *([TORCH_OPS] if self.has_ops else [])]
            self.skipped = dict.fromkeys(names, "REID_CORE_BUILD=none was set when this was installed")
        if MODE == "cuda" and not any(Path("csrc/cuda").glob("*.cu")):
            raise SetupError("REID_CORE_BUILD=cuda, but this version has no CUDA kernel; use auto or cpu")
        super().run()
        self.remove_stale()
        self.write_record()
        if self.skipped:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.skipped.items())
            what = "some parts of reid-core are not compiled, and plain Python does their work, more slowly"
            sys.stderr.write(f"\nwarning: {what}. {reasons}\n\n")

    def build_extensions(self) -> None:
        built = []
        for extension in self.extensions:
            try:
                self.build_extension(extension)
                built.append(extension)
            except Exception as error:  # each version of setuptools has its own way of missing a compiler
                self.skip(extension.name, explain(error))
        self.extensions = built

    def build_extension(self, extension: Extension) -> None:
        facts = self.facts.setdefault(extension.name, dict(getattr(extension, "facts", {})))
        if extension.name == TORCH_OPS and any(Path("csrc/cuda").glob("*.cu")) and MODE != "cpu":
            try:
                facts.update(compile_cuda(extension, facts["torch_cuda"], Path(self.build_temp)))
            except Skipped as reason:
                self.skip(f"{TORCH_OPS} (CUDA)", str(reason))
        if any(source.endswith(".pyx") for source in extension.sources):
            facts["cython"] = metadata.version("Cython")
            if tuple(int(part) for part in facts["cython"].split(".")[:2]) < (3, 1):
                raise Skipped(f"Cython {facts['cython']} is too old; install 3.1 or later")
        elif any(source.startswith("eval_lib/") for source in extension.sources):
            raise Skipped("Cython is not installed here; install it, or drop --no-build-isolation")
        super().build_extension(extension)
        facts["file"] = Path(self.get_ext_fullpath(extension.name)).name
        facts["flags"] = " ".join(extension.extra_compile_args)

    def get_export_symbols(self, extension: Extension) -> list[str]:
        return [] if extension.name == TORCH_OPS else super().get_export_symbols(extension)

    def folders(self) -> list[Path]:
        """Where packages stand: the build tree, and the checkout for an in-place or editable build."""
        return [Path(self.build_lib), *([Path()] if self.inplace else [])]

    def remove_stale(self) -> None:
        """A binary of an earlier build must not pass for the one that was skipped now."""
        for name in self.skipped:
            package, _, module = name.rpartition(".")
            for folder in self.folders():
                for suffix in ("so", "pyd"):
                    for old in (folder / package.replace(".", "/")).glob(f"{module}.*{suffix}"):
                        old.unlink()

    def write_record(self) -> None:
        """``eval_lib/_build.json``, beside the modules it describes."""
        record = {
            "mode": MODE,
            "python": platform.python_version(),
            "abi": "cp311-abi3" if ABI3 else f"cp{sys.version_info[0]}{sys.version_info[1]}",
            "platform": sysconfig.get_platform(),
            "compiler": self.compiler_name(),
            "built": {extension.name: self.facts.get(extension.name, {}) for extension in self.extensions or []},
            "skipped": self.skipped,
        }
        for folder in self.folders():
            target = folder / "eval_lib" / "_build.json"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def compiler_name(self) -> str:
        command = getattr(self.compiler, "compiler_cxx", None) or getattr(self.compiler, "compiler", None)
        if not self.extensions or not command:
            return str(getattr(self.compiler, "compiler_type", "")) if self.extensions else ""
        try:
            text = subprocess.run([command[0], "--version"], capture_output=True, text=True).stdout
        except OSError:
            text = ""
        return text.split("\n")[0] or str(command[0])


class Build(build):
    """``build`` that always passes through ``build_ext``, so that the record is written even where nothing is built."""

    sub_commands = [(name, None if name == "build_ext" else test) for name, test in build.sub_commands]


if MODE not in MODES:
    raise SystemExit(f"REID_CORE_BUILD is {MODE!r}; it must be one of {', '.join(MODES)}")
modules = [] if MODE == "none" else cython_modules()
setup(
    ext_modules=modules,
    cmdclass={"build_ext": BuildExt, "build": Build},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if modules and ABI3 else {},
)
