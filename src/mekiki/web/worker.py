"""Single-thread worker: keeps model calls and file reads off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from mekiki.errors import BusyError

Result = TypeVar("Result")

MAX_WAITING = 200
"""Calls that may wait; further ones are refused, so that no caller waits for minutes."""


class Worker:
    """One thread that lives as long as the server, since torch prepares its layers once per thread.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, f"mekiki-{name}")
        self._waiting = 0

    async def run(self, function: Callable[..., Result], *args: Any, **options: Any) -> Result:
        """Call a function in the thread and return its result.

        Raises:
            BusyError: `MAX_WAITING` calls are waiting already.
        """
        if self._waiting >= MAX_WAITING:
            raise BusyError(f"{self._waiting} calls are waiting already; send fewer at a time")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, partial(function, *args, **options))
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Finish the call that is running and drop the others."""
        self._executor.shutdown(wait=True, cancel_futures=True)
