"""Single photographs into the memory, and other labels for cases that are in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mekiki.cases.case import Case, Cases
from mekiki.cases.remember import ID, embed_notes, kept_before, png
from mekiki.cases.run_memory import RunMemory
from mekiki.data.photo import pixel_hash
from mekiki.errors import InputError
from mekiki.storage.atomic import user
from mekiki.storage.events import append_event, damaged_line, read_events
from mekiki.storage.lock import hold_lock
from mekiki.storage.run_folder import LABEL_CHANGES


@dataclass(frozen=True)
class Picked:
    """A photograph that somebody chose to keep.

    Attributes:
        path: where it lies now.
        name: what it is called in the case, for the file may be a copy that will go.
        label: empty for what is known of it, or else what the judge says.
        note: empty for the one it has.
    """

    path: Path
    name: str
    label: str = ""
    note: str = ""


def remember_picked(run_memory: RunMemory, picked: Sequence[Picked]) -> dict[str, int]:
    """Keep single photographs as cases: `cases`, how many of them are `new`, and how many `unreadable`.

    Raises:
        InputError: nothing is picked, or the store is of another encoder.
    """
    if not picked:
        raise InputError("nothing is picked; name at least one photograph")
    store = run_memory.store("images", run_memory.view.encoder)
    run_memory.keep_settings()
    who, seen_as, cases = user(), {}, {}
    unreadable = 0
    by_path = {one.path: one for one in picked}
    for seen in run_memory.view.extract(list(by_path)):
        if seen.pixels is None or seen.vector is None:
            unreadable += 1
            continue
        one = by_path[seen.path]
        id_ = pixel_hash(seen.pixels)[:ID]
        seen_as[id_] = seen.label
        cases[id_] = Case(
            id_,
            seen.vector,
            one.label,
            one.note,
            one.name,
            png(seen.pixels),
            who=who,
            run=str(run_memory.folder),
            encoder=run_memory.view.encoder.fingerprint,
        )
    if not cases:
        return {"cases": 0, "new": 0, "unreadable": unreadable}
    with hold_lock(run_memory.folder, "remembering"):
        kept = kept_before(store, list(cases.values()), seen_as)
        new = store.add(Cases.of(kept))
    noted = [case for case in kept if case.note]
    if run_memory.settings.text is not None and noted:
        embed_notes(run_memory, noted)
    return {"cases": len(kept), "new": new, "unreadable": unreadable}


@dataclass(frozen=True)
class Change:
    """One change of labels, as its log has it.

    Attributes:
        number: counted from 1.
        label: what the cases are called since.
        before: what each was called, by id.
        who: the user.
        when: UTC, ISO 8601.
        undone: whether it was taken back.
    """

    number: int
    label: str
    before: dict[str, str]
    who: str
    when: str
    undone: bool = False


def relabel(run_memory: RunMemory, ids: Sequence[str], label: str) -> Change:
    """Call cases something else; the log `labels.jsonl` keeps what each was called.

    Raises:
        InputError: there is no such case, or no label.
    """
    if not label.strip():
        raise InputError("the label is empty; say what the cases are")
    named = list(dict.fromkeys(ids))
    before = {case.id: case.label for case in run_memory.store("images").get(named)}
    missing = [id_ for id_ in named if id_ not in before]
    if missing or not named:
        raise InputError(f"case {missing[0]}: there is none" if missing else "no case is named")
    _call(run_memory, dict.fromkeys(before, label.strip()))
    change = Change(len(changes_of(run_memory.folder)) + 1, label.strip(), before, user(), _now())
    facts: dict[str, Any] = asdict(change)
    del facts["undone"]
    append_event(run_memory.folder / LABEL_CHANGES, facts)
    return change


def undo_relabel(run_memory: RunMemory, number: int) -> Change:
    """Call the cases of a change what they were called before it, those that are still there.

    Raises:
        InputError: there is no such change, or it was taken back before.
    """
    changes = changes_of(run_memory.folder)
    if not 1 <= number <= len(changes):
        raise InputError(f"change {number}: there is none")
    change = changes[number - 1]
    if change.undone:
        raise InputError(f"change {number}: was taken back before")
    _call(run_memory, change.before)
    append_event(run_memory.folder / LABEL_CHANGES, {"undo": number, "who": user(), "when": _now()})
    return replace(change, undone=True)


def changes_of(folder: Path) -> list[Change]:
    """All changes of labels in order, those taken back too.

    Raises:
        InputError: a line other than a last one that a crash cut short cannot be read.
    """
    changes: list[Change] = []
    for row, facts in enumerate(read_events(folder / LABEL_CHANGES)):
        try:
            if "undo" in facts:
                place = int(facts["undo"]) - 1
                changes[place] = replace(changes[place], undone=True)
            else:
                changes.append(Change(**facts))
        except (ValueError, TypeError, LookupError):
            raise damaged_line(folder / LABEL_CHANGES, row + 1) from None
    return changes


def _call(run_memory: RunMemory, labels: dict[str, str]) -> None:
    """Write labels by id into the stores that have these cases."""
    for space in ("images", "notes"):
        try:
            store = run_memory.store(space)
        except InputError:  # nothing is remembered there
            continue
        with hold_lock(run_memory.folder, "remembering"):
            cases = [replace(case, label=labels[case.id]) for case in store.get(list(labels))]
            if cases:
                store.add(Cases.of(cases))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
