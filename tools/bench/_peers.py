"""Fetches the evaluators of other projects from the package index, for comparison alone: nothing of theirs stays here.

Single files are read out of their archives into a scratch folder, unchanged; nothing is installed.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

FASTREID = ("fastreid==1.4.0", "fastreid/evaluation/rank_cylib/rank_cy.pyx")
TORCHREID = ("torchreid==0.2.5", "torchreid/reid/metrics/rank.py")


def member(requirement: str, inside: str, scratch: Path, *options: str) -> str:
    """Text of one file of a package, fetched with pip into ``scratch`` if it is not there.

    Raises:
        RuntimeError: pip could not fetch it, or the archive has no such file.
    """
    name = requirement.split("==")[0]
    if not list(scratch.glob(f"{name}-*")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options, "--dest", str(scratch)]
        if subprocess.run([*command, requirement]).returncode:
            raise RuntimeError(f"pip could not download {requirement}")
    (archive,) = scratch.glob(f"{name}-*")
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as package:
            return package.read(inside).decode()
    with tarfile.open(archive) as package:
        found = [entry for entry in package.getmembers() if entry.isfile() and entry.name.endswith("/" + inside)]
        stream = package.extractfile(found[0]) if found else None
        if stream is None:
            raise RuntimeError(f"{archive.name} has no {inside}")
        return stream.read().decode()


def load(path: Path, name: str) -> ModuleType:
    """The module in a file."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fastreid(scratch: Path) -> Callable[..., tuple[Any, float]]:
    """``evaluate_cy`` of FastReID, compiled as its own setup.py does; returns (cmc, mAP)."""
    (scratch / "rank_cy.pyx").write_text(member(*FASTREID, scratch), encoding="utf-8")
    setup = (
        "import numpy\n"
        "from Cython.Build import cythonize\n"
        "from setuptools import Extension, setup\n"
        "peer = Extension('rank_cy', ['rank_cy.pyx'], include_dirs=[numpy.get_include()])\n"
        "setup(name='rank_cy', ext_modules=cythonize([peer]), script_args=['-q', 'build_ext', '--inplace'])\n"
    )
    (scratch / "build_peer.py").write_text(setup, encoding="utf-8")
    subprocess.run([sys.executable, "build_peer.py"], check=True, cwd=scratch)
    (binary,) = scratch.glob("rank_cy.*.so")
    evaluate_cy = load(binary, "rank_cy").evaluate_cy

    def rank(*table: Any) -> tuple[Any, float]:
        cmc, ap, _ = evaluate_cy(*table, 50)
        return cmc, float(ap.mean())

    return rank


def torchreid(scratch: Path) -> Callable[..., tuple[Any, float]]:
    """``eval_market1501`` of Torchreid: plain NumPy, the package index has no Cython source of it; returns (cmc, mAP)."""
    text = member(*TORCHREID, scratch, "--no-build-isolation")
    (scratch / "torchreid_rank.py").write_text(text, encoding="utf-8")
    eval_market1501 = load(scratch / "torchreid_rank.py", "torchreid_rank").eval_market1501

    def rank(*table: Any) -> tuple[Any, float]:
        cmc, mean_ap = eval_market1501(*table, 50)
        return cmc, float(mean_ap)

    return rank
