"""The first signal asks, the second ends at once, and nobody else's signal counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reid_core.engine.signals import ignore_interrupts, stop_requests

ROOT = Path(__file__).parents[2]
GUARD = 40.0  # seconds: 20 times the 2 that are promised

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


@contextmanager
def child(verb: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("child_signals.py")), verb],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_lets_it_save(number: int) -> None:
    with child("steps") as process:
        assert line(process) == "ready"
        process.send_signal(number)
        assert {line(process) for _ in range(3)} == {f"asked {int(number)}", "saving", "saved"}
        assert process.wait(GUARD) == 128 + number


@pytest.mark.parametrize("verb", ["steps", "native"])
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_it_at_once(verb: str, first: int, second: int) -> None:
    with child(verb) as process:
        assert line(process) == "ready"
        process.send_signal(first)
        heard = line(process)
        assert heard in (f"asked {int(first)}", "saving")
        time.sleep(0.15)
        process.send_signal(second)
        assert process.wait(GUARD) == 128 + second
        assert process.stdout is not None
        assert "saved" not in process.stdout.read()


def test_an_echo_of_the_first_signal_is_not_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """``timeout`` and ``make`` pass on to us what the terminal has already sent to us."""
    with child("steps") as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(GUARD) in (130, 143)
        assert process.stdout is not None
        assert "saved" in process.stdout.read()


def test_a_forked_worker_keeps_out_of_it() -> None:
    with child("worker") as process:
        assert line(process) == "alive None"
        assert line(process) == str(-signal.SIGTERM)
        assert process.wait(GUARD) == 0


def test_leaving_does_not_wait_for_workers() -> None:
    with child("left_open") as process:
        assert line(process) == "left"
        assert process.wait(GUARD) == 0


def test_former_handlers_come_back() -> None:
    seen: list[int] = []
    former = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    interrupt = signal.getsignal(signal.SIGINT)  # Python's own, or ignored where the tests run in the background
    try:
        with stop_requests() as stop:
            assert stop.exit_code == 0 and signal.getsignal(signal.SIGINT) is not interrupt
            os.kill(os.getpid(), signal.SIGTERM)
            deadline = time.monotonic() + GUARD
            while stop.requested is None and time.monotonic() < deadline:
                time.sleep(0.001)
            assert (stop.requested, stop.exit_code, seen) == (15, 143, [])
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + GUARD
        while not seen and time.monotonic() < deadline:  # another thread may be the one that is told
            time.sleep(0.001)
        assert seen == [15]
        assert signal.getsignal(signal.SIGINT) is interrupt
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.signal(signal.SIGTERM, former)


def test_a_failing_callback_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    with stop_requests(lambda number: [][number]) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + GUARD
        while stop.requested is None and time.monotonic() < deadline:
            time.sleep(0.001)
        assert stop.requested == 15


def test_outside_the_main_thread_nothing_is_touched() -> None:
    found: list[object] = []

    def work() -> None:
        with stop_requests() as stop:
            found.append((stop.requested, signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(None, before)]


def test_spawned_workers_ignore_the_terminal() -> None:
    former = signal.getsignal(signal.SIGINT)
    try:
        ignore_interrupts(3)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, former)
