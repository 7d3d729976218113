"""Ctrl-C and SIGTERM as a request to stop at the next step; the second one ends the process at once.

Python runs signal handlers between two byte codes of the main thread: a handler has to wait while one call into native
code lasts (a backward pass on a processor takes seconds), and two signals in that time become one. So the handlers
here do nothing, and a small thread reads what the C level writes for every signal at the moment it comes. The second
signal ends the process with ``os._exit``: no clean-up, no exit handlers, exit code 130 or 143. Nothing is lost by
that: what a save was writing is removed by the next start, and so is the lock of the run.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_ECHO = 0.1
"""Seconds. ``timeout``, ``make`` and others pass on what the terminal has sent to everybody: that is one request."""


class StopRequest:
    """``requested`` is the number of the first signal (2 or 15), None before."""

    def __init__(self) -> None:
        self.requested: int | None = None

    @property
    def exit_code(self) -> int:
        """130 or 143; 0 if nothing was requested."""
        return 0 if self.requested is None else 128 + self.requested


@contextmanager
def stop_requests(on_request: Callable[[int], None] | None = None) -> Iterator[StopRequest]:
    """Within this context the first SIGINT or SIGTERM only sets ``requested``; the second ends the process.

    The former handlers come back on leaving. Outside the main thread nothing is changed and nothing is ever requested.
    Processes forked meanwhile (workers of a data loader) ignore Ctrl-C, which a terminal sends to them too, so that the
    step under way gets its batch, and end on SIGTERM; spawned ones need ``ignore_interrupts`` as ``worker_init_fn``.

    Args:
        on_request: called once with the signal's number, from another thread, as soon as it comes: to tell the person
            that the run will stop and be saved after this step, and that a second signal stops it at once.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    active = True

    def leave_child() -> None:  # a worker's signals must not look like ours, and it must die when it is told to
        if active:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=leave_child)
    watcher = threading.Thread(target=_watch, args=(reader, request, on_request), name="stop requests", daemon=True)
    watcher.start()
    former_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    former = {number: signal.signal(number, _nothing) for number in SIGNALS}
    try:
        yield request
    finally:
        active = False
        for number, handler in former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(former_fd)
        writer.shutdown(socket.SHUT_RDWR)  # closing would not do while a forked worker has it open too
        watcher.join()
        writer.close()
        reader.close()


def ignore_interrupts(worker: int = 0) -> None:
    """For the workers of a data loader: Ctrl-C goes to every process of a terminal, but only the main one decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Python must have a handler of its own for the C level to report the signal; it must not interrupt anything."""


def _watch(reader: socket.socket, request: StopRequest, on_request: Callable[[int], None] | None) -> None:
    first = 0.0
    while numbers := reader.recv(1):
        number = numbers[0]
        if number not in SIGNALS:
            continue
        if request.requested is None:
            first = time.monotonic()
            request.requested = number
            if on_request is not None:  # in a thread of its own: nothing it does may hold up the second signal
                threading.Thread(target=on_request, args=(number,), daemon=True).start()
        elif time.monotonic() - first > _ECHO:
            os._exit(128 + number)
