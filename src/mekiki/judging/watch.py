"""Watching a folder: each photograph that arrives is judged once, whatever happens in between.

The file of results is the memory: a photograph is done when its line is there. A line that a power cut left without
its end is taken away at the next start, and its photograph is judged anew.
"""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mekiki.data.folder_layout import image_files
from mekiki.errors import InputError
from mekiki.judging.drift import Drift, DriftAlarm
from mekiki.judging.inspector import Inspector
from mekiki.judging.results import COLUMNS, csv_line
from mekiki.judging.verdict import Verdict, escape_name
from mekiki.storage.atomic import name_disk_errors
from mekiki.storage.lock import hold_lock
from mekiki.storage.run_folder import WATCHED


@dataclass(frozen=True)
class _State:
    """A file as it was at one look; equal twice running, and it is taken to be whole."""

    size: int
    changed: int


def watch(
    run: Path,
    folder: Path,
    output: Path | None = None,
    *,
    poll: float = 1.0,
    once: bool = False,
    on_verdict: Callable[[Verdict], None],
    on_drift: Callable[[Drift], None],
) -> int:
    """Judge photographs as they arrive in a folder, or in folders in it, until interrupted.

    A file is judged when it has not changed between two looks; one that is overwritten later is another photograph,
    and is judged too. What is taught meanwhile is in force from the next look on.

    Args:
        run: the run folder.
        folder: where photographs arrive.
        output: the file of results, .csv; by default `watched.csv` in the run folder.
        poll: seconds between two looks.
        once: end when there is nothing left to judge.
        on_verdict: told each verdict, after it is on disk.
        on_drift: told when p-values are no longer uniform; those in the file count too.

    Returns:
        How many were judged.

    Raises:
        InputError: there is no such folder, or the file of results is of something else.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the one where photographs arrive")
    path = output or run / WATCHED
    if path.suffix != ".csv":
        raise InputError(f"{path}: watching writes .csv, one line a photograph; give a file that ends so")
    with hold_lock(path, "watching", timeout=0, role="watching"):
        return _watched(Inspector.open(run), folder, path, poll, once, on_verdict, on_drift)


def _watched(
    inspector: Inspector,
    folder: Path,
    path: Path,
    poll: float,
    once: bool,
    on_verdict: Callable[[Verdict], None],
    on_drift: Callable[[Drift], None],
) -> int:
    done, alarm = begun(path)
    seen: dict[Path, _State] = {}
    judged = 0
    taught = _state(inspector.corrections.log)
    while True:
        waiting, ready = _look(folder, path, seen, done)
        if taught != (now := _state(inspector.corrections.log)):
            taught = now
            inspector.reload_corrections()
        for file, state in ready:
            verdict = inspector.judge_file(file)
            if _state(file) != state:
                continue  # it was still being written after all
            _add(inspector.folder, path, f"{state.size},{state.changed},{csv_line(verdict)}".encode())
            done.add((escape_name(file), state.size, state.changed))
            seen.pop(file, None)
            judged += 1
            on_verdict(verdict)
            drift = alarm.add(verdict.p) if verdict.p > 0 else None
            if drift is not None:
                on_drift(drift)
        if once and not waiting:
            return judged
        if not ready:
            time.sleep(poll)


def _add(run: Path, path: Path, line: bytes) -> None:
    """Write a verdict, and see it on disk; opened anew, because a training may have replaced the folder it lies in."""
    with hold_lock(run), name_disk_errors(path), path.open("ab", buffering=0) as handle:
        handle.write(line)
        os.fsync(handle.fileno())


def _look(
    folder: Path, results: Path, seen: dict[Path, _State], done: set[tuple[str, int, int]]
) -> tuple[int, list[tuple[Path, _State]]]:
    """How many files are not judged yet, and those of them that have not changed since the last look."""
    waiting, ready = 0, []
    for file in image_files(folder)[0]:
        state = _state(file)
        if state is None or (escape_name(file), state.size, state.changed) in done or file == results:
            continue
        waiting += 1
        if seen.get(file) == state:
            ready.append((file, state))
        seen[file] = state
    return waiting, ready


def begun(path: Path) -> tuple[set[tuple[str, int, int]], DriftAlarm]:
    """What was judged before, and an alarm that has seen it; the file is made, or its torn end taken away."""
    header = f"size,changed_ns,{','.join(COLUMNS)}\r\n".encode()
    alarm = DriftAlarm()
    if not path.exists() or path.stat().st_size == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(header)
        return set(), alarm
    content = path.read_bytes()
    if not content.startswith(header):
        raise InputError(f"{path}: is not a file that watching wrote; give another --output")
    whole = _whole(content)
    if whole < len(content):
        with path.open("r+b") as handle:
            handle.truncate(whole)
    done = set()
    number = 1
    try:
        for row in csv.DictReader(io.StringIO(content[:whole].decode("utf-8"), newline="")):
            number += 1
            if row["p"]:
                alarm.add(float(row["p"]))
            done.add((row["file"], int(row["size"]), int(row["changed_ns"])))
    except (ValueError, TypeError, csv.Error):
        raise InputError(
            f"{path}, row {number}: cannot be read; mend it or remove it, or give another --output"
        ) from None
    return done, alarm


def _whole(content: bytes) -> int:
    """Length of the lines that have their end; a line break inside quotes belongs to the name of a file."""
    place = content.rfind(b"\r\n")
    quotes = content.count(b'"', 0, place)
    while quotes % 2:
        before = content.rfind(b"\r\n", 0, place)
        quotes -= content.count(b'"', before, place)
        place = before
    return place + 2


def _state(path: Path) -> _State | None:
    try:
        found = path.stat()
    except OSError:
        return None  # it went away between two looks
    return _State(found.st_size, found.st_mtime_ns)
