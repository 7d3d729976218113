"""Run by the signal tests without torch: says what it is doing on stdout and waits for signals."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time

from reid_core.engine.signals import stop_requests


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def steps() -> int:
    """A training in small: stops at the next step and saves."""
    with stop_requests(lambda number: say(f"asked {number}")) as stop:
        say("ready")
        while stop.requested is None:
            time.sleep(0.01)
        say("saving")
        time.sleep(0.3)
        say("saved")
    return stop.exit_code


def native() -> int:
    """One call into native code that takes minutes: Python's own handlers would have to wait for it."""
    with stop_requests(lambda number: say(f"asked {number}")):
        say("ready")
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 10**9)
    return 1


def worker() -> int:
    """A forked child shares the terminal: its Ctrl-C must neither end it nor count as the parent's second."""
    with stop_requests() as stop:
        told_out, told_in = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(told_out)
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.15)
            os.write(told_in, b"alive")
            time.sleep(60)
            os._exit(3)
        os.close(told_in)
        heard = os.read(told_out, 9)
        say(f"{heard.decode()} {stop.requested}")
        os.kill(pid, signal.SIGTERM)
        say(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
    return 0


def left_open() -> int:
    """The context ends at once although a forked child still has its sockets."""
    with stop_requests():
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(3)
    say("left")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 0


if __name__ == "__main__":
    sys.exit({"steps": steps, "native": native, "worker": worker, "left_open": left_open}[sys.argv[1]]())
