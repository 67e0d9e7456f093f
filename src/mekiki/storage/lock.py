"""Locks: one process at a time changes a file or folder.

A lock is a file beside what it guards. The operating system holds it (library `filelock`), so it is released when its
process ends, however that happens. The file says who holds it, for the error message of the others.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mekiki.errors import InputError

LOCK_TIMEOUT_S = 30.0
_POLL_INTERVAL_S = 0.02
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
_this_thread = threading.local()


class LockedError(InputError):
    """Another process holds the lock."""


@contextmanager
def lock_timeout(seconds: float) -> Iterator[None]:
    """Set how long this thread waits for the locks that it takes within the block.

    Args:
        seconds: to wait for another process.
    """
    before = getattr(_this_thread, "timeout", LOCK_TIMEOUT_S)
    _this_thread.timeout = seconds
    try:
        yield
    finally:
        _this_thread.timeout = before


@contextmanager
def hold_lock(
    path: Path, purpose: str = "writing", *, timeout: float | None = None, role: str = "lock"
) -> Iterator[None]:
    """Hold the lock of a file or folder, which need not exist, for the block; a thread may take it repeatedly.

    Args:
        path: what is guarded.
        purpose: what the block does, as in "is writing"; shown to the others.
        timeout: seconds to wait for another process, 30 or what `lock_timeout` says if not given; 0 does not wait.
        role: name of the lock: one path may have several.

    Raises:
        LockedError: another process still holds it after the timeout.
        OSError: the lock file cannot be made.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with hold_lock(folder / "run"), hold_lock(folder / "run"):
        ...     [entry.name for entry in folder.iterdir()]
        ['.run.lock']
        >>> list(folder.iterdir())
        []
    """
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 (a link stays a link)
    key = (os.getpid(), absolute, role)  # a forked process does not hold its parent's locks
    held: set[tuple[int, Path, str]] = _this_thread.__dict__.setdefault("held", set())
    if key in held:
        yield
        return
    if timeout is None:
        timeout = getattr(_this_thread, "timeout", LOCK_TIMEOUT_S)
    missing = [parent for parent in absolute.parents if not parent.is_dir()]
    absolute.parent.mkdir(parents=True, exist_ok=True)
    lock_file = absolute.with_name(f".{absolute.name}.{role}")
    try:
        lock = _acquire(lock_file, path, purpose, timeout)
    except PermissionError:  # the folder above cannot be written, the one that is guarded perhaps can
        if not absolute.is_dir():
            raise
        lock_file = absolute / f".{role}"
        lock = _acquire(lock_file, path, purpose, timeout)
    held.add(key)
    try:
        yield
    finally:
        held.discard(key)
        # Removed while it is held: a process that waits for it sees that, and opens the next one.
        with contextlib.suppress(OSError):
            lock_file.unlink()
            for parent in missing:  # if the block left them empty
                parent.rmdir()
        if lock is not None:
            lock.release()


def _acquire(lock_file: Path, path: Path, purpose: str, timeout: float) -> FileLock | None:
    """The lock, acquired; `None` on a file system that has no locks."""

    def write_holder(descriptor: int) -> None:
        with contextlib.suppress(OSError):  # a full disk
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()} is {purpose}".encode())

    lock = FileLock(lock_file, on_acquired=write_holder)
    try:
        lock.acquire(timeout=timeout, poll_interval=_POLL_INTERVAL_S)
    except Timeout:
        holder = ""
        with contextlib.suppress(OSError):
            holder = lock_file.read_text(encoding="utf-8", errors="replace")[:200]
        raise LockedError(
            f"{path}: another process ({holder or 'it'}) is at work there; try again when it is done"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return lock
