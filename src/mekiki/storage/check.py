"""Check of a run folder: every file against its checksum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mekiki.errors import InputError
from mekiki.storage.atomic import PARTIAL, recover_folder
from mekiki.storage.events import has_checksum, read_complete_lines, read_events
from mekiki.storage.json_files import CHECKSUM, read_checked_json
from mekiki.storage.manifest import Manifest, digest_of
from mekiki.storage.run_folder import MANIFEST, MEMORY, UNITS
from mekiki.storage.tensors import read_tensors

WHOLE, DAMAGED, MISSING, UNKNOWN = "whole", "damaged", "missing", "no checksum"


@dataclass(frozen=True)
class FileState:
    """What is known of one file.

    Attributes:
        file: its name in the run folder.
        state: `whole`, `damaged`, `missing`, or `no checksum`: of another program, a person, or an older mekiki.
        detail: more about it.
    """

    file: str
    state: str
    detail: str = ""

    def to_dict(self) -> dict[str, str]:
        """The same for JSON."""
        return {"file": self.file, "state": self.state, "said": self.detail}


def check_run(folder: Path) -> list[FileState]:
    """The state of every file of a run folder, by name.

    Raises:
        InputError: there is no such folder, or a newer mekiki wrote it.

    Example:
        >>> import tempfile
        >>> from mekiki.storage.manifest import write_manifest
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "metrics.json").write_text("{}")
        >>> write_manifest(folder)
        >>> [(file.file, file.state) for file in check_run(folder)]
        [('manifest.json', 'whole'), ('metrics.json', 'whole')]
    """
    recover_run(folder)
    states = {file.file: file for unit in find_units(folder) for file in _in_manifest(folder, unit)}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and PARTIAL not in name and name not in states:
            states.update({file.file: file for file in _outside_manifests(folder, path)})
    return [states[name] for name in sorted(states)]


def recover_run(folder: Path) -> None:
    """Finish every replacement in a run folder that a crash cut short.

    Raises:
        InputError: there is no such folder.
    """
    recover_folder(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one that mekiki wrote")
    for unit in UNITS:
        if "*" not in unit:
            recover_folder(folder / unit)


def find_units(folder: Path) -> list[Path]:
    """The folders of a run that are replaced in one step, each with a manifest; the run's own first."""
    inner = (path for unit in UNITS if unit for path in sorted(folder.glob(unit)) if path.is_dir())
    return [folder, *inner]


def _in_manifest(folder: Path, unit: Path) -> Iterator[FileState]:
    """The manifest of a unit, and the files that it names."""
    name = (unit / MANIFEST).relative_to(folder).as_posix()
    try:
        manifest = Manifest.of(unit, quiet=True)
    except InputError as error:
        if "newer" in str(error):
            raise
        yield FileState(name, DAMAGED)
        return
    if manifest.files is None:
        return
    yield FileState(name, WHOLE)
    for file, (size, digest) in manifest.files.items():
        path = unit / file
        state = MISSING
        if path.is_file():
            state = WHOLE if (path.stat().st_size, digest_of(path)) == (size, digest) else DAMAGED
        yield FileState(path.relative_to(folder).as_posix(), state)


def _outside_manifests(folder: Path, path: Path) -> Iterator[FileState]:
    """A file that no manifest names, by its own checksum, and the files whose checksums it lists."""
    name = path.relative_to(folder).as_posix()
    try:
        if path.suffix == ".jsonl":
            events = read_events(path)
            own = sum(map(has_checksum, read_complete_lines(path)))
            state = WHOLE if own == len(events) else UNKNOWN
            yield FileState(name, state, f"{own} of {len(events)} lines have one")
            for event in events:
                yield from _listed_files(folder, folder, event.get("files"), may_be_gone=False)
                yield from _listed_files(folder, path.parent, event.get("sums"), may_be_gone=True)
        else:
            yield FileState(name, WHOLE if _carries_checksum(path) else UNKNOWN)
    except InputError as error:
        yield FileState(name, DAMAGED, str(error).partition(": ")[0].rpartition(", ")[2])


def _carries_checksum(path: Path) -> bool:
    """Whether a file has a checksum inside; it is then right, or else an `InputError` is raised."""
    if path.suffix == ".safetensors":
        return CHECKSUM in read_tensors(path)[1]
    return path.name == MEMORY and "format" in read_checked_json(path)


def _listed_files(folder: Path, base: Path, files: object, *, may_be_gone: bool) -> Iterator[FileState]:
    """Files with their checksums, by name relative to `base`; a database may have removed some of its own."""
    for name, digest in files.items() if isinstance(files, dict) else ():
        path = base / str(name)
        state = MISSING
        if path.is_file():
            state = WHOLE if digest_of(path) == digest else DAMAGED
        elif may_be_gone:
            continue
        yield FileState(path.relative_to(folder).as_posix(), state)
