"""Where heavy work is done: never where calls are answered, and one piece at a time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mekiki.storage.lock import LockedError, acquire_lock, lock_timeout
from mekiki.web.http_errors import BusyError

Result = TypeVar("Result")

MOST_WAITING = 200
"""Pieces of work that may wait; more are turned away, so that nobody waits for minutes."""
PATIENCE = 2.0
"""Seconds that a change waits for another process to finish its own."""


class Worker:
    """One thread that is kept, for torch prepares its layers for each thread anew.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._threads = ThreadPoolExecutor(1, f"mekiki-{name}")
        self._waiting = 0

    async def do(self, what: Callable[..., Result], *given: Any, **named: Any) -> Result:
        """Do it there, and give what comes of it.

        Raises:
            BusyError: too much waits already.
        """
        if self._waiting >= MOST_WAITING:
            raise BusyError(f"{self._waiting} calls are waiting already; send fewer at a time")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, partial(what, *given, **named))
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Finish what is being done, and nothing more."""
        self._threads.shutdown(wait=True, cancel_futures=True)


class WriterLock:
    """Who may change a folder: one process at a time. The system frees it when a process dies.

    Args:
        folder: what is changed; the lock lies beside it, for a run folder may be replaced as a whole. It is another
            than that of `mekiki.storage.lock`, which what is called here takes for itself, and trainings in their own
            process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.realpath(folder))
        self._release: Callable[[], None] | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it for a block; another process is waited for, and no longer where it has one of the finer locks.

        Raises:
            BusyError: it still holds it after `PATIENCE`.
            LockedError: it holds one that the block wants.
        """
        self.take(PATIENCE)
        try:
            with lock_timeout(PATIENCE):
                yield
        finally:
            self.give_back()

    def take(self, patience: float = 0.0) -> None:
        """Take it; see `held`."""
        try:
            self._release = acquire_lock(self.folder, "serving", timeout=patience, role="page.lock")
        except LockedError:
            raise BusyError(f"{self.folder.name}: another process is writing there; try again") from None

    def give_back(self) -> None:
        """Release it, in any thread: a training ends in another than it began in."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def taken(self) -> bool:
        """Whether a process holds it."""
        if self._release is not None:
            return True
        try:
            acquire_lock(self.folder, timeout=0, role="page.lock")()
        except LockedError:
            return True
        return False
