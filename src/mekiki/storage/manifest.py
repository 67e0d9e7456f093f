"""Checksums: what a folder holds is what was written there, or the file that is not is named.

A folder that is written in one step (a run, its judge, its describer, a tuned text model) has a `manifest.json` in it:
its format, and the size and SHA-256 of every file. It comes and goes with the folder, so the two cannot disagree. A
file that is written by itself has its checksum inside: JSON as a last key, safetensors in their metadata. Files are
checked as they are read; `check_folder` reads them all.

Folders written before there were manifests are of version 0: they open with a note, and `upgrade` gives them one.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from mekiki.errors import DataWarning, InputError
from mekiki.storage.atomic import PARTIAL, replace_file, replace_folder, write_text
from mekiki.storage.lock import hold_lock
from mekiki.storage.run_folder import MANIFEST, MANIFEST_FORMAT

SEAL = "sha256"
"""Key of the checksum in files that carry their own."""
T = TypeVar("T")
ATTEMPTS = 20
"""How often a folder is opened again that was replaced meanwhile."""


@dataclass(frozen=True)
class Manifest:
    """What a folder should hold.

    Attributes:
        folder: where it is.
        files: size and SHA-256 by name; `None` for a folder of version 0, of which nothing is known.
        mend: what to do where it holds something else.
    """

    folder: Path
    files: Mapping[str, tuple[int, str]] | None
    mend: str = "make it anew"

    @classmethod
    def of(cls, folder: Path, *, mend: str = "make it anew", quiet: bool = False) -> Manifest:
        """The manifest of a folder.

        Args:
            folder: the folder.
            mend: what to do where a file is damaged, besides restoring it.
            quiet: say nothing where there is none.

        Raises:
            InputError: it is damaged, or a newer mekiki wrote it.

        Example:
            >>> import tempfile
            >>> folder = Path(tempfile.mkdtemp())
            >>> _ = (folder / "a.txt").write_text("what was learnt")
            >>> write_manifest(folder)
            >>> Manifest.of(folder).read("a.txt")
            b'what was learnt'
            >>> _ = (folder / "a.txt").write_text("what was burnt ")
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
            return cls(folder, None, mend)
        facts = read_checked_json(path)
        check_format(path, facts.get("format"), MANIFEST_FORMAT, str(facts.get("written_by", "")))
        try:
            files = {name: (int(each["size"]), str(each["sha256"])) for name, each in facts["files"].items()}
        except (LookupError, TypeError, ValueError, AttributeError):
            raise _damaged(path) from None
        return cls(folder, files, mend)

    def read(self, name: str) -> bytes:
        """The content of a file, checked.

        Raises:
            InputError: it is damaged, or is none of the folder's.
            OSError: it is not there, or cannot be read.
        """
        path = self.folder / name
        content = path.read_bytes()
        self._compare(path, name, len(content), hashlib.sha256(content).hexdigest())
        return content

    def verify(self, under: str = "") -> None:
        """Check all files whose names begin so, for those that others will read.

        Raises:
            InputError: one is damaged or missing.
        """
        for name in self.files or ():
            if name.startswith(under):
                path = self.folder / name
                if not path.is_file():
                    raise InputError(
                        f"{path}: is damaged (it is gone); {self.mend}, or restore it from a copy"
                    )
                self._compare(path, name, path.stat().st_size, digest_of(path))

    def _compare(self, path: Path, name: str, size: int, digest: str) -> None:
        if self.files is None:
            return
        if name not in self.files:
            raise InputError(f"{path}: is damaged ({MANIFEST} does not name it); {self.mend}")
        if self.files[name] != (size, digest):
            raise _damaged(path, self.mend)


def _damaged(path: Path, mend: str = "make it anew") -> InputError:
    return InputError(
        f"{path}: is damaged (its checksum is another than when it was written); {mend}, or restore it from a copy"
    )


def write_manifest(folder: Path, names: Iterable[str] | None = None) -> None:
    """Write the manifest of a folder that is about to take its place.

    Args:
        folder: the folder.
        names: which files; `None` is all that are there, those in folders too.
    """
    if names is None:
        names = [path.relative_to(folder).as_posix() for path in _files_in(folder) if path.name != MANIFEST]
    files = {
        name: {"size": (folder / name).stat().st_size, "sha256": digest_of(folder / name)}
        for name in sorted(names)
    }
    write_checked_json(
        folder / MANIFEST, {"format": MANIFEST_FORMAT, "written_by": _version(), "files": files}
    )


@contextmanager
def replace_folder_with_manifest(
    path: Path, owner: Path | None = None, purpose: str = "writing"
) -> Iterator[Path]:
    """`mekiki.storage.atomic.replace_folder` with a manifest of what the block has written.

    Args:
        path: the folder.
        owner: the run that it belongs to, whose lock is held while it takes its place; `None` where the caller holds
            it, or there is none.
        purpose: what is done meanwhile, for whoever comes second.
    """
    with ExitStack() as until_replaced, replace_folder(path) as new:
        yield new
        write_manifest(new)
        if owner is not None:
            until_replaced.enter_context(hold_lock(owner, purpose))


