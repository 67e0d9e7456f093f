"""Atomic writes of files and folders: a crash leaves the old state or the new one, never a mixture."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mekiki.errors import InputError
from mekiki.storage.lock import hold_lock

PARTIAL = ".partial"
"""Part of the name of every file whose writing is not finished."""


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; at the end of the block it takes `path`'s place in one step.

    If the block raises, `path` keeps its content and the temporary file is removed.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "metrics.json"
        >>> with replace_file(target) as temporary:
        ...     _ = temporary.write_text("{}")
        >>> target.read_text()
        '{}'
    """
    # The suffix stays, because savers such as matplotlib and NumPy choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{PARTIAL}{path.suffix}")
    with name_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _flush(temporary)
            temporary.replace(path)
        finally:
            with contextlib.suppress(
                OSError
            ):  # the disk became read-only: the first error is the one to report
                temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file in one step (see `replace_file`)."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path`; at the end of the block it takes `path`'s place.

    No system call replaces a folder everywhere, so it takes two renames. A crash between them leaves two complete
    folders under hidden names, and `recover_folder` finishes the work at the next opening.
    """
    given, path = path, _absolute(path)
    partial, new, old = (path.with_name(f".{path.name}.{role}") for role in ("partial", "new", "old"))
    with name_disk_errors(given):
        path.parent.mkdir(parents=True, exist_ok=True)
        recover_folder(path)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            for file in sorted(partial.rglob("*")):
                if file.is_file():
                    _flush(file)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        # Without the lock, a reader that comes between the renames would take them for those of a crash.
        with hold_lock(path):
            partial.rename(new)  # a folder called `new` is complete
            _finish_replacement(path, new, old)


def recover_folder(path: Path) -> None:
    """Finish a `replace_folder` that a crash cut short: afterwards `path` is the old state or the new one."""
    path = _absolute(path)
    new, old = (path.with_name(f".{path.name}.{role}") for role in ("new", "old"))
    if not new.exists() and not old.exists():  # nearly always, and then there is no need to wait for the lock
        return
    try:
        with hold_lock(path):
            _finish_replacement(path, new, old)
    except PermissionError:
        if not path.exists():
            raise


def _finish_replacement(path: Path, new: Path, old: Path) -> None:
    if new.exists():
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        new.rename(path)
    elif old.exists() and not path.exists():
        old.rename(path)
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)


def _absolute(path: Path) -> Path:
    """The same folder by a path that ends in its name, unlike `.` and `..`."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 (a link stays a link, which resolve() would follow)
    if not absolute.name:
        raise InputError(f"{path}: is the root of a disk; give a folder in it")
    return absolute


def _flush(path: Path) -> None:
    """Have the disk hold the file before it is renamed: a rename may otherwise survive a crash without the content."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def name_disk_errors(path: Path) -> Iterator[None]:
    """Turn an error of the disk in the block, however a library raises it, into an `OSError` that names `path`.

    Example:
        >>> with name_disk_errors(Path("run/model")):
        ...     raise RuntimeError("I/O error: No space left on device (os error 28)")
        Traceback (most recent call last):
            ...
        OSError: [Errno 28] No space left on device: 'run/model'
    """
    try:
        yield
    except shutil.Error as error:  # of a copy: a list of (from, to, reason)
        reason = str(error.args[0][0][2]) if error.args and error.args[0] else str(error)
        match = re.search(r"\[Errno (\d+)\]", reason)
        number = int(match[1]) if match else errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from None
    except OSError as error:
        if error.errno is None or (
            error.filename not in (None, str(path)) and PARTIAL not in str(error.filename)
        ):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    except Exception as error:  # libraries written in Rust have errors of their own
        match = re.search(r"\(os error (\d+)\)", str(error))
        if match is None:
            raise
        raise OSError(int(match[1]), os.strerror(int(match[1])), str(path)) from None


def disk_error(error: OSError) -> str:
    """The message for an error of the disk, in one line: what, where and what to do.

    Example:
        >>> disk_error(OSError(errno.ENOSPC, "No space left on device", "run/judge"))
        'run/judge: No space left on device; what was there is as it was: make room and try again'
    """
    message = f"{error.filename or 'files'}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", None)):
        return f"{message}; what was there is as it was: make room and try again"
    if error.errno == errno.EROFS:
        return f"{message}; what was there is as it was: give a place that can be written"
    return message
