"""Upgrade of run folders of older versions."""

from __future__ import annotations

from pathlib import Path

from mekiki.storage.check import find_units, recover_run
from mekiki.storage.lock import hold_lock
from mekiki.storage.manifest import Manifest, write_manifest
from mekiki.storage.run_folder import BACKBONE, CONFIG, HISTORY, METRICS, MODEL, REFERENCE

READ_AGAIN = (MODEL, REFERENCE, CONFIG, HISTORY, METRICS, f"{BACKBONE}/*")
"""Files of a training that mekiki reads again: those that get a checksum."""


def upgrade_run(folder: Path) -> int:
    """Give the parts of a run folder that have no manifest one; returns how many they were.

    Their present content is taken to be right, so look at it first.

    Raises:
        InputError: there is no such folder, or a newer mekiki wrote it.
    """
    recover_run(folder)
    upgraded = 0
    with hold_lock(folder):
        for unit in find_units(folder):
            if Manifest.of(unit, quiet=True).files is not None:
                continue
            names = None
            if unit == folder:
                paths = (path for pattern in READ_AGAIN for path in folder.glob(pattern) if path.is_file())
                names = [path.relative_to(folder).as_posix() for path in paths]
                if METRICS not in names:
                    continue
            write_manifest(unit, names)
            upgraded += 1
    return upgraded
