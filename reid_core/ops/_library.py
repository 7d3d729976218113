"""Finds the compiled operations, or says why they are missing."""

from __future__ import annotations

import functools
import importlib.util
import logging
import pkgutil
from collections.abc import Callable
from pathlib import Path

import torch

import eval_lib

logger = logging.getLogger(__name__)

LIBRARY = "reid_core.ops._torch_ops"
BACKENDS = ("auto", "native", "torch")


@functools.cache
def _load() -> str:
    """Load the library into torch, once; why that cannot be done, or an empty string."""
    found = importlib.util.find_spec(LIBRARY)
    if found is None or found.origin is None:
        skipped = eval_lib.build_record().get("skipped", {}).get(LIBRARY)
        return str(skipped or "it was never built here: run `python setup.py build_ext --inplace`")
    try:
        torch.ops.load_library(found.origin)  # type: ignore[no-untyped-call]
    except OSError as error:
        return f"it was built for another machine or another torch than {torch.__version__}: {error}"
    shapes: dict[str, Callable[..., object]] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)], f"{__package__}."):
        if module.name != LIBRARY:
            shapes |= getattr(importlib.import_module(module.name), "SHAPES", {})
    older = [op for op in shapes if not hasattr(torch.ops.reid_core, op)]
    if older:
        return (
            f"it was built from an earlier version, without {', '.join(older)}: build it again with `python setup.py build_ext "
            "--inplace`, or install the package again"
        )
    for op, shape in shapes.items():
        torch.library.register_fake(f"reid_core::{op}", shape)
    return ""


def why_missing(device_type: str = "cpu") -> str:
    """Why the compiled operations cannot run on ``cpu`` or ``cuda`` tensors; an empty string where they can."""
    reason = _load()
    if reason or device_type == "cpu":
        return reason
    key = device_type.upper()
    if torch._C._dispatch_has_kernel_for_dispatch_key("reid_core::count_tile", key):
        return ""
    skipped = eval_lib.build_record().get("skipped", {}).get(f"{LIBRARY} ({key})")
    return str(skipped or f"the library was built without its part for {device_type}")


@functools.cache
def _warn_once(device_type: str, reason: str) -> None:
    logger.warning(
        "plain PyTorch does the work on %s, more slowly: the compiled %s is missing (%s)", device_type, LIBRARY, reason
    )


def use_native(device_type: str, backend: str = "auto") -> bool:
    """Whether the compiled operations do the work on tensors of ``device_type``; where they are missing, one warning.

    Args:
        device_type: ``cpu`` or ``cuda``.
        backend: ``auto``, ``native`` or ``torch``; the results are the same.

    Raises:
        ValueError: an unknown backend. RuntimeError: ``native`` was asked for and is missing; the message says why.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be auto, native or torch, got {backend!r}")
    if backend == "torch":
        return False
    reason = why_missing(device_type)
    if reason and backend == "native":
        raise RuntimeError(f"backend native was asked for, but {LIBRARY} is missing: {reason}")
    if reason:
        _warn_once(device_type, reason)
    return not reason


# What torch.compiler.assume_constant_result does, which imports the whole compiler: compiled code calls this once.
use_native._dynamo_marked_constant = True  # type: ignore[attr-defined]


def refuse_second_derivative(name: str) -> None:
    """To be called in a backward pass: raises where it is to be differentiated itself (``create_graph=True``)."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError(f'{name} has no second derivative where it is compiled: backend="torch" has')
