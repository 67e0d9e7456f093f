"""The folders whose files a caller may name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

from mekiki.errors import InputError
from mekiki.web.http_errors import ForbiddenError


class AllowedFolders:
    """The run folder and the folders listed with `--allow`; no file outside them is opened for a caller.

    Args:
        run: the run folder.
        allow: further folders.

    Attributes:
        further: real paths of `allow`.

    Raises:
        InputError: one of them is not a folder.

    Example:
        >>> import tempfile
        >>> AllowedFolders(Path(tempfile.mkdtemp())).resolve("/etc/passwd")
        Traceback (most recent call last):
        mekiki.web.http_errors.ForbiddenError: /etc/passwd: lies outside the run; list ...
    """

    def __init__(self, run: Path, allow: Sequence[Path] = ()) -> None:
        for folder in (run, *allow):
            if not folder.is_dir():
                raise InputError(f"{folder}: no such folder; give one that exists")
        self.further = [Path(os.path.realpath(folder.expanduser())) for folder in allow]
        self._roots = [*self.further, Path(os.path.realpath(run))]

    def resolve(self, name: str) -> Path:
        """Return the real path of a name, with links followed before the check.

        A relative name is looked for in each listed folder, then in the run.

        Raises:
            ForbiddenError: the path lies elsewhere, or the name is not a file name.
        """
        if not name.isprintable() or not name.strip():
            raise ForbiddenError(f"{name!r}: is not a file name")
        outside = ForbiddenError(f"{name}: lies outside the run; list its folder with `mekiki serve --allow`")
        # A drive or a network share of Windows; on other systems it is no path anyone means.
        if os.name != "nt" and ("\\" in name or PureWindowsPath(name).drive):
            raise outside
        # An absolute name replaces the root that it is joined to.
        paths = [Path(os.path.realpath(root / name)) for root in self._roots]
        inside = [path for path in paths if any(path.is_relative_to(root) for root in self._roots)]
        if not inside:
            raise outside
        return next((path for path in inside if path.exists()), inside[0])
