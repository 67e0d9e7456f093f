"""Relabelling of cases, with a log by which it can be undone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mekiki.cases.case import Cases
from mekiki.cases.run_memory import SPACES, RunMemory
from mekiki.errors import InputError
from mekiki.storage.events import Event, EventLog
from mekiki.storage.lock import hold_lock
from mekiki.storage.run_folder import LABEL_CHANGES


@dataclass(frozen=True)
class Relabelling:
    """One change of labels, as the log has it.

    Attributes:
        number: counted from 1.
        label: the new label.
        before: the label of each case before, by id.
        who: the user.
        when: UTC, ISO 8601.
        undone: whether it was undone.
    """

    number: int
    label: str
    before: dict[str, str]
    who: str
    when: str
    undone: bool = False


def relabel(run_memory: RunMemory, ids: Sequence[str], label: str) -> Relabelling:
    """Give cases another label.

    Raises:
        InputError: there is no such case, or the label is empty.
    """
    label = label.strip()
    if not label:
        raise InputError("the label is empty; say what the cases are")
    if not ids:
        raise InputError("no case is named")
    before = {case.id: case.label for case in run_memory.store("images").get(ids)}
    missing = [id_ for id_ in ids if id_ not in before]
    if missing:
        raise InputError(f"case {missing[0]}: there is none")

    def write(number: int) -> dict[str, Any]:
        _set_labels(run_memory, dict.fromkeys(before, label))
        return {"number": number, "label": label, "before": before}

    return _relabelling(_log(run_memory.folder).append(write))


def undo_relabelling(run_memory: RunMemory, number: int) -> Relabelling:
    """Give the cases of a change, those that still exist, the labels they had before.

    Raises:
        InputError: there is no such change, or it was undone before.
    """

    def revert(event: Event) -> None:
        _set_labels(run_memory, event.content["before"])

    return _relabelling(_log(run_memory.folder).undo(number, revert=revert))


def read_relabellings(folder: Path) -> list[Relabelling]:
    """All changes of labels in order, those undone too.

    Raises:
        InputError: a line other than a last one that a crash cut short cannot be read.
    """
    return _log(folder).read(_relabelling)


def _log(folder: Path) -> EventLog:
    return EventLog(folder / LABEL_CHANGES, "change")


def _relabelling(event: Event) -> Relabelling:
    return Relabelling(**event.content, undone=event.undone)


def _set_labels(run_memory: RunMemory, labels: dict[str, str]) -> None:
    """Write labels by id into the stores that have these cases."""
    for space in SPACES:
        try:
            store = run_memory.store(space)
        except InputError:  # nothing is remembered there
            continue
        with hold_lock(run_memory.folder, "remembering"):
            cases = [replace(case, label=labels[case.id]) for case in store.get(list(labels))]
            if cases:
                store.add(Cases.of(cases))
