"""Ctrl-C in the middle of a move."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock


@contextmanager
def interrupted_at_file(number: int) -> Iterator[None]:
    """The removal of the ``number``-th file, from 1, is interrupted as by Ctrl-C."""
    remove, left = os.unlink, [number]

    def unlink(*where: object, **more: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        remove(*where, **more)  # type: ignore[arg-type]

    with mock.patch.object(os, "unlink", unlink):
        yield
