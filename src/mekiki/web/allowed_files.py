"""Which files a caller may name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

from mekiki.errors import InputError
from mekiki.web.http_errors import RefusedError


class Places:
    """The run folder and those listed with `--allow`: nothing that a caller names is opened outside them.

    Args:
        run: the run folder.
        allow: further folders.

    Raises:
        InputError: one of them is no folder.

    Example:
        >>> import tempfile
        >>> places = Places(Path(tempfile.mkdtemp()))
        >>> places.opened("/etc/passwd")
        Traceback (most recent call last):
        mekiki.web.http_errors.RefusedError: /etc/passwd: lies outside the run; list ...
    """

    def __init__(self, run: Path, allow: Sequence[Path] = ()) -> None:
        for folder in (run, *allow):
            if not folder.is_dir():
                raise InputError(f"{folder}: no such folder; give one that is there")
        self.run = Path(os.path.realpath(run))
        self.allowed = [Path(os.path.realpath(folder.expanduser())) for folder in allow]

    def opened(self, named: str) -> Path:
        """The real path that a caller means; links are followed before it is looked at.

        A relative name is looked for in each listed folder and in the run.

        Raises:
            RefusedError: it lies elsewhere, or is no name of a file.
        """
        refused = RefusedError(
            f"{named!r}: is no name of a file".replace("\n", " ")
            if not named.isprintable() or not named.strip()
            else f"{named}: lies outside the run; list its folder with `mekiki serve --allow`"
        )
        windows = PureWindowsPath(named)
        strange = "\\" in named or bool(
            windows.drive
        )  # a drive, or a machine, on Windows; a plain name nowhere
        if not named.isprintable() or not named.strip() or (strange and os.name != "nt"):
            raise refused
        given = Path(named)
        tried = [given] if given.is_absolute() else [root / given for root in (*self.allowed, self.run)]
        real = [Path(os.path.realpath(path)) for path in tried]
        inside = [
            path for path in real if any(path.is_relative_to(root) for root in (*self.allowed, self.run))
        ]
        if not inside:
            raise refused
        return next((path for path in inside if path.exists()), inside[0])