def digest_of(path: Path) -> str:
    """SHA-256 of a file, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_consistently(folder: Path, open_it: Callable[[], T]) -> T:
    """What opening a folder gives, all of it from one state: again, if the folder was replaced meanwhile.

    Args:
        folder: one that is replaced in one step.
        open_it: reads several of its files.
    """
    for _ in range(ATTEMPTS):
        before = _stamp(folder)
        try:
            found = open_it()
        except (InputError, OSError):
            if _stamp(folder) == before:
                raise
        else:
            if _stamp(folder) == before:
                return found
    return open_it()


def _stamp(folder: Path) -> tuple[int, int] | None:
    """What differs between one writing of a folder and the next."""
    for path in (folder / MANIFEST, folder):
        try:
            found = path.stat()
        except OSError:
            continue
        return found.st_ino, found.st_mtime_ns
    return None


def check_format(path: Path, found: object, ours: str, by: str = "") -> None:
    """Refuse a file of a format newer than ours, or of another kind; an older number is let through.

    Args:
        path: the file.
        found: what it says it is, such as `mekiki-run/2`.
        ours: what this mekiki writes.
        by: what wrote it, if known.

    Raises:
        InputError: it is newer, or something else.

    Example:
        >>> check_format(Path("run/config.json"), "mekiki-run/9", "mekiki-run/1", "mekiki 3.0")
        Traceback (most recent call last):
            ...
        mekiki.errors.InputError: run/config.json: was written by a newer mekiki (mekiki 3.0, format mekiki-run/9), ...
    """
    kind, _, number = str(found).partition("/")
    our_kind, _, our_number = ours.partition("/")
    if kind != our_kind or not number.isdecimal():
        raise InputError(f"{path}: is of format {found!r}, and this mekiki reads {ours}")
    if int(number) > int(our_number):
        named = f"{by}, format {found}" if by else f"format {found}"
        raise InputError(
            f"{path}: was written by a newer mekiki ({named}), and this one reads up to {ours}; update mekiki"
        )


def write_checked_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Write an object as JSON that carries its own checksum, in one step."""
    told = dict(facts)
    told[SEAL] = _json_digest(told)
    write_text(path, json.dumps(told, indent=1, ensure_ascii=False) + "\n")


def read_checked_json(path: Path) -> dict[str, Any]:
    """Read what `write_checked_json` wrote, or an object that an older mekiki wrote without a checksum.

    Raises:
        InputError: it is damaged.
    """
    try:
        facts: dict[str, Any] = json.loads(path.read_bytes())
        sealed = facts.pop(SEAL, None)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: is damaged ({error}); make it anew, or restore it from a copy") from None
    if sealed is None and path.name != MANIFEST and "format" not in facts:
        return facts
    if sealed != _json_digest(facts):
        raise _damaged(path)
    return facts


def _json_digest(facts: Mapping[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_tensors(path: Path, content: bytes) -> None:
    """Write safetensors that carry their own checksum, in one step.

    Args:
        path: where.
        content: what `safetensors.…save` made.
    """
    header, data = _split(content)
    about = header.setdefault("__metadata__", {})
    about[SEAL] = _tensor_digest(header, data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with replace_file(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.write(data)


def read_tensors(path: Path) -> tuple[bytes, dict[str, str]]:
    """Safetensors that `write_tensors` wrote, checked, and their metadata; those without a checksum as they are.

    The content is for `safetensors.…load`.

    Raises:
        InputError: they are damaged.
        OSError: they are not there, or cannot be read.
    """
    content = path.read_bytes()
    try:
        header, data = _split(content)
        about = dict(header.get("__metadata__", {}))
        sealed = about.pop(SEAL, None)
    except (ValueError, RecursionError, AttributeError, TypeError, struct.error) as error:
        raise InputError(f"{path}: is damaged ({error}); make it anew, or restore it from a copy") from None
    about_all = about | ({} if sealed is None else {SEAL: str(sealed)})
    if sealed is None:
        # A checksum is the last thing said in the header, so one that is gone was damaged.
        if any(re.fullmatch(r"[0-9a-f]{64}", str(value)) and _near(key) for key, value in about.items()):
            raise _damaged(path)
    elif sealed != _tensor_digest(header, data):
        raise _damaged(path)
    return content, {str(key): str(value) for key, value in about_all.items()}


def _near(key: str) -> bool:
    """Whether a key may be that of the checksum with a byte changed."""
    return len(key) == len(SEAL) and sum(a != b for a, b in zip(key, SEAL, strict=True)) == 1


def _split(content: bytes) -> tuple[dict[str, Any], memoryview]:
    (length,) = struct.unpack_from("<Q", content)
    if length > len(content) - 8:
        raise ValueError("it is cut short")
    header = json.loads(content[8 : 8 + length])
    if not isinstance(header, dict):
        raise ValueError("it has no header")
    return header, memoryview(content)[8 + length :]


def _tensor_digest(header: Mapping[str, Any], data: memoryview) -> str:
    about = {key: value for key, value in header.get("__metadata__", {}).items() if key != SEAL}
    told = {**header, "__metadata__": about}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode())
    digest.update(data)
    return digest.hexdigest()


def _files_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and PARTIAL not in path.name]


def _version() -> str:
    try:
        return f"mekiki {version('mekiki')}"
    except PackageNotFoundError:
        return "mekiki"
