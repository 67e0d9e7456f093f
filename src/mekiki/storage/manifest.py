"""Manifests: size and SHA-256 of every file of a folder.

A folder that is written in one step (a run, its judge, its describer, a tuned text model) has a `manifest.json`, which
is replaced with the folder, so the two cannot disagree. A file that is written by itself carries its own checksum
(`json_files`, `tensors`, `events`). Files are checked as they are read; `mekiki check` reads them all.

A folder without a manifest, of an older mekiki, opens with a warning; `mekiki check --upgrade` adds one.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

from mekiki.errors import DataWarning, InputError
from mekiki.storage.atomic import PARTIAL, replace_folder
from mekiki.storage.json_files import damaged_file, read_checked_json, write_checked_json
from mekiki.storage.lock import hold_lock
from mekiki.storage.run_folder import MANIFEST, MANIFEST_FORMAT

Result = TypeVar("Result")
MAX_ATTEMPTS = 20
"""How often `read_consistently` opens a folder that is replaced meanwhile."""


@dataclass(frozen=True)
class Manifest:
    """What a folder should hold.

    Attributes:
        folder: the folder.
        files: size and SHA-256 by name; `None` for a folder without a manifest.
        fix: what to do where a file is damaged, besides restoring it.
    """

    folder: Path
    files: Mapping[str, tuple[int, str]] | None
    fix: str = "make it again"

    @classmethod
    def of(cls, folder: Path, *, fix: str = "make it again", quiet: bool = False) -> Manifest:
        """Read the manifest of a folder; `quiet` leaves out the warning where there is none.

        Raises:
            InputError: it is damaged, or a newer mekiki wrote it.

        Example:
            >>> import tempfile
            >>> folder = Path(tempfile.mkdtemp())
            >>> _ = (folder / "a.txt").write_text("right")
            >>> write_manifest(folder)
            >>> Manifest.of(folder).read("a.txt")
            b'right'
            >>> _ = (folder / "a.txt").write_text("wrong")
            >>> Manifest.of(folder).read("a.txt")
            Traceback (most recent call last):
                ...
            mekiki.errors.InputError: ...a.txt: is damaged (its checksum is another than when it was written); ...
        """
        path = folder / MANIFEST
        if not path.is_file():
            if not quiet:
                warnings.warn(
                    f"{folder}: has no checksums, as an older mekiki wrote it; `mekiki check {folder} --upgrade` "
                    "adds them",
                    DataWarning,
                    stacklevel=3,
                )
            return cls(folder, None, fix)
        content = read_checked_json(path)
        check_format(
            path, content.get("format"), MANIFEST_FORMAT, written_by=str(content.get("written_by", ""))
        )
        try:
            files = {
                name: (int(file["size"]), str(file["sha256"])) for name, file in content["files"].items()
            }
        except (LookupError, TypeError, ValueError, AttributeError):
            raise damaged_file(path) from None
        return cls(folder, files, fix)

    def read(self, name: str) -> bytes:
        """The checked content of a file.

        Raises:
            InputError: it is damaged, or the manifest does not name it.
            OSError: it does not exist, or cannot be read.
        """
        content = (self.folder / name).read_bytes()
        self._compare(name, len(content), hashlib.sha256(content).hexdigest())
        return content

    def verify(self, prefix: str = "") -> None:
        """Check all files whose names begin with a prefix, for those that a library reads itself.

        Raises:
            InputError: one is damaged or missing.
        """
        for name in self.files or ():
            path = self.folder / name
            if not name.startswith(prefix):
                continue
            if not path.is_file():
                raise damaged_file(path, "it is gone", self.fix)
            self._compare(name, path.stat().st_size, digest_of(path))

    def _compare(self, name: str, size: int, digest: str) -> None:
        if self.files is None:
            return
        if name not in self.files:
            raise damaged_file(self.folder / name, f"{MANIFEST} does not name it", self.fix)
        if self.files[name] != (size, digest):
            raise damaged_file(self.folder / name, fix=self.fix)


def write_manifest(folder: Path, names: Iterable[str] | None = None) -> None:
    """Write the manifest of a folder.

    Args:
        folder: the folder.
        names: of its files; all that are in it and its sub-folders if not given.
    """
    if names is None:
        names = [
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.is_file() and PARTIAL not in path.name and path.name != MANIFEST
        ]
    files = {
        name: {"size": (folder / name).stat().st_size, "sha256": digest_of(folder / name)}
        for name in sorted(names)
    }
    try:
        written_by = f"mekiki {version('mekiki')}"
    except PackageNotFoundError:
        written_by = "mekiki"
    content = {"format": MANIFEST_FORMAT, "written_by": written_by, "files": files}
    write_checked_json(folder / MANIFEST, content)


@contextmanager
def replace_folder_with_manifest(
    path: Path, owner: Path | None = None, purpose: str = "writing"
) -> Iterator[Path]:
    """`mekiki.storage.atomic.replace_folder`, and a manifest of what the block has written.

    Args:
        path: the folder.
        owner: the run that it belongs to, whose lock is held while it takes its place; `None` if the caller holds it.
        purpose: for `hold_lock`.
    """
    with ExitStack() as until_replaced, replace_folder(path) as new:
        yield new
        write_manifest(new)
        if owner is not None:
            until_replaced.enter_context(hold_lock(owner, purpose))


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_consistently(folder: Path, read: Callable[[], Result]) -> Result:
    """What a function returns that reads several files of a folder, all of one state.

    Args:
        folder: one that is replaced in one step.
        read: called again if the folder was replaced meanwhile.
    """
    for _ in range(MAX_ATTEMPTS):
        before = _stamp(folder)
        try:
            result = read()
        except (InputError, OSError):
            if _stamp(folder) == before:
                raise
        else:
            if _stamp(folder) == before:
                return result
    return read()


def _stamp(folder: Path) -> tuple[int, int] | None:
    """Inode and time of change, which differ between two writings of a folder."""
    for path in (folder / MANIFEST, folder):
        try:
            status = path.stat()
        except OSError:
            continue
        return status.st_ino, status.st_mtime_ns
    return None


def check_format(path: Path, found: object, ours: str, *, written_by: str = "", fix: str = "") -> None:
    """Refuse a file of another format than ours.

    Args:
        path: the file.
        found: the format it names, such as `mekiki-run/2`.
        ours: the format that this mekiki reads.
        written_by: the program that wrote the file, if known.
        fix: what to do about an older format.

    Raises:
        InputError: the format is another.

    Example:
        >>> check_format(Path("run/config.json"), "mekiki-run/9", "mekiki-run/1", written_by="mekiki 3.0")
        Traceback (most recent call last):
            ...
        mekiki.errors.InputError: run/config.json: was written by a newer mekiki (mekiki 3.0, format mekiki-run/9), ...
    """
    if found == ours:
        return
    kind, _, number = str(found).partition("/")
    our_kind, _, our_number = ours.partition("/")
    if kind == our_kind and number.isdecimal() and int(number) > int(our_number):
        writer = f"{written_by}, format {found}" if written_by else f"format {found}"
        raise InputError(
            f"{path}: was written by a newer mekiki ({writer}), and this one reads up to {ours}; update mekiki"
        )
    raise InputError(
        f"{path}: is of format {found}, and this mekiki reads {ours}" + (f"; {fix}" if fix else "")
    )
