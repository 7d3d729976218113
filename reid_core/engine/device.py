"""Which device a run uses."""

from __future__ import annotations

from typing import Any

import torch

from reid_core.errors import UsageError


def repeatable(device: torch.device) -> None:
    """Have cuDNN choose algorithms that give the same bits every time."""
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def choose_device(name: str, gpu: str | None) -> torch.device:
    """The device for ``--device`` and ``--gpu``; ``auto`` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        UsageError: the device is not there, or ``--gpu`` is not one number.
    """
    if gpu is not None:
        return _numbered(gpu)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no CUDA device; use --device cpu, or see reid-core info")
    if name == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: torch finds no MPS device; use --device cpu")
    return torch.device(name)


def _numbered(gpu: str) -> torch.device:
    try:
        number = int(gpu)
    except ValueError:
        raise UsageError(
            f"--gpu takes one device number, got {gpu!r}; training on several GPUs is started with torchrun, one a process"
        ) from None
    if number == -1:
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if not 0 <= number < count:
        raise UsageError(f"--gpu {number}: torch finds {count} CUDA devices here; --gpu -1 is the CPU")
    return torch.device("cuda", number)


def settle_amp(amp: str, device: torch.device) -> str:
    """``off``, ``bf16`` or ``fp16``: ``auto`` is bf16 where the device computes with it natively, and never fp16.

    Raises:
        UsageError: names the device.
    """
    if amp == "auto":
        return "bf16" if _computes_in_bf16(device) else "off"
    if amp == "bf16" and device.type != "cpu" and not _computes_in_bf16(device):
        raise UsageError(f"--amp bf16: {device} does not support bfloat16; use --amp off")
    if amp == "fp16" and device.type != "cuda":
        raise UsageError(
            f"--amp fp16: {device} does not train in float16 here, CUDA devices do; use --amp auto (bfloat16 where that is "
            "fast) or --amp off"
        )
    if amp == "fp16" and device.type == "cuda" and torch.cuda.get_device_capability(device) < (5, 3):
        raise UsageError(f"--amp fp16: {device} ({torch.cuda.get_device_name(device)}) has no float16; use --amp off")
    return amp


def _computes_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type == "cpu":
        abilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))
    return False
