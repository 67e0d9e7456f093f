"""Uploaded photographs: their limits, checks of their first bytes and header, and storage while the server runs."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO

from mekiki.data.decoding import LARGEST_IMAGE, read_header
from mekiki.errors import InputError, NotFoundError

MAX_UPLOADS = 400
"""Photographs that are stored; the oldest are removed first."""
MAX_STORED_BYTES = 2**30
"""Bytes of all stored photographs together."""
CHUNK = 2**18
MAX_NAME = 120

_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\x00", b"MM\x00*")


@dataclass(frozen=True)
class RequestLimits:
    """Limits of what a caller may send.

    Attributes:
        upload: bytes of a request with photographs.
        other: bytes of any other request.
        files: photographs in one request.
        pixels: of one photograph, by its header.
        idle: seconds between two chunks of a body.
        whole: seconds for the whole body.
    """

    upload: int = 256 * 2**20
    other: int = 2 * 2**20
    files: int = 100
    pixels: int = LARGEST_IMAGE
    idle: float = 20.0
    whole: float = 120.0


@dataclass(frozen=True)
class Upload:
    """One uploaded photograph.

    Attributes:
        photo: its id, a hash of its bytes; `None` if it was refused.
        file: the name that the caller gave it.
        path: where it is stored.
        size: in bytes.
        height: in pixels, upright.
        width: in pixels, upright.
        problem: why it was refused; empty if it is stored.
    """

    photo: str | None
    file: str
    path: Path
    size: int
    height: int = 0
    width: int = 0
    problem: str = ""

    @contextmanager
    def name_in_errors(self) -> Iterator[None]:
        """Replace the stored path by the caller's file name in errors raised by the block."""
        try:
            yield
        except InputError as error:
            raise type(error)(str(error).replace(str(self.path), self.file)) from None


class Uploads:
    """The photographs of this session, in a temporary folder.

    Args:
        limits: the most pixels of a photograph.
    """

    def __init__(self, limits: RequestLimits) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mekiki-page-"))
        self._max_pixels, self._lock = limits.pixels, Lock()
        self._uploads: OrderedDict[str, Upload] = OrderedDict()

    def add(self, name: str | None, content: IO[bytes]) -> Upload:
        """Store a photograph; one that cannot be used is returned with its `problem` and not stored."""
        digest = hashlib.sha256()
        partial = Path(tempfile.mkstemp(dir=self.folder)[1])
        with partial.open("wb") as handle:
            while chunk := content.read(CHUNK):
                digest.update(chunk)
                handle.write(chunk)
        photo, file, size = digest.hexdigest()[:32], plain_name(name), partial.stat().st_size
        try:
            height, width = self._read_size(partial)
        except InputError as error:
            partial.unlink()
            return Upload(None, file, partial, size, problem=str(error).removeprefix(f"{partial}: "))
        with self._lock:
            path = partial.replace(self.folder / photo)
            self._uploads[photo] = upload = Upload(photo, file, path, size, height, width)
            self._uploads.move_to_end(photo)
            while len(self._uploads) > 1 and self._is_full():
                self._uploads.popitem(last=False)[1].path.unlink(missing_ok=True)
        return upload

    def _is_full(self) -> bool:
        return (
            len(self._uploads) > MAX_UPLOADS
            or sum(each.size for each in self._uploads.values()) > MAX_STORED_BYTES
        )

    def _read_size(self, path: Path) -> tuple[int, int]:
        """Return height and width of a file from its header; nothing of it is decoded.

        Raises:
            InputError: it is no photograph, or too large.
        """
        with path.open("rb") as handle:
            start = handle.read(16)
        if not start:
            raise InputError("is empty")
        webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
        if not webp and not start.startswith(_SIGNATURES):
            raise InputError("is no photograph; send png, jpg, bmp, tif or webp")
        header = read_header(path)
        if header.height * header.width > self._max_pixels:
            raise InputError(
                f"has {header.height}×{header.width} pixels, more than {self._max_pixels / 10**6:g} million; "
                "scale it down"
            )
        return header.height, header.width

    def get(self, photo: str) -> Upload:
        """Return the photograph of an id.

        Raises:
            NotFoundError: there is none, or it was removed for newer ones.
        """
        with self._lock:
            if photo not in self._uploads:
                raise NotFoundError(f"photo {photo}: is not stored any more; send it again")
            self._uploads.move_to_end(photo)
            return self._uploads[photo]

    def close(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)


def plain_name(name: str | None) -> str:
    r"""Return a caller's file name without folders and control characters.

    Example:
        >>> plain_name("..\\..\\a\x00b.png"), plain_name("/etc/割れ.png"), plain_name(None)
        ('ab.png', '割れ.png', 'photo')
    """
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    printable = "".join(letter for letter in last if letter.isprintable()).strip()
    return printable[-MAX_NAME:] or "photo"
