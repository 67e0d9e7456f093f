"""Checksums of files that a database writes once and never changes, in a log beside them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from mekiki.errors import InputError
from mekiki.storage.atomic import replace_file
from mekiki.storage.events import append_event, read_events
from mekiki.storage.manifest import digest_of

KEY = "sums"
"""Of a line's object: by name, relative to the log's folder, the SHA-256 of files new since the line before."""
SETTLED = 1_000_000_000
"""Nanoseconds after which another change would have another time, on the clocks of all file systems."""
_looked_at: dict[str, tuple[tuple[int, int], str]] = {}
"""Of a file: when it was last changed and its size, and its checksum then; a store is opened for every picture."""


class Sums:
    """The checksums of some files of a folder.

    The database is the one who says which files there must be; here only those that are there are known.

    Args:
        log: lies in the folder.
        patterns: of files that never change.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> sums = Sums(folder / "sums.jsonl", ["*.data"])
        >>> _ = (folder / "a.data").write_text("1")
        >>> sums.note()
        >>> sums.check()
        >>> _ = (folder / "a.data").write_text("2")
        >>> sums.check()
        Traceback (most recent call last):
        mekiki.errors.InputError: ...a.data: is damaged; ...
    """

    def __init__(self, log: Path, patterns: list[str]) -> None:
        self.log, self._patterns = log, patterns

    def known(self) -> dict[str, str]:
        """What the log says.

        Raises:
            InputError: a line of it is damaged.
        """
        return {
            name: str(digest) for row in read_events(self.log) for name, digest in row.get(KEY, {}).items()
        }

    def note(self, *, anew: bool = False) -> None:
        """Take down what is new; to be called where nobody else writes.

        Args:
            anew: write a log in which nothing is left of files that are gone.
        """
        known = self.known()
        there = {
            path.relative_to(self.log.parent).as_posix(): path
            for pattern in self._patterns
            for path in self.log.parent.glob(pattern)
        }
        new = {name: digest_of(path) for name, path in there.items() if name not in known}
        if anew:
            with replace_file(self.log) as log:
                append_event(log, {KEY: {name: known[name] for name in there if name in known} | new})
        elif new:
            append_event(self.log, {KEY: new})

    def check(self) -> None:
        """Look at every file that is known and there.

        Raises:
            InputError: one is damaged, or the log is.
        """
        for name, digest in self.known().items():
            path = self.log.parent / name
            try:
                damaged = _digest_now(path) != digest
            except FileNotFoundError:  # tidied away by the database
                continue
            if damaged:
                raise InputError(
                    f"{path}: is damaged; restore the store from an export (`mekiki cases import`)"
                )


def _digest_now(path: Path) -> str:
    """The checksum of a file, which is not read again while it stands untouched."""
    whole, about = os.path.abspath(path), path.stat()  # noqa: PTH100 (a link stays a link)
    as_of = (about.st_mtime_ns, about.st_size)
    before = _looked_at.get(whole)
    if before is not None and before[0] == as_of:
        return before[1]
    digest = digest_of(path)
    if time.time_ns() - about.st_mtime_ns > SETTLED:
        _looked_at[whole] = (as_of, digest)
    return digest
