"""Moves of images that are killed again and again, in processes of their own."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from conftest import PROJECT

from reid_core.prepare._undo import undo


def tree(root: Path) -> dict[str, bytes]:
    """Every file below ``root`` and what it holds."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def images(*roots: Path) -> list[bytes]:
    """What the images below ``roots`` hold, sorted."""
    return sorted(path.read_bytes() for root in roots for path in root.rglob("*.jpg"))


def kill_while_moving(script: str, root: Path, out: Path, kills: int) -> None:
    """SIGKILL at any moment, ``kills`` times: no image is lost or changed, and what was begun can be taken back or finished.

    Args:
        script: Python; prints ``ready``, then moves the images of ``argv[1]`` to ``argv[2]``, or goes on with that.
        root: the images. All files in it are as before when this returns.
        out: where they are moved; nothing of it is left.
        kills: at least a quarter of them must have come while images moved.
    """
    command = [sys.executable, "-c", script, str(root), str(out)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])}
    before, wanted, rng, while_working = tree(root), images(root), random.Random(kills), 0
    journal = out / ".split_journal.csv"
    for trial in range(kills):
        child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        # Most of the time to the first image is spent on flushing the journal.
        while trial % 4 and not journal.exists() and child.poll() is None:
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.05))
        child.send_signal(signal.SIGKILL)
        child.communicate()
        while_working += child.returncode == -signal.SIGKILL and journal.exists()
        assert sorted(set(images(root, out))) == wanted, trial
        if (out / ".split.json").exists() and not journal.exists():  # just begun, or finished
            undo(out)
            assert tree(root) == before, trial
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    assert images(out) == wanted and images(root) == []
    undo(out)
    assert tree(root) == before and not out.exists()
    assert while_working >= kills // 4
