"""One seed, many named streams: a stream depends on its name alone, never on what was drawn before."""

from __future__ import annotations

import hashlib

import numpy as np


def stream_seed(seed: int, *name: str | int) -> int:
    """A 63-bit seed for the stream called ``name`` under ``seed``.

    The digest of the written name is used, so that a stream neither depends on how many
    numbers another one drew nor on Python's own hashing.
    """
    text = "/".join(str(part) for part in (seed, *name))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *name: str | int) -> np.random.Generator:
    """A NumPy generator for the stream called ``name`` under ``seed``."""
    return np.random.default_rng(stream_seed(seed, *name))
