"""What a run ran on: versions, commit, platform."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from reid_core import __version__

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "safetensors", "pillow")


def environment() -> dict[str, Any]:
    """``versions``, ``commit`` (of this package's checkout, None if installed) and ``platform``. Imports nothing."""
    versions = {"reid_core": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None  # type: ignore[assignment]
    return {
        "versions": versions,
        "commit": _commit(),
        "platform": {
            "system": platform.platform(),
            "machine": platform.machine(),
            "processors": os.cpu_count(),
            "byteorder": sys.byteorder,
        },
    }


def _commit() -> str | None:
    """The checkout's commit, with ``+`` if files differ from it."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "HEAD")
    if not commit:
        return None
    return commit + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
