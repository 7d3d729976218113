"""Run by the checkpoint tests in a process of its own that never imports torch: savers to be killed, starved, traced.

``python child_checkpoint.py VERB FOLDER [NUMBER]`` prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from reid_core.engine import checkpoint as module
from reid_core.engine.checkpoint import CheckpointFolder
from reid_core.errors import CheckpointError
from reid_core.files import TMP_SUFFIX

FLOATS = 700_000  # 2.8 MB


def content(generation: int, floats: int = FLOATS) -> dict[str, np.ndarray]:
    """What checkpoint ``generation`` holds."""
    weight = np.arange(floats, dtype=np.float32) + np.float32(generation)
    return {"net0.weight": weight, "rng": np.full(4, generation, np.uint64)}


def save(folder: Path, generation: int, floats: int = FLOATS, also: str | None = None) -> None:
    CheckpointFolder(folder).save(content(generation, floats), {"generation": generation}, also=[also] if also else [])


def loaded_generation(folder: Path, floats: int = FLOATS) -> int:
    """The generation found, every value of it compared; -1 if nothing loads or a value is another."""
    try:
        found = CheckpointFolder(folder).load()
    except CheckpointError as error:
        sys.stderr.write(f"{error}\n")
        return -1
    generation = int(found.meta["generation"])
    wanted = content(generation, floats)
    same = found.tensors.keys() == wanted.keys() and all(np.array_equal(found.tensors[k], wanted[k]) for k in wanted)
    return generation if same else -1


def in_child(work: Callable[[], None]) -> int:
    """Fork, work, and leave without any cleaning up; the exit status comes back."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except Exception as error:
            sys.stderr.write(f"child: {error!r}\n")
            os._exit(99)
    return os.waitpid(pid, 0)[1]


def kill(folder: Path, trials: int) -> dict[str, object]:
    """SIGKILL ``trials`` savers, each at a uniform moment of its save."""
    rng = random.Random(0)
    save(folder, 0)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        in_child(lambda: save(folder, 0))
        times.append(time.perf_counter() - start)
    span = sorted(times)[2]
    good = cut_off = left_unfinished = went_back = 0
    newest = 0
    for trial in range(1, trials + 1):
        pid = os.fork()
        if pid == 0:
            save(folder, trial, also="phase_1" if trial % 3 == 0 else None)
            os._exit(0)
        time.sleep(rng.uniform(0, span))
        os.kill(pid, signal.SIGKILL)
        cut_off += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        left_unfinished += bool(list(folder.glob(f"*{TMP_SUFFIX}")))
        found = loaded_generation(folder)
        good += found in (newest, trial)  # never older than the newest that was known to be complete
        went_back += found == newest
        newest = max(found, 0)
    save(folder, trials + 1)
    return {
        "good": good,
        "cut_off": cut_off,
        "left_unfinished": left_unfinished,
        "kept_old": went_back,
        "stale": len(list(folder.glob(f"*{TMP_SUFFIX}"))),
        "last": loaded_generation(folder),
        "span": span,
        "torch": "torch" in sys.modules,
    }


def crash(folder: Path, _: int) -> dict[str, object]:
    """Stop dead before the n-th and before the m-th change of the file system of two saves in a row, for all n, m."""
    calls = ("open", "fsync", "replace", "link", "unlink")

    def stop_before(number: int) -> None:
        seen = 0

        def counted(name: str) -> Callable[..., object]:
            real = getattr(os, name)

            def call(*args: object, **kwargs: object) -> object:
                nonlocal seen
                seen += 1
                if seen == number:
                    os._exit(7)
                return real(*args, **kwargs)

            return call

        for name in calls:
            setattr(os, name, counted(name))

    os.fsync = lambda _: None  # a kill does not lose what was written; the calls are still counted
    floats = 10
    bad: list[list[int]] = []
    tried = 0
    first = 0
    finished_first = False
    while not finished_first:
        first += 1
        second = 0
        finished_second = False
        while not finished_second:
            second += 1
            tried += 1
            for path in folder.glob("*"):
                path.unlink()
            save(folder, 0, floats)
            save(folder, 1, floats)

            def stopped_save(generation: int, number: int) -> bool:
                def work() -> None:
                    stop_before(number)
                    save(folder, generation, floats)

                return os.waitstatus_to_exitcode(in_child(work)) == 0

            finished_first = stopped_save(2, first)
            middle = loaded_generation(folder, floats)
            finished_second = stopped_save(3, second)
            end = loaded_generation(folder, floats)
            if middle not in (1, 2) or end not in (middle, 3):
                bad.append([first, second, middle, end])
            if finished_second and end != 3:
                bad.append([first, second, middle, end])
    return {"tried": tried, "steps": first - 1, "bad": bad}


def starve(folder: Path, trials: int) -> dict[str, object]:
    """A limit on file size stops the save at byte k, for ``trials`` values of k from 0 to the last byte."""
    save(folder, 0)
    size = (folder / "last.safetensors").stat().st_size
    intact = named = clean = 0
    for trial in range(trials):
        limit = trial * (size - 1) // (trials - 1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            save(folder, 1)
            message = ""
        except CheckpointError as error:
            message = str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        intact += loaded_generation(folder) == 0
        named += str(folder / "last.safetensors") in message and str(size) in message
        clean += not list(folder.glob(f"*{TMP_SUFFIX}"))
    return {"intact": intact, "named": named, "clean": clean, "message": message, "size": size}


def full(folder: Path, _: int) -> dict[str, object]:
    """On a small disk: refused before writing where there is plainly no room, and stopped cleanly where it runs out."""
    save(folder, 0)
    refused = ran_out = ""
    with open(folder / "filler", "wb") as file:
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        file.write(bytes(free - 1_000_000))
    try:
        save(folder, 1)
    except CheckpointError as error:
        refused = str(error)
    module.check_space = lambda *_: None
    sys.modules["reid_core.files"].check_space = lambda *_: None  # type: ignore[attr-defined]
    try:
        save(folder, 1)
    except CheckpointError as error:
        ran_out = str(error)
    unfinished = len(list(folder.glob(f"*{TMP_SUFFIX}")))
    kept = loaded_generation(folder)
    (folder / "filler").unlink()
    save(folder, 2)
    after = loaded_generation(folder)
    return {"refused": refused, "ran_out": ran_out, "unfinished": unfinished, "kept": kept, "after": after}


def trace(folder: Path, _: int) -> dict[str, object]:
    """Two saves for strace to look at."""
    save(folder, 0, 10)
    save(folder, 1, 10, also="phase_0")
    return {}


if __name__ == "__main__":
    verb = {"kill": kill, "crash": crash, "starve": starve, "full": full, "trace": trace}[sys.argv[1]]
    result = verb(Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    sys.stdout.write(json.dumps(result) + "\n")
