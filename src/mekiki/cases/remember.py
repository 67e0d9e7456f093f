"""Adding of photographs and notes to the memory of a run."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mekiki.cases.case import Case, Cases, case_id
from mekiki.cases.encoders import TextEncoder
from mekiki.cases.note_files import Note, match_notes, read_notes
from mekiki.cases.run_memory import RunMemory
from mekiki.cases.store import Store
from mekiki.console import Progress, silent
from mekiki.data.photo import list_photos_with_notes
from mekiki.errors import InputError
from mekiki.report.thumbnails import shrink
from mekiki.storage.events import user
from mekiki.storage.lock import hold_lock

BLOCK = 64
"""Cases written together."""
THUMBNAIL = 64
"""Pixels on the longer side of a thumbnail."""


@dataclass(frozen=True)
class SelectedPhoto:
    """A photograph to remember.

    Attributes:
        path: where it lies now.
        name: its name in the case, because the file may be a temporary copy.
        label: empty for the one it has, or else the judge's.
        note: empty for the one it has.
    """

    path: Path
    name: str
    label: str = ""
    note: str = ""


@dataclass
class _Added:
    """What was added: how many cases, how many of them new, unreadable files, and cases with a note."""

    cases: int = 0
    new: int = 0
    unreadable: list[str] = field(default_factory=list)
    noted: list[Case] = field(default_factory=list)


def remember(
    run_memory: RunMemory, data: Sequence[Path], notes: Path | None = None, *, progress: Progress = silent
) -> dict[str, Any]:
    """Add photographs, and what people wrote about them, as cases.

    A photograph is identified by its pixels: remembered twice it is one case. A new label or note replaces the old one;
    without a new one the old stays. The label is that of the notes, else the name of the sub-folder that the
    photograph lies in, else the judge's.

    Args:
        run_memory: of a run that was trained or calibrated; for notes alone its folder may be new. Its configuration is
            saved for the commands to come.
        data: photographs or folders of them; or a .csv file of notes without photographs.
        notes: a .csv file with the columns file, label, note.
        progress: called after each block, when its cases are on disk.

    Returns:
        `cases` and how many of them are `new`, `embedded_notes`, `unreadable`, `notes` and the `store`.

    Raises:
        InputError: there is nothing to remember, or the store is of another encoder.
    """
    tables = [path for path in data if path.suffix.lower() == ".csv"]
    places = [path for path in data if path not in tables]
    rows = [
        (note, table.parent) for table in [*tables, *([notes] if notes else [])] for note in read_notes(table)
    ]
    if not rows and not places:
        raise InputError("nothing to remember; give photographs, folders of them, or a .csv file of notes")
    added, remarks = _Added(), list[str]()
    if places:
        files, remarks = list_photos_with_notes(places)
        folders = [*[place for place in places if place.is_dir()], *{folder for _, folder in rows}]
        matched, unmatched = match_notes([note for note, _ in rows if note.file], files, folders)
        if unmatched:
            remarks.append(
                f"{len(unmatched)} notes name a photograph that is not there, such as {unmatched[0].file}"
            )
        photos = [
            SelectedPhoto(file, str(file), note.label or _folder_label(file, places), note.note)
            for file, note in ((file, matched.get(file, Note())) for file in files)
        ]
        added = _add_photos(run_memory, photos, progress)
        if added.unreadable:
            remarks.append(
                f"{len(added.unreadable)} photographs cannot be read, such as {added.unreadable[0]}"
            )
    alone = [_note_case(note, run_memory.folder) for note, _ in rows if not (note.file and places)]
    if alone and run_memory.config.text is None:
        raise InputError(
            "notes without a photograph are found by their text alone, so they need a model for it; give --text-model"
        )
    result = {
        "cases": added.cases + len(alone),
        "new": added.new,
        "embedded_notes": 0,
        "unreadable": len(added.unreadable),
        "notes": remarks,
        "store": run_memory.place,
    }
    if run_memory.config.text is not None:
        run_memory.folder.mkdir(parents=True, exist_ok=True)
        noted = [*added.noted, *alone]
        new = _add_notes(run_memory, noted, progress)
        result |= {"embedded_notes": len(noted), "new": added.new + (new if alone else 0)}
    return result


def remember_selected(run_memory: RunMemory, photos: Sequence[SelectedPhoto]) -> dict[str, int]:
    """Add single photographs as cases: `cases`, how many of them are `new`, and how many `unreadable`.

    Raises:
        InputError: none is given, or the store is of another encoder.
    """
    if not photos:
        raise InputError("no photograph is selected; name at least one")
    added = _add_photos(run_memory, photos)
    if run_memory.config.text is not None and added.noted:
        _add_notes(run_memory, added.noted)
    return {"cases": added.cases, "new": added.new, "unreadable": len(added.unreadable)}


def _add_photos(
    run_memory: RunMemory, photos: Sequence[SelectedPhoto], progress: Progress = silent
) -> _Added:
    """Encode photographs and write them to the store in blocks."""
    encoder = run_memory.photo_encoder
    store = run_memory.store("images", encoder.info)
    run_memory.save_config()
    added = _Added()
    by_path = {photo.path: photo for photo in photos}
    block: dict[str, Case] = {}
    judged: dict[str, str] = {}
    for number, encoded in enumerate(encoder.extract(list(by_path)), start=1):
        photo = encoded.photo
        if photo.pixels is None or encoded.vector is None:
            added.unreadable.append(f"{photo.path} ({photo.problem})")
        else:
            thumbnail = io.BytesIO()
            Image.fromarray(shrink(photo.pixels, THUMBNAIL)).save(thumbnail, "PNG")
            selected = by_path[photo.path]
            case = Case(
                case_id(photo.pixels),
                encoded.vector,
                selected.label,
                selected.note,
                selected.name,
                thumbnail.getvalue(),
                who=user(),
                run=str(run_memory.folder),
                encoder=encoder.info.fingerprint,
            )
            block[case.id], judged[case.id] = case, encoded.label
        if block and (len(block) == BLOCK or number == len(by_path)):
            with hold_lock(run_memory.folder, "remembering"):
                cases = _complete(store, list(block.values()), judged)
                added.new += store.add(Cases.of(cases))
            added.cases += len(cases)
            added.noted += [case for case in cases if case.note]
            progress("remembering", added.cases + len(added.unreadable), len(by_path))
            block.clear()
    return added


def _complete(store: Store, cases: Sequence[Case], judged: dict[str, str]) -> list[Case]:
    """Cases with the label and note that the store has where none is given, or else with the judge's label."""
    known = {case.id: case for case in store.get([case.id for case in cases])}
    complete = []
    for case in cases:
        before = known.get(case.id, case)
        label = case.label or before.label or judged[case.id]
        complete.append(replace(case, label=label, note=case.note or before.note, time=before.time))
    return complete


