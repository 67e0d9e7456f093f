"""One at a time: a lock on a file or folder that two processes might change at once.

The lock is a file beside what it guards, held by the system (`flock`, on Windows `msvcrt.locking`), so that it goes
when its process dies, however that happens. In the file stands who holds it, for the message to the other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mekiki.errors import InputError

PATIENCE = 30.0
"""Seconds that one writer waits for another, unless it is told otherwise."""
_PAUSE = 0.02
_PLACE = 1 << 30
"""Where Windows locks a byte: beyond the text, which others may then read."""
_mine = threading.local()


class LockedError(InputError):
    """Another process is at work there."""


@contextmanager
def lock_timeout(seconds: float) -> Iterator[None]:
    """Within the block, locks that this thread takes wait so long where nothing else is said.

    Args:
        seconds: to wait for another process.
    """
    before = getattr(_mine, "patience", PATIENCE)
    _mine.patience = seconds
    try:
        yield
    finally:
        _mine.patience = before


@contextmanager
def hold_lock(
    path: Path, purpose: str = "writing", *, patience: float | None = None, role: str = "lock"
) -> Iterator[None]:
    """Hold the lock of a file or folder, which need not exist, for the block; within a thread it may be held twice.

    Args:
        path: what is guarded.
        purpose: what is done meanwhile, as "is writing" would have it; told to whoever comes second.
        patience: seconds to wait for another, if other than usual (`lock_timeout`); 0 does not wait.
        role: one path may have several locks, by name.

    Raises:
        LockedError: another process holds it, and still does when patience ends.
        OSError: no lock can be made there.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with hold_lock(folder / "run"), hold_lock(folder / "run"):
        ...     [entry.name for entry in folder.iterdir()]
        ['.run.lock']
        >>> list(folder.iterdir())
        []
    """
    whole = Path(os.path.abspath(path))  # noqa: PTH100 (a link stays a link)
    name = (os.getpid(), whole, role)  # a process forked off this one holds nothing
    held: set[tuple[int, Path, str]] = _mine.__dict__.setdefault("held", set())
    if name in held:
        yield
        return
    missing = [above for above in whole.parents if not above.is_dir()]
    whole.parent.mkdir(parents=True, exist_ok=True)
    if patience is None:
        patience = getattr(_mine, "patience", PATIENCE)
    handle, place = _acquired(whole, path, purpose, patience, role)
    held.add(name)
    try:
        yield
    finally:
        held.discard(name)
        # Away while it is still held: who waits finds another file under the name, or none, and tries again.
        with contextlib.suppress(OSError):
            place.unlink()
            for above in missing:  # if nothing came of it
                above.rmdir()
        os.close(handle)


def _acquired(whole: Path, path: Path, purpose: str, patience: float, role: str) -> tuple[int, Path]:
    deadline = time.monotonic() + patience
    while True:
        handle, place = _opened(whole, role)
        if _try(handle):
            if _is(handle, place):
                with contextlib.suppress(OSError):  # on a full disk nobody is told who it is
                    os.ftruncate(handle, 0)
                    os.write(handle, f"{os.getpid()} is {purpose}".encode())
                return handle, place
        elif time.monotonic() >= deadline:
            said = os.pread(handle, 200, 0).decode("utf-8", "replace") if hasattr(os, "pread") else ""
            os.close(handle)
            raise LockedError(
                f"{path}: another process ({said or 'it'}) is at work there; try again when it is done"
            )
        else:
            time.sleep(_PAUSE)
        os.close(handle)


def _opened(whole: Path, role: str) -> tuple[int, Path]:
    """The file of the lock: beside what it guards, or, where nothing may be made there, inside."""
    place = whole.with_name(f".{whole.name}.{role}")
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
    try:
        return os.open(place, flags, 0o666), place
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM) or not whole.is_dir():
            raise
    place = whole / f".{role}"
    return os.open(place, flags, 0o666), place


def _is(handle: int, place: Path) -> bool:
    """Whether the file that is locked is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle), place.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _try(handle: int) -> bool:
        os.lseek(handle, _PLACE, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
            # A file system without locks: the two are not told of each other.
        return True
