"""Append-only logs: one JSON object a line, each line with its own checksum, and entries that can be undone.

The checksum is the last key of the object and covers the bytes before it. Lines of an older mekiki have none and are
read without a check. A last line without a line end was cut short by a crash before `append` returned, so it does not
count.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from mekiki.errors import InputError
from mekiki.storage.atomic import name_disk_errors
from mekiki.storage.json_files import is_nearly
from mekiki.storage.lock import hold_lock

CHECKSUM_KEY = "crc32"
UNDO_KEY = "undo"
_CHECKSUM = re.compile(rb', "crc32": "([0-9a-f]{8})"\}$')
Record = TypeVar("Record")


@dataclass(frozen=True)
class Event:
    """One entry of an `EventLog`.

    Attributes:
        number: counted from 1 over the entries; undo lines are not counted.
        content: the object of its line, with `who` (the user) and `when` (UTC, ISO 8601), without the checksum.
        undone: whether an undo line names it.
    """

    number: int
    content: dict[str, Any]
    undone: bool = False


class EventLog:
    """An append-only log with undo: an undo is a line too, `{"undo": NUMBER, "who": …, "when": …}`.

    Every writing holds the lock of the folder that the log lies in. What `append` writes is one line, so a crash
    leaves all of it or nothing.

    Args:
        path: the file; it need not exist yet.
        noun: what an entry is called in error messages, such as `correction`.
        list_command: the command that lists the entries, for error messages; empty if there is none.

    Example:
        >>> import tempfile
        >>> log = EventLog(Path(tempfile.mkdtemp()) / "labels.jsonl", "change", "mekiki cases log RUN")
        >>> log.append({"label": "scratch"}, who="ann").number
        1
        >>> event = log.append(lambda number: {"number": number, "label": "dent"}, who="bob")
        >>> log.undo(1, who="ann").content["label"]
        'scratch'
        >>> [(event.number, event.content["label"], event.undone) for event in log.events()]
        [(1, 'scratch', True), (2, 'dent', False)]
        >>> log.read(lambda event: event.content["label"].upper())
        ['SCRATCH', 'DENT']
        >>> log.undo(1)
        Traceback (most recent call last):
        mekiki.errors.InputError: change 1: was undone before
        >>> log.undo(3)
        Traceback (most recent call last):
        mekiki.errors.InputError: change 3: there is none; `mekiki cases log RUN` lists them
    """

    def __init__(self, path: Path, noun: str, list_command: str = "") -> None:
        self.path, self._noun, self._list_command = path, noun, list_command

    def events(self) -> list[Event]:
        """All entries in order, those undone too.

        Raises:
            InputError: a line is damaged, or an undo names no entry before it.
        """
        return [event for _, event in self._numbered_events()]

    def read(self, make: Callable[[Event], Record]) -> list[Record]:
        """A record of each entry, those undone too.

        Args:
            make: an entry → its record. A `ValueError`, `TypeError` or `LookupError` that it raises becomes the error
                for a damaged line.

        Raises:
            InputError: as `events`.
        """
        records = []
        for line, event in self._numbered_events():
            try:
                records.append(make(event))
            except (ValueError, TypeError, LookupError):
                raise damaged_line(self.path, line) from None
        return records

    def _active_event(self, number: int | None) -> Event:
        """The entry of that number, or the last that is not undone."""
        events = self.events()
        if number is None:
            active = [event for event in events if not event.undone]
            if not active:
                raise InputError(f"no {self._noun} is active, so there is none to undo")
            return active[-1]
        if not 1 <= number <= len(events):
            hint = f"; `{self._list_command}` lists them" if self._list_command else ""
            raise InputError(f"{self._noun} {number}: there is none{hint}")
        if events[number - 1].undone:
            raise InputError(f"{self._noun} {number}: was undone before")
        return events[number - 1]

    def _numbered_events(self) -> list[tuple[int, Event]]:
        """All entries with the numbers of their lines."""
        events: list[tuple[int, Event]] = []
        for line, content in enumerate(read_events(self.path), start=1):
            if UNDO_KEY not in content:
                events.append((line, Event(len(events) + 1, content)))
                continue
            number = content[UNDO_KEY]
            if not isinstance(number, int) or not 1 <= number <= len(events):
                raise damaged_line(self.path, line)
            entry_line, event = events[number - 1]
            events[number - 1] = (entry_line, replace(event, undone=True))
        return events

    def append(
        self, content: Mapping[str, Any] | Callable[[int], Mapping[str, Any]], *, who: str | None = None
    ) -> Event:
        """Write an entry; returns when it is on disk.

        Args:
            content: what JSON can hold, without `who` and `when`; or a function of the entry's number that returns
                it. The function runs under the lock, so it may write files that belong to the entry.
            who: the user; the one logged in if not given.
        """
        with hold_lock(self.path.parent, f"writing {self.path.name}"):
            number = len(self.events()) + 1
            entry = {**(content(number) if callable(content) else content), **_signature(who)}
            append_event(self.path, entry)
        return Event(number, entry)

    def undo(
        self,
        number: int | None = None,
        *,
        who: str | None = None,
        revert: Callable[[Event], None] = lambda event: None,
    ) -> Event:
        """Write that an entry is undone; both lines stay in the log.

        Args:
            number: of the entry; the last active one if not given.
            who: the user; the one logged in if not given.
            revert: undoes what the entry did elsewhere; runs under the lock, before the line is written.

        Raises:
            InputError: there is no such entry, or it was undone before.
        """
        with hold_lock(self.path.parent, f"writing {self.path.name}"):
            event = self._active_event(number)
            revert(event)
            append_event(self.path, {UNDO_KEY: event.number, **_signature(who)})
        return replace(event, undone=True)


def user() -> str:
    """The name of the user, for a log."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # the system has no name for this user
        return "unknown"


