"""Checksums of files that a database writes once and never changes, in a log beside them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from mekiki.storage.atomic import replace_file
from mekiki.storage.events import append_event, read_events
from mekiki.storage.json_files import damaged_file
from mekiki.storage.manifest import digest_of

KEY = "sums"
"""Of a line's object: by name, relative to the log's folder, the SHA-256 of files new since the line before."""
SETTLED_NS = 1_000_000_000
"""Nanoseconds after which a further change has another time, by the clocks of all file systems."""
_digests: dict[str, tuple[tuple[int, int], str]] = {}
"""Of a file: its time of change and size, and its checksum then; a store is opened for every photo."""


class DatabaseChecksums:
    """The checksums of some files of a folder. A file that is gone is no error: the database removes old ones.

    Args:
        log: lies in the folder.
        patterns: of files that never change.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> checksums = DatabaseChecksums(folder / "sums.jsonl", ["*.data"])
        >>> _ = (folder / "a.data").write_text("1")
        >>> checksums.update()
        >>> checksums.verify()
        >>> _ = (folder / "a.data").write_text("2")
        >>> checksums.verify()
        Traceback (most recent call last):
        mekiki.errors.InputError: ...a.data: is damaged ...
    """

    def __init__(self, log: Path, patterns: list[str]) -> None:
        self.log, self._patterns = log, patterns

    def _read(self) -> dict[str, str]:
        return {
            name: str(digest) for row in read_events(self.log) for name, digest in row.get(KEY, {}).items()
        }

    def update(self, *, rewrite: bool = False) -> None:
        """Add the files that are new; nobody else may write meanwhile.

        Args:
            rewrite: replace the log by one without files that are gone.
        """
        known = self._read()
        present = {
            path.relative_to(self.log.parent).as_posix(): path
            for pattern in self._patterns
            for path in self.log.parent.glob(pattern)
        }
        new = {name: digest_of(path) for name, path in present.items() if name not in known}
        if rewrite:
            kept = {name: known[name] for name in present if name in known}
            with replace_file(self.log) as log:
                append_event(log, {KEY: kept | new})
        elif new:
            append_event(self.log, {KEY: new})

    def verify(self) -> None:
        """Check every file that is known and not gone.

        Raises:
            InputError: one is damaged, or the log is.
        """
        for name, digest in self._read().items():
            path = self.log.parent / name
            try:
                damaged = _current_digest(path) != digest
            except FileNotFoundError:
                continue
            if damaged:
                raise damaged_file(path, fix="import the cases from an export (`mekiki cases import`)")


def _current_digest(path: Path) -> str:
    """The checksum of a file, which is not read again while it is unchanged."""
    absolute, status = os.path.abspath(path), path.stat()  # noqa: PTH100 (a link stays a link)
    stamp = (status.st_mtime_ns, status.st_size)
    known = _digests.get(absolute)
    if known is not None and known[0] == stamp:
        return known[1]
    digest = digest_of(path)
    if time.time_ns() - status.st_mtime_ns > SETTLED_NS:
        _digests[absolute] = (stamp, digest)
    return digest
