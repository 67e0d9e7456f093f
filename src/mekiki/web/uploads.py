"""Photographs that came by a call: checked by their first bytes and their header, and kept while the server runs."""

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

from mekiki.data.decoding import read_header
from mekiki.errors import InputError
from mekiki.web.http_errors import NotThereError
from mekiki.web.security import Limits

MOST = 400
"""Photographs that are kept; the oldest go."""
MOST_BYTES = 2**30
PIECE = 2**18
LONGEST_NAME = 120

KINDS = "png, jpg, bmp, tif or webp"
_BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\x00", b"MM\x00*")


@dataclass(frozen=True)
class Kept:
    """One of them.

    Attributes:
        photo: its id, a hash of its bytes.
        name: as the caller called it.
        path: where it lies.
        size: bytes.
        height: upright, in pixels.
        width: upright, in pixels.
        problem: why it is not kept; empty if it is.
    """

    photo: str
    name: str
    path: Path
    size: int
    height: int = 0
    width: int = 0
    problem: str = ""

    @contextmanager
    def by_name(self) -> Iterator[None]:
        """Errors about it call it what the caller called it, and do not tell where it lies."""
        try:
            yield
        except InputError as error:
            raise type(error)(str(error).replace(str(self.path), self.name)) from None


class Uploads:
    """The photographs of this session, in a folder that goes with it.

    Args:
        limits: what is taken.
    """

    def __init__(self, limits: Limits) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mekiki-page-"))
        self._limits, self._lock = limits, Lock()
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def keep(self, name: str | None, content: IO[bytes]) -> Kept:
        """Keep a photograph; one that cannot be used is told, and not kept."""
        digest = hashlib.sha256()
        size, beginning = 0, b""
        partial = Path(tempfile.mkstemp(dir=self.folder)[1])
        with partial.open("wb") as handle:
            while piece := content.read(PIECE):
                beginning = beginning or piece[:16]
                digest.update(piece)
                handle.write(piece)
                size += len(piece)
        photo, called = digest.hexdigest()[:32], plain_name(name)
        problem, height, width = self._look(partial, beginning, size)
        if problem:
            partial.unlink()
            return Kept("", called, partial, size, problem=problem)
        path = self.folder / photo
        with self._lock:
            partial.replace(path)
            one = self._kept[photo] = Kept(photo, called, path, size, height, width)
            self._kept.move_to_end(photo)
            while len(self._kept) > MOST or sum(each.size for each in self._kept.values()) > MOST_BYTES:
                oldest = next(iter(self._kept))
                if oldest == photo:
                    break
                self._kept.pop(oldest).path.unlink(missing_ok=True)
        return one

    def _look(self, path: Path, beginning: bytes, size: int) -> tuple[str, int, int]:
        """What is wrong with a file, its height and its width; nothing of it is decoded."""
        if not size:
            return "is empty", 0, 0
        webp = beginning[:4] == b"RIFF" and beginning[8:12] == b"WEBP"
        if not webp and not beginning.startswith(_BEGINNINGS):
            return f"is no photograph; send {KINDS}", 0, 0
        try:
            header = read_header(path)
        except InputError as error:
            return str(error).removeprefix(f"{path}: "), 0, 0
        if header.height * header.width > self._limits.pixels:
            most = self._limits.pixels / 10**6
            return (
                f"has {header.height}×{header.width} pixels, more than {most:g} million; scale it down",
                0,
                0,
            )
        return "", header.height, header.width

    def get(self, photo: str) -> Kept:
        """The one with this id.

        Raises:
            NotThereError: there is none, or it has gone to make room.
        """
        with self._lock:
            if photo not in self._kept:
                raise NotThereError(f"photo {photo}: is not kept, or not any longer; send it again")
            self._kept.move_to_end(photo)
            return self._kept[photo]

    def close(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)


def plain_name(name: str | None) -> str:
    r"""What a caller calls a file, as a name for people: no folders, nothing that cannot be printed.

    Example:
        >>> plain_name("..\\..\\a\x00b.png"), plain_name("/etc/割れ.png"), plain_name(None)
        ('ab.png', '割れ.png', 'photo')
    """
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    printed = "".join(letter for letter in last if letter.isprintable()).strip()
    return printed[-LONGEST_NAME:] or "photo"