def _signature(who: str | None) -> dict[str, str]:
    return {"who": who or user(), "when": datetime.now(UTC).isoformat(timespec="seconds")}


def append_event(path: Path, content: Mapping[str, Any]) -> None:
    r"""Add a line with its checksum; returns when it is on disk.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "log.jsonl"
        >>> append_event(path, {"label": "good"})
        >>> path.read_text()
        '{"label": "good", "crc32": "e02a4454"}\n'
        >>> read_events(path)
        [{'label': 'good'}]
    """
    # A file name may hold bytes that are not text; JSON has an escape for them.
    text = json.dumps(content, ensure_ascii=False).encode("utf-8", "backslashreplace")
    append_line(path, text[:-1] + f', "{CHECKSUM_KEY}": "{zlib.crc32(text):08x}"}}'.encode())


def read_events(path: Path) -> list[dict[str, Any]]:
    """The objects of all lines in order, without their checksums; none if there is no such file.

    Raises:
        InputError: a line is damaged.
    """
    events = []
    for number, line in enumerate(read_complete_lines(path)):
        try:
            events.append(_parse_line(line))
        except (ValueError, RecursionError):
            raise damaged_line(path, number + 1) from None
    if _end_is_damaged(path):
        raise damaged_line(path, len(events) + 1)
    return events


def damaged_line(path: Path, number: int) -> InputError:
    """The error for a line that cannot be read, counted from 1."""
    return InputError(f"{path}, line {number}: cannot be read; restore it from a copy or remove it")


def has_checksum(line: bytes) -> bool:
    """Whether a line ends with a checksum."""
    return _CHECKSUM.search(line) is not None


def _parse_line(line: bytes) -> dict[str, Any]:
    match = _CHECKSUM.search(line)
    text = line if match is None else line[: match.start()] + b"}"
    if match is not None and int(match[1], 16) != zlib.crc32(text):
        raise ValueError("the checksum differs")
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("no object")
    if match is None and any(is_nearly(key, CHECKSUM_KEY) for key in list(content)[-1:]):
        raise ValueError("its checksum is damaged")
    return content


def _end_is_damaged(path: Path) -> bool:
    """Whether what follows the last line end is a whole line whose own line end became another byte."""
    if not path.is_file():
        return False
    content = path.read_bytes()
    return has_checksum(content[content.rfind(b"\n") + 1 : -1])


def read_complete_lines(path: Path) -> list[bytes]:
    """The lines of a log without the last one if it has no line end; none if there is no such file.

    Bytes, because a crash may have cut a character in two.
    """
    if not path.is_file():
        return []
    content = path.read_bytes()
    return [line for line in content[: content.rfind(b"\n") + 1].split(b"\n") if line.strip()]


def append_line(path: Path, line: bytes) -> None:
    """Add a line to a log; returns when it is on disk. A last line that was cut short is dropped."""
    with name_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.seek(0)
                    end = file.truncate(file.read().rfind(b"\n") + 1)
            rest = memoryview(line + b"\n")
            try:
                while rest:  # a disk that is nearly full takes a part, then raises
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(end)
                raise
