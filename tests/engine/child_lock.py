"""Run by the lock tests without torch: many processes want one folder at once. Prints one JSON object."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from reid_core.engine import _lock
from reid_core.engine.run_folder import RunFolder
from reid_core.errors import ReidCoreError


def race(enter: Callable[[], RunFolder], racers: int, kill: bool) -> tuple[int, list[str]]:
    """Start ``racers`` processes that enter at once; how many got in, and what the others were told.

    Those who got in stay there until all have reported; then they leave, or are killed where they stand.
    """
    go_out, go_in = os.pipe()
    stay_out, stay_in = os.pipe()
    tell_out, tell_in = os.pipe()
    pids = []
    for _ in range(racers):
        pid = os.fork()
        if pid == 0:
            os.close(go_in)
            os.close(stay_in)
            os.read(go_out, 1)  # ends for all when the parent closes its end
            try:
                run = enter()
            except ReidCoreError as error:
                os.write(tell_in, json.dumps(str(error)).encode()[:900] + b"\n")
                os._exit(0)
            os.write(tell_in, b'"in"\n')
            os.read(stay_out, 1)
            run.close()
            os._exit(0)
        pids.append(pid)
    os.close(go_in)
    os.close(tell_in)
    told = b""
    while told.count(b"\n") < racers:
        told += os.read(tell_out, 1 << 16)
    if kill:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    os.close(stay_in)
    for pid in pids:
        os.waitpid(pid, 0)
    for end in (go_out, stay_out, tell_out):
        os.close(end)
    words = [json.loads(line) for line in told.splitlines()]
    return words.count("in"), [word for word in words if word != "in"]


def main(out: Path) -> dict[str, object]:
    with RunFolder.create(out, "run", resume=False) as run:
        run.set_status("interrupted")

    def resume() -> RunFolder:
        return RunFolder.create(out, "run", resume=True)

    got_in, told = [], []
    for trial in range(50):  # every other round finds the lock of a process that was killed
        number, refusals = race(resume, 2, kill=trial % 2 == 0)
        got_in.append(number)
        told += refusals
    for _ in range(10):
        number, refusals = race(resume, 8, kill=True)
        got_in.append(number)
        told += refusals
    new = [
        race(lambda trial=trial: RunFolder.create(out, f"new{trial}", resume=False), 2, kill=False)[0]
        for trial in range(10)
    ]
    named = [race(lambda: RunFolder.create(out, None, default="day"), 4, kill=False)[0] for _ in range(3)]

    late = []
    for _ in range(10):
        race(resume, 1, kill=True)
        late.append(race_at_the_worst_moment(resume))
    return {"got_in": got_in, "told": told, "new": new, "named": named, "late": late, "torch": "torch" in sys.modules}


def race_at_the_worst_moment(enter: Callable[[], RunFolder]) -> int:
    """Four processes all see that the owner is dead before any of them acts on it; how many got in."""
    gate_out, gate_in = os.pipe()
    seen_out, seen_in = os.pipe()
    gatekeeper = os.fork()
    if gatekeeper == 0:
        for _ in range(4):
            os.read(seen_out, 1)
        os._exit(0)  # closes the last gate_in, and everybody's read of gate_out ends
    os.close(gate_in)
    real = _lock.is_alive

    def seen_by_all(owner: dict[str, object] | None) -> bool:
        alive = real(owner)
        if not alive:
            os.write(seen_in, b"x")
            os.read(gate_out, 1)
        return alive

    real_same = _lock._same_file

    def same_and_slow(file: BinaryIO, path: Path) -> bool:
        same = real_same(file, path)
        time.sleep(0.01)
        return same

    _lock.is_alive = seen_by_all
    _lock._same_file = same_and_slow
    try:
        return race(enter, 4, kill=True)[0]
    finally:
        _lock.is_alive = real
        _lock._same_file = real_same
        os.waitpid(gatekeeper, 0)
        for end in (gate_out, seen_out, seen_in):
            os.close(end)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))) + "\n")
