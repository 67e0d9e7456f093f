"""As many computing threads as there are processors to spare, looked at again and again while work goes on.

OpenMP's threads wait for each other by spinning. With more of them than processors, one of two trainings side by side
spins through its time slice waiting for a thread that is not running: on two cores each becomes four times slower.
Sleeping instead of spinning (`OMP_WAIT_POLICY=PASSIVE`) costs a training that is alone more than its second thread
brings. So the number of threads follows what other programs leave: alone all of them, side by side fewer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch

LOOK_EVERY = 0.5
"""Seconds between two looks; the kernel counts in hundredths."""
STALE = 5.0
"""Seconds after which an earlier look says nothing about now."""
USER_TIMES = slice(1, 4)
"""Of a line of /proc/stat: user, nice, system."""

_STAT = Path("/proc/stat")

Result = TypeVar("Result")
_Look = tuple[float, float, float]
_last: _Look | None = None


@contextmanager
def adaptive_threads() -> Iterator[Callable[[], None]]:
    """Gives a function to call every now and then: it sets torch's threads to the processors that others leave free.

    At most as many as torch had on entry, and that number is put back on leaving. Where the number is set by
    `OMP_NUM_THREADS`, or the system does not tell what its processors do (it is not Linux), nothing is changed.

    Example:
        >>> with adaptive_threads() as consider:
        ...     consider()
        >>> free_processors(2, busy=1.9, own=1.0)
        1
    """
    most = torch.get_num_threads()
    if most == 1 or "OMP_NUM_THREADS" in os.environ or _read_look() is None:
        yield lambda: None
        return
    processors = len(os.sched_getaffinity(0))

    def consider() -> None:
        global _last
        if _last is not None and time.perf_counter() - _last[0] < LOOK_EVERY:
            return
        then, now = _last, _read_look()
        _last = now
        if then is None or now is None or now[0] - then[0] > STALE:
            return
        passed = now[0] - then[0]
        free = free_processors(processors, busy=(now[1] - then[1]) / passed, own=(now[2] - then[2]) / passed)
        wanted = min(most, free)
        if wanted != torch.get_num_threads():
            torch.set_num_threads(wanted)

    try:
        consider()
        yield consider
    finally:
        if (
            torch.get_num_threads() != most
        ):  # setting it, even to what it is, makes oneDNN prepare layers anew
            torch.set_num_threads(most)


def run_parallel(work: Sequence[Callable[[], Result]]) -> list[Result]:
    """Do pieces of work at once, each with a single computing thread; their results in order.

    For small pieces, such as one photograph through a small network: there OpenMP's threads wait for each other longer
    than they compute. Results do not depend on how many threads there are, for every piece has one. As many pieces run
    at once as torch has threads (`OMP_NUM_THREADS`).

    Example:
        >>> run_parallel([lambda: torch.get_num_threads(), lambda: 7])
        [1, 7]
    """
    # Never by setting the number here and back: each change throws away what oneDNN has prepared for the layers.
    return list(_workers(torch.get_num_threads()).map(lambda each: each(), work))


@cache
def _workers(number: int) -> ThreadPoolExecutor:
    """Threads that are kept: a new one has to prepare the layers for itself, which takes as long as they do."""
    # Told in each thread, for libraries below torch ask OpenMP, whose number is a thread's own.
    return ThreadPoolExecutor(number, "mekiki-work", initializer=torch.set_num_threads, initargs=(1,))


if hasattr(os, "register_at_fork"):  # a forked process has none of its parent's threads
    os.register_at_fork(after_in_child=_workers.cache_clear)


def free_processors(processors: int, *, busy: float, own: float) -> int:
    """How many processors other programs leave, at least one.

    Args:
        processors: those this process may use.
        busy: seconds of work a second on them, by all.
        own: seconds of work a second of this process.
    """
    return max(1, round(processors - max(0.0, busy - own)))


def _read_look() -> _Look | None:
    """Clock, seconds that the processors of this process have worked, seconds that this process has."""
    try:
        lines = _STAT.read_text(encoding="ascii").splitlines()
        ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        ticks = os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return None
    fields = (line.split() for line in lines if line.startswith("cpu"))
    busy = sum(sum(map(int, parts[USER_TIMES])) for parts in fields if parts[0] in ours) / ticks
    return time.perf_counter(), busy, time.process_time()
