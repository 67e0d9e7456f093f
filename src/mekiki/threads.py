"""Number of computing threads, adapted to the processors that other programs leave free.

OpenMP's threads wait for each other by spinning. With more of them than processors, a training spins through its time
slice waiting for a thread that is not running: on two cores, two trainings become four times slower each. Sleeping
instead (`OMP_WAIT_POLICY=PASSIVE`) costs a training that is alone more than its second thread brings.
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

MEASURE_INTERVAL_S = 0.5
"""The kernel counts time in hundredths of a second."""
MAX_AGE_S = 5.0
"""Age from which an earlier measurement is not used."""
USER_TIMES = slice(1, 4)
"""Fields of a line of /proc/stat: user, nice, system."""

_STAT = Path("/proc/stat")

Result = TypeVar("Result")
_Times = tuple[float, float, float]
_last: _Times | None = None


@contextmanager
def adaptive_threads() -> Iterator[Callable[[], None]]:
    """Give a function that sets torch's threads to the number of free processors; call it every now and then.

    The number is at most what it was before the block, and is reset after it. It does not change if
    `OMP_NUM_THREADS` is set, or on systems other than Linux.

    Example:
        >>> with adaptive_threads() as adapt_threads:
        ...     adapt_threads()
        >>> free_processors(2, busy=1.9, own=1.0)
        1
    """
    most = torch.get_num_threads()
    if most == 1 or "OMP_NUM_THREADS" in os.environ or _measure() is None:
        yield lambda: None
        return
    processors = len(os.sched_getaffinity(0))

    def adapt_threads() -> None:
        global _last
        if _last is not None and time.perf_counter() - _last[0] < MEASURE_INTERVAL_S:
            return
        before, now = _last, _measure()
        _last = now
        if before is None or now is None or now[0] - before[0] > MAX_AGE_S:
            return
        clock, busy, own = (after - earlier for earlier, after in zip(before, now, strict=True))
        _set_threads(min(most, free_processors(processors, busy=busy / clock, own=own / clock)))

    try:
        adapt_threads()
        yield adapt_threads
    finally:
        _set_threads(most)


def _set_threads(number: int) -> None:
    if (
        number != torch.get_num_threads()
    ):  # any call, even with the same number, makes oneDNN prepare layers again
        torch.set_num_threads(number)


def run_parallel(work: Sequence[Callable[[], Result]]) -> list[Result]:
    """Call functions in parallel, each with a single computing thread; their results in order.

    For small work, such as one photo through a small network: there OpenMP's threads wait for each other longer than
    they compute. As many functions run at once as torch has threads; the results do not depend on that number.

    Example:
        >>> run_parallel([lambda: torch.get_num_threads(), lambda: 7])
        [1, 7]
    """
    # Not by setting the number of threads here and back, because of what `_set_threads` says.
    return list(_workers(torch.get_num_threads()).map(lambda function: function(), work))


@cache
def _workers(number: int) -> ThreadPoolExecutor:
    """A pool that is kept: preparing the layers takes a new thread as long as the work itself."""
    # Set in each thread, because libraries below torch ask OpenMP, which has a number for each thread.
    return ThreadPoolExecutor(number, "mekiki-work", initializer=torch.set_num_threads, initargs=(1,))


if hasattr(os, "register_at_fork"):  # a forked process has none of its parent's threads
    os.register_at_fork(after_in_child=_workers.cache_clear)


def free_processors(processors: int, *, busy: float, own: float) -> int:
    """Number of processors that other programs leave free, at least one.

    Args:
        processors: those that this process may use.
        busy: seconds of work in a second on them, by all processes.
        own: seconds of work in a second of this process.
    """
    return max(1, round(processors - max(0.0, busy - own)))


def _measure() -> _Times | None:
    """The clock, and seconds of work so far: of the processors, and of this process; `None` if unknown."""
    try:
        lines = _STAT.read_text(encoding="ascii").splitlines()
        ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        ticks = os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return None
    fields = (line.split() for line in lines if line.startswith("cpu"))
    busy = sum(sum(map(int, parts[USER_TIMES])) for parts in fields if parts[0] in ours) / ticks
    return time.perf_counter(), busy, time.process_time()
