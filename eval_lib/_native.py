"""Finds the compiled twin, or says why there is none."""

from __future__ import annotations

import functools
import importlib
import json
import logging
import os
from pathlib import Path
from types import ModuleType
from typing import Any

logger = logging.getLogger(__name__)


def build_record() -> dict[str, Any]:
    """What the build wrote of itself (``eval_lib/_build.json``); empty where the package was never built."""
    try:
        text = Path(__file__).with_name("_build.json").read_text(encoding="utf-8")
        record = json.loads(text)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


@functools.cache
def _load(name: str = "eval_lib._rank") -> tuple[ModuleType | None, str]:
    """A compiled module, or the reason why it is missing."""
    try:
        return importlib.import_module(name), ""
    except ImportError as error:
        skipped = build_record().get("skipped", {}).get(name)
        if skipped:
            return None, str(skipped)
        if isinstance(error, ModuleNotFoundError):
            return None, "it was never built here: run `pip install .` or `python setup.py build_ext --inplace`"
        return None, f"it was built for another machine or Python: {error}"


def why_missing(name: str = "eval_lib._rank") -> str:
    """Why a compiled module, by default that of the ranking, is not there; an empty string where it is."""
    return _load(name)[1]


def product() -> ModuleType | None:
    """The compiled ``eval_lib._product``, or None."""
    return _load("eval_lib._product")[0]


@functools.cache
def _warn_once(reason: str) -> None:
    logger.warning(
        "ranking runs in plain Python, many times slower: the compiled eval_lib._rank is missing (%s)", reason
    )


def instruction_set(module: ModuleType) -> int:
    """Number of the instruction set that is to be used: the best of this processor, or ``REID_CORE_ISA``.

    Counts are the same with all; products are rounded once a step where the set can multiply and add at once, else twice.
    The variable is there for tests, for comparisons, and for a processor that misbehaves.

    Args:
        module: one of the compiled ones.

    Raises:
        ValueError: ``REID_CORE_ISA`` names none that this machine has.
    """
    known: dict[str, int] = module.isas()
    wanted = os.environ.get("REID_CORE_ISA")
    if not wanted:
        return max(known.values())
    if wanted not in known:
        raise ValueError(f"REID_CORE_ISA is {wanted!r}; this machine has {', '.join(known)}")
    return known[wanted]


def choose(backend: str) -> ModuleType | None:
    """The compiled module for ``native``, None for ``python``, and for ``auto`` what there is, with one warning.

    Raises:
        ValueError: an unknown name. RuntimeError: ``native`` was asked for and is missing; the message says why.
    """
    if backend not in ("auto", "native", "python"):
        raise ValueError(f"backend must be auto, native or python, got {backend!r}")
    if backend == "python":
        return None
    module, reason = _load()
    if module is None:
        if backend == "native":
            raise RuntimeError(f"backend native was asked for, but eval_lib._rank is missing: {reason}")
        _warn_once(reason)
    return module


def usable_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