def _note_case(note: Note, folder: Path) -> Case:
    """The case of a note without a photograph; its vector is made later, from the text."""
    digest = hashlib.sha256(f"{note.file}\0{note.note}".encode()).hexdigest()[:16]
    vector = np.zeros(1, np.float32)
    return Case(digest, vector, note.label, note.note, note.file, who=user(), run=str(folder))


def _add_notes(run_memory: RunMemory, cases: Sequence[Case], progress: Progress = silent) -> int:
    """Add cases to the store of notes, and return how many are new."""
    store = run_memory.store("notes", run_memory.text_encoder.info)
    run_memory.save_config()
    new = 0
    for start in range(0, len(cases), BLOCK):
        block = cases[start : start + BLOCK]
        with hold_lock(run_memory.folder, "remembering notes"):
            new += add_encoded_notes(store, run_memory.text_encoder, block)
        progress("remembering notes", start + len(block), len(cases))
    return new


def add_encoded_notes(store: Store, encoder: TextEncoder, cases: Sequence[Case]) -> int:
    """Add cases with the vectors of their notes, and return how many are new."""
    vectors = encoder.embed([case.note for case in cases])
    encoded = zip(cases, vectors, strict=True)
    return store.add(
        Cases.of(replace(case, vector=vector, encoder=encoder.info.fingerprint) for case, vector in encoded)
    )


def _folder_label(path: Path, places: Sequence[Path]) -> str:
    """The name of the sub-folder that a photograph lies in, if there is one."""
    for place in places:
        if place in path.parents:
            inside = path.relative_to(place).parts
            return inside[0] if len(inside) > 1 else ""
    return ""
