"""Writing so that a crash leaves the old state or the new one, never half; and where the cache is."""

from __future__ import annotations

import contextlib
import errno
import getpass
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mekiki.errors import InputError
from mekiki.storage.lock import hold_lock

PARTIAL = ".partial"
"""In the name of every file that is not whole yet."""


def cache_folder() -> Path:
    """Where downloads and decoded pixels are kept: `MEKIKI_CACHE`, else the platform's own cache folder."""
    chosen = os.environ.get("MEKIKI_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "mekiki"


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it takes `path`'s place in one step.

    If the block raises, `path` keeps what it held and the temporary file is removed.

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
            ):  # on a disk that became read-only it stays; the first error tells
                temporary.unlink(missing_ok=True)


@contextmanager
def name_disk_errors(path: Path) -> Iterator[None]:
    """An error of the disk in the block, however a library raises it, becomes an `OSError` that names `path`.

    Example:
        >>> with name_disk_errors(Path("run/model")):
        ...     raise RuntimeError("I/O error: No space left on device (os error 28)")
        Traceback (most recent call last):
            ...
        OSError: [Errno 28] No space left on device: 'run/model'
    """
    try:
        yield
    except shutil.Error as error:  # of a copy: a list of (from, to, why)
        why = str(error.args[0][0][2]) if error.args and error.args[0] else str(error)
        number = re.search(r"\[Errno (\d+)\]", why)
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from None
    except OSError as error:
        if error.errno is None or (
            error.filename not in (None, str(path)) and PARTIAL not in str(error.filename)
        ):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    except Exception as error:  # what is written in Rust has errors of its own
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def disk_error(error: OSError) -> str:
    """What an error of the disk comes to, in one line: what, where, and what to do.

    Example:
        >>> disk_error(OSError(errno.ENOSPC, "No space left on device", "run/judge"))
        'run/judge: No space left on device; what was there is as it was: make room and try again'
    """
    said = f"{error.filename or 'files'}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", None)):
        return f"{said}; what was there is as it was: make room and try again"
    if error.errno == errno.EROFS:
        return f"{said}; what was there is as it was: give a place that can be written"
    return said


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file in one step (see `replace_file`)."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def read_text(path: Path, wanted: str = "a .csv file") -> str:
    r"""A text file that people wrote: UTF-8, or CP932, the Shift-JIS that Excel writes in Japan.

    Args:
        path: the file.
        wanted: what to give, if there is no such file.

    Raises:
        InputError: it cannot be read, or is neither.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "notes.csv"
        >>> _ = path.write_bytes("note\n油漏れ\n".encode("cp932"))
        >>> read_text(path).split()
        ['note', '油漏れ']
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give {wanted}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    # In this order: CP932 takes most of what is UTF-8 for other characters.
    for encoding in ("utf-8-sig", "cp932"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        # Python's names for bytes that CP932 has not.
        if not any("\uf8f0" <= letter <= "\uf8f3" for letter in text):
            return text
    raise InputError(f"{path}: is neither UTF-8 nor Shift-JIS; save it as .csv in UTF-8")


def user() -> str:
    """Who is at work, for a log."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user in the system's list
        return "unknown"


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path`; when the block ends well it takes `path`'s place.

    A folder that exists cannot be replaced in one system call everywhere, so it takes two renames. A crash between
    them leaves two complete folders under hidden names, and `recover_folder` finishes the work at the next opening.
    """
    given, path = path, _named(path)
    partial, new, old = _beside(path, "partial"), _beside(path, "new"), _beside(path, "old")
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
        # A reader that comes between the renames would take them for those of a crash and finish them.
        with hold_lock(path):
            partial.rename(new)  # from here on `new` is known to be whole
            if path.exists():
                path.rename(old)
            new.rename(path)
            shutil.rmtree(old, ignore_errors=True)


def recover_folder(path: Path) -> None:
    """Finish a `replace_folder` that a crash cut short: afterwards `path` is the old state or the new one."""
    path = _named(path)
    new, old = _beside(path, "new"), _beside(path, "old")
    if not new.exists() and not old.exists():  # as nearly always, and then there is nothing to wait for
        return
    try:
        with hold_lock(path):
            _settle(path, new, old)
    except PermissionError:
        if not path.exists():
            raise


def _settle(path: Path, new: Path, old: Path) -> None:
    if new.exists():
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        new.rename(path)
    elif old.exists() and not path.exists():
        old.rename(path)
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)


def _named(path: Path) -> Path:
    """The same folder with a name of its own, which `.` and `..` have not."""
    named = Path(os.path.abspath(path))  # noqa: PTH100 (a link stays a link, which resolve() would follow)
    if not named.name:
        raise InputError(f"{path}: is the root of a disk; give a folder in it")
    return named


def _beside(path: Path, role: str) -> Path:
    return path.with_name(f".{path.name}.{role}")


def _flush(path: Path) -> None:
    """Ask the disk to hold the file before it is renamed: a rename may otherwise survive what it points to."""
    with path.open("rb+") as handle:
        os.fsync(handle.fileno())
