"""Every file of a run folder against its checksum; and run folders of older versions brought up to date."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mekiki.errors import InputError
from mekiki.storage.atomic import PARTIAL, recover_folder
from mekiki.storage.events import has_checksum, read_complete_lines, read_events
from mekiki.storage.lock import hold_lock
from mekiki.storage.manifest import (
    SEAL,
    Manifest,
    digest_of,
    read_checked_json,
    read_tensors,
    write_manifest,
)
from mekiki.storage.run_folder import (
    BACKBONE,
    CONFIG,
    HISTORY,
    MANIFEST,
    MEMORY,
    METRICS,
    MODEL,
    REFERENCE,
    UNITS,
)

READ = (
    MODEL,
    REFERENCE,
    CONFIG,
    HISTORY,
    METRICS,
    f"{BACKBONE}/*",
)
"""Files of a training that are read again; of version 0 these get a checksum."""
WHOLE, DAMAGED, MISSING, UNKNOWN = "whole", "damaged", "missing", "no checksum"


@dataclass(frozen=True)
class Checked:
    """What is known of one file.

    Attributes:
        file: its name in the run folder.
        state: `whole`, `damaged`, `missing`, or `no checksum`: of another program, of a person, or of an older mekiki.
        said: more about it.
    """

    file: str
    state: str
    said: str = ""


def check_run(folder: Path) -> list[Checked]:
    """Look at every file of a run folder, in order.

    Raises:
        InputError: there is no such folder, or a newer mekiki wrote it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "metrics.json").write_text("{}")
        >>> upgrade(folder)
        1
        >>> [(each.file, each.state) for each in check_run(folder)]
        [('manifest.json', 'whole'), ('metrics.json', 'whole')]
    """
    _settled(folder)
    found = {each.file: each for each in _by_manifests(folder)}
    for each in _by_themselves(folder, set(found)):
        if each.state != UNKNOWN or each.file not in found:
            found[each.file] = each
    return [found[name] for name in sorted(found)]


def upgrade(folder: Path) -> int:
    """Bring a run folder of an older version up to date; how many parts of it were.

    Version 0 had no manifests: what is there now is taken to be right, so look at it first.

    Raises:
        InputError: there is no such folder, or a newer mekiki wrote it.
    """
    _settled(folder)
    done = 0
    with hold_lock(folder):
        for unit in _units(folder):
            if Manifest.of(unit, quiet=True).files is not None:
                continue
            names = None
            if unit == folder:
                names = [
                    path.relative_to(folder).as_posix()
                    for pattern in READ
                    for path in folder.glob(pattern)
                    if path.is_file()
                ]
            if names is None or METRICS in names:
                write_manifest(unit, names)
                done += 1
    return done


def _settled(folder: Path) -> None:
    recover_folder(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one that mekiki wrote")
    for unit in UNITS[1:4]:
        recover_folder(folder / unit)


def _units(folder: Path) -> Iterator[Path]:
    for pattern in UNITS:
        yield from sorted(path for path in folder.glob(pattern) if path.is_dir()) if pattern else [folder]


def _by_manifests(folder: Path) -> Iterator[Checked]:
    for unit in _units(folder):
        path = unit / MANIFEST
        try:
            manifest = Manifest.of(unit, quiet=True)
        except InputError as error:
            if "newer" in str(error):
                raise
            yield Checked(path.relative_to(folder).as_posix(), DAMAGED)
            continue
        if manifest.files is None:
            continue
        yield Checked(path.relative_to(folder).as_posix(), WHOLE)
        for name, (size, digest) in manifest.files.items():
            file = unit / name
            state = MISSING
            if file.is_file():
                state = WHOLE if (file.stat().st_size, digest_of(file)) == (size, digest) else DAMAGED
            yield Checked(file.relative_to(folder).as_posix(), state)


def _by_themselves(folder: Path, known: set[str]) -> Iterator[Checked]:
    """Of the files not known: those that carry their checksum, or are named in a log; and the others as unknown."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or PARTIAL in name or name in known:
            continue
        try:
            if path.suffix == ".jsonl":
                lines = read_events(path)
                own = sum(map(has_checksum, read_complete_lines(path)))
                yield Checked(
                    name, WHOLE if own == len(lines) else UNKNOWN, f"{own} of {len(lines)} lines have one"
                )
                for row in lines:
                    yield from _listed(folder, folder, row.get("files"), may_be_gone=False)
                    yield from _listed(folder, path.parent, row.get("sums"), may_be_gone=True)
            elif _carries_its_own(path):
                yield Checked(name, WHOLE)
            else:
                yield Checked(name, UNKNOWN)
        except InputError as error:
            yield Checked(name, DAMAGED, str(error).partition(": ")[0].rpartition(", ")[2])


def _carries_its_own(path: Path) -> bool:
    """Whether a file has its checksum inside, which is then right."""
    if path.suffix == ".safetensors":
        return SEAL in read_tensors(path)[1]
    return path.name == MEMORY and "format" in read_checked_json(path)


def _listed(folder: Path, place: Path, files: object, *, may_be_gone: bool) -> Iterator[Checked]:
    """Files by their names in `place`, against their checksums; a database may have tidied some away."""
    for name, digest in files.items() if isinstance(files, dict) else ():
        path = place / str(name)
        state = MISSING
        if path.is_file():
            state = WHOLE if digest_of(path) == digest else DAMAGED
        elif may_be_gone:
            continue
        yield Checked((place.relative_to(folder) / str(name)).as_posix(), state)
