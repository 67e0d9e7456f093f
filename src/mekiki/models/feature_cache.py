"""Cache of features on disk, by the content of the image."""

from __future__ import annotations

import hashlib
import sqlite3
import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mekiki.errors import DataWarning
from mekiki.storage.cache_folder import cache_folder

WAIT = 30.0
"""Seconds to wait for another process that is writing."""
_ASKED_AT_ONCE = 500


class FeatureCache:
    """Vectors by the content of their images, for one way of making them; one SQLite file in the cache.

    SQLite brings what is needed: a write is there whole or not at all, also after a crash, and processes wait for each
    other. Each vector carries a checksum. A file or a vector that is damaged counts as not there, and a `DataWarning`
    says so; where nothing can be written (a full disk, no permission) work goes on without.

    Args:
        settings: all that decides a vector besides the pixels, as text.

    Example:
        >>> import os, tempfile
        >>> before, os.environ["MEKIKI_CACHE"] = os.environ.get("MEKIKI_CACHE"), tempfile.mkdtemp()
        >>> with FeatureCache("squares") as store:
        ...     store.write({b"2": np.float32([4])})
        ...     store.read([b"2", b"3"])
        {b'2': array([4.], dtype=float32)}
        >>> _ = os.environ.pop("MEKIKI_CACHE") if before is None else os.environ.update(MEKIKI_CACHE=before)
    """

    def __init__(self, settings: str) -> None:
        key = hashlib.blake2b(settings.encode(), digest_size=12).hexdigest()
        self.path = features_folder() / f"{key}.sqlite"
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        try:
            self._open()
        except (sqlite3.Error, OSError) as error:
            self._handle_error(error)
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def read(self, contents: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """The vectors that are there, by content (see `content_key`)."""
        found: dict[bytes, NDArray[np.float32]] = {}
        damaged = 0
        try:
            for start in range(0, len(contents), _ASKED_AT_ONCE):
                if self._connection is None:
                    break
                asked = contents[start : start + _ASKED_AT_ONCE]
                marks = ",".join("?" * len(asked))
                rows = self._connection.execute(
                    f"SELECT content, vector, checksum FROM vectors WHERE content IN ({marks})",  # nosec B608: marks
                    asked,
                )
                for content, vector, checksum in rows:
                    if zlib.crc32(vector) == checksum:
                        found[content] = np.frombuffer(vector, "<f4").astype(np.float32)
                    else:
                        damaged += 1
        except (sqlite3.Error, OSError) as error:
            self._handle_error(error)
        if damaged:
            _warn(f"{self.path}: {damaged} cached features are damaged and are computed again")
        return found

    def write(self, vectors: Mapping[bytes, NDArray[np.float32]]) -> None:
        """Keep vectors; all of them are there afterwards, or none."""
        if self._connection is None or not vectors:
            return
        rows = []
        for content, vector in vectors.items():
            stored = np.ascontiguousarray(vector, "<f4").tobytes()
            rows.append((content, stored, zlib.crc32(stored)))
        try:
            # Immediate: a reader that turns writer while another does the same would be refused instead of waiting.
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
        except (sqlite3.Error, OSError) as error:
            self._handle_error(error)

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS vectors (content BLOB PRIMARY KEY, vector BLOB, checksum INTEGER) "
                "WITHOUT ROWID"
            )
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _handle_error(self, error: sqlite3.Error | OSError) -> None:
        """Warn and continue: with a new file where it is broken, without one where it cannot be used."""
        self.__exit__()
        # Locked, full, read-only are OperationalErrors; a DatabaseError as such is a file that is no database (any
        # more), and an error of the data in it is one as well.
        broken = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        if not broken:
            _warn(f"{self.path.parent}: features cannot be kept there ({error}); going on without")
            return
        _warn(f"{self.path}: the cached features are damaged ({error}) and are computed again")
        try:
            for path in (self.path, self.path.with_name(f"{self.path.name}-journal")):
                path.unlink(missing_ok=True)
            self._open()
        except (sqlite3.Error, OSError) as again:
            _warn(f"{self.path.parent}: features cannot be kept there ({again}); going on without")


def content_key(image: NDArray[np.uint8]) -> bytes:
    """SHA-256 of an image: its pixels, shape and kind of number.

    Example:
        >>> one, other = np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8)
        >>> content_key(one) == content_key(one.copy()), content_key(one) == content_key(other)
        (True, False)
    """
    digest = hashlib.sha256(f"{image.dtype.str} {image.shape}".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def features_folder() -> Path:
    """Where features are kept; it may be deleted at any time when nothing is running."""
    return cache_folder() / "features"


def feature_cache_bytes() -> int:
    """How much the kept features of all backbones take on the disk.

    Example:
        >>> feature_cache_bytes() >= 0
        True
    """
    return sum(path.stat().st_size for path in features_folder().glob("*.sqlite*"))


def _warn(text: str) -> None:
    warnings.warn(text, DataWarning, stacklevel=4)
