"""Remembering: photographs and notes become cases."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mekiki.cases.case import Case, Cases
from mekiki.cases.encoders import TextView
from mekiki.cases.note_files import Note, matched, read_notes
from mekiki.cases.run_memory import RunMemory, Settings
from mekiki.cases.store import Store
from mekiki.console import Progress, silent
from mekiki.data.image_set import Pixels
from mekiki.data.photo import list_photos_with_notes, pixel_hash
from mekiki.errors import InputError
from mekiki.report.thumbnails import shrink
from mekiki.storage.atomic import user
from mekiki.storage.lock import hold_lock

BLOCK = 64
"""Cases that become safe together."""
ID = 16
"""Hexadecimal digits of an id."""
THUMBNAIL = 64
"""Pixels on the longer side of what is kept of a photograph."""
_NOWHERE = np.zeros(1, np.float32)
"""The vector of a note until its text is embedded."""


def remember(
    folder: Path,
    data: Sequence[Path],
    notes: Path | None = None,
    *,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Keep photographs, and what people wrote of them, as cases.

    A photograph is known again by its pixels: remembered twice it is one case, and what is said of it now counts; what
    is not said stays as it was. Its label is that of the notes, else the name of the sub-folder it lies in, else what
    the run's judge says.

    Args:
        folder: a run that was trained or calibrated; for notes alone, a folder that may be new.
        data: photographs or folders of them; or a .csv file of notes without photographs.
        notes: a .csv file with the columns file, label, note.
        settings: where to keep them, and by what notes are embedded; kept for the commands to come.
        progress: told after each block, when its cases are safe.

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
    run_memory = RunMemory(folder, settings)
    about = [note for note, _ in rows if note.file]
    alone = [note for note, _ in rows if not note.file]
    told: list[str] = []
    counts = {"cases": 0, "new": 0, "embedded_notes": 0, "unreadable": 0}
    unread: list[str] = []
    written: list[Case] = []
    if places:
        files, told = list_photos_with_notes(places)
        known, lost = matched(
            about, files, [*[place for place in places if place.is_dir()], *{at for _, at in rows}]
        )
        if lost:
            told.append(f"{len(lost)} notes name a photograph that is not there, such as {lost[0].file}")
        store = run_memory.store("images", run_memory.view.encoder)
        run_memory.keep_settings()
        judged: dict[str, str] = {}
        for block in _blocks(_seen(run_memory, files, places, known, unread, judged)):
            with hold_lock(folder, "remembering"):
                kept = kept_before(store, block, judged)
                counts["new"] += store.add(Cases.of(kept))
            counts["cases"] += len(kept)
            written += [case for case in kept if case.note]
            progress("remembering", counts["cases"] + len(unread), len(files))
    elif about:
        alone += about
    if alone:
        written += [_of_note(note, folder) for note in alone]
    counts["unreadable"] = len(unread)
    if unread:
        told.append(f"{len(unread)} photographs cannot be read, such as {unread[0]}")
    if run_memory.settings.text is not None:
        folder.mkdir(parents=True, exist_ok=True)
        done = embed_notes(run_memory, written, progress)
        counts["embedded_notes"] = len(written)
        if alone:
            counts["cases"] += len(alone)
            counts["new"] += done
    elif alone:
        raise InputError(
            "notes without a photograph are found by their text alone, so they need a model for it; give --text-model"
        )
    return {**counts, "notes": told, "store": run_memory.place}


def _seen(
    run_memory: RunMemory,
    files: Sequence[Path],
    places: Sequence[Path],
    notes: dict[Path, Note],
    unread: list[str],
    judged: dict[str, str],
) -> Iterator[Case]:
    """A case a photograph; what cannot be read goes on a list, and what the judge says into a dictionary by id."""
    who = user()
    for seen in run_memory.view.extract(files):
        if seen.pixels is None or seen.vector is None:
            unread.append(f"{seen.path} ({seen.problem})")
            continue
        note = notes.get(seen.path, Note("", "", ""))
        id_ = pixel_hash(seen.pixels)[:ID]
        judged[id_] = seen.label
        yield Case(
            id_,
            seen.vector,
            note.label or _folder_label(seen.path, places),
            note.note,
            str(seen.path),
            png(seen.pixels),
            who=who,
            run=str(run_memory.folder),
            encoder=run_memory.view.encoder.fingerprint,
        )


def _blocks(cases: Iterator[Case]) -> Iterator[list[Case]]:
    block: dict[str, Case] = {}
    for case in cases:
        block[case.id] = case
        if len(block) == BLOCK:
            yield list(block.values())
            block = {}
    if block:
        yield list(block.values())


def kept_before(store: Store, cases: Sequence[Case], judged: dict[str, str]) -> list[Case]:
    """The same, with what is known of them already where nothing is said now; or else what the judge says."""
    known = {case.id: case for case in store.get([case.id for case in cases])}
    kept = []
    for case in cases:
        before = known.get(case.id, case)
        label = case.label or before.label or judged[case.id]
        kept.append(replace(case, label=label, note=case.note or before.note, time=before.time))
    return kept


def _of_note(note: Note, folder: Path) -> Case:
    digest = hashlib.sha256(f"{note.file}\0{note.note}".encode()).hexdigest()[:ID]
    return Case(digest, _NOWHERE, note.label, note.note, note.file, who=user(), run=str(folder))


def embed_notes(run_memory: RunMemory, cases: Sequence[Case], progress: Progress = silent) -> int:
    """Keep the notes by vectors of their text; how many are new."""
    store = run_memory.store("notes", run_memory.texts.encoder)
    run_memory.keep_settings()
    new = 0
    for start in range(0, len(cases), BLOCK):
        block = cases[start : start + BLOCK]
        with hold_lock(run_memory.folder, "remembering notes"):
            new += add_notes(store, run_memory.texts, block)
        progress("remembering notes", start + len(block), len(cases))
    return new


def add_notes(store: Store, texts: TextView, cases: Sequence[Case]) -> int:
    """Keep cases by the vectors of their notes; how many are new."""
    vectors = texts.embed([case.note for case in cases])
    fingerprint = texts.encoder.fingerprint
    return store.add(
        Cases.of(
            replace(case, vector=vector, encoder=fingerprint)
            for case, vector in zip(cases, vectors, strict=True)
        )
    )


def png(pixels: Pixels) -> bytes:
    """A small PNG of a photograph."""
    stream = io.BytesIO()
    Image.fromarray(shrink(pixels, THUMBNAIL)).save(stream, "PNG")
    return stream.getvalue()


def _folder_label(path: Path, places: Sequence[Path]) -> str:
    """The name of the sub-folder that a photograph lies in, if the place has such."""
    for place in places:
        if place in path.parents:
            inside = path.relative_to(place).parts
            return inside[0] if len(inside) > 1 else ""
    return ""
