"""Draws that are the same on every machine and version, and that images added later do not shuffle."""

from __future__ import annotations

import hashlib


def draw_order(seed: int, name: str) -> bytes:
    """What to sort by: the order of SHA-256 over the seed and a name."""
    return hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogateescape")).digest()
