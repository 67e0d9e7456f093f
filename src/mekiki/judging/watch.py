"""Watching a folder: each photograph that arrives is judged once, whatever happens in between.

The file of results is the record: a photograph is done when its row is there. A row that a power cut left without its
line end is removed at the next start, and its photograph is judged again.
"""

from __future__ import annotations

import csv
import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mekiki.data.folder_layout import image_files
from mekiki.errors import InputError
from mekiki.judging.drift import Drift, DriftAlarm
from mekiki.judging.judge_photos import Inspector
from mekiki.judging.results import COLUMNS, csv_line
from mekiki.judging.verdict import Verdict, escape_name
from mekiki.storage.atomic import name_disk_errors
from mekiki.storage.lock import hold_lock
from mekiki.storage.run_folder import WATCHED

FileState = tuple[int, int]
"""Size and time of change (ns) of a file; equal in two scans, and it is taken to be complete."""
Done = set[tuple[str, int, int]]
"""Name, size and time of change of each photograph in the file of results."""


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

    A file is judged when it has not changed between two scans; one that is overwritten later is another photograph, and
    is judged too. A correction made meanwhile is active from the next scan on. Ctrl-C does not come between the row of
    a photograph and the calls about it: it takes effect when these are done.

    Args:
        run: the run folder.
        folder: where photographs arrive.
        output: the file of results, .csv; by default `watched.csv` in the run folder.
        poll: seconds between two scans.
        once: end when there is nothing left to judge.
        on_verdict: called with each verdict when its row is on disk.
        on_drift: called when p-values are no longer uniform; those in the file count too.

    Returns:
        How many were judged.

    Raises:
        InputError: there is no such folder, or the file of results holds something else.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the one where photographs arrive")
    path = output or run / WATCHED
    if path.suffix != ".csv":
        raise InputError(f"{path}: watching writes .csv, one line a photograph; give a file that ends so")
    with hold_lock(path, "watching", timeout=0, role="watching"):
        inspector = Inspector.open(run)
        done, alarm = read_results(path)
        states: dict[Path, FileState] = {}
        judged = 0
        corrections = _file_state(inspector.corrections.path)
        while True:
            waiting, complete = _scan(folder, path, states, done)
            if corrections != (now := _file_state(inspector.corrections.path)):
                corrections = now
                inspector.reload_corrections()
            for file, state in complete:
                verdict = inspector.judge_file(file)
                if _file_state(file) != state:
                    continue  # it was still being written after all
                row = f"{state[0]},{state[1]},{csv_line(verdict)}".encode()
                with hold_lock(run), defer_interrupt():
                    _append(path, row)
                    done.add((escape_name(file), *state))
                    states.pop(file, None)
                    judged += 1
                    on_verdict(verdict)
                    drift = alarm.add(verdict.p) if verdict.p > 0 else None
                    if drift is not None:
                        on_drift(drift)
            if once and not waiting:
                return judged
            if not complete:
                time.sleep(poll)


@contextmanager
def defer_interrupt() -> Iterator[None]:
    """Let a Ctrl-C within the block take effect when the block ends; in another thread than the main one do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pending.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pending and callable(before):
            before(*pending[0])


def _append(path: Path, row: bytes) -> None:
    """Add a row; returns when it is on disk. Opened each time, because a training may have replaced its folder."""
    with name_disk_errors(path), path.open("ab", buffering=0) as handle:
        handle.write(row)
        os.fsync(handle.fileno())


def _scan(
    folder: Path, results: Path, states: dict[Path, FileState], done: Done
) -> tuple[int, list[tuple[Path, FileState]]]:
    """How many files are not judged yet, and those of them that have not changed since the last scan."""
    waiting, complete = 0, []
    for file in image_files(folder)[0]:
        state = _file_state(file)
        if state is None or (escape_name(file), *state) in done or file == results:
            continue
        waiting += 1
        if states.get(file) == state:
            complete.append((file, state))
        states[file] = state
    return waiting, complete


def read_results(path: Path) -> tuple[Done, DriftAlarm]:
    """What was judged before, and an alarm that knows its p-values; a last row that was cut short is removed.

    A file that does not exist is made.
    """
    header = f"size,changed_ns,{','.join(COLUMNS)}\r\n".encode()
    alarm = DriftAlarm()
    if not path.exists() or path.stat().st_size == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(header)
        return set(), alarm
    content = path.read_bytes()
    if not content.startswith(header):
        raise InputError(f"{path}: is not a file that watching wrote; give another --output")
    length = _complete_length(content)
    if length < len(content):
        with path.open("r+b") as handle:
            handle.truncate(length)
    done = set()
    number = 1
    try:
        for row in csv.DictReader(io.StringIO(content[:length].decode("utf-8"), newline="")):
            number += 1
            if row["p"]:
                alarm.add(float(row["p"]))
            done.add((row["file"], int(row["size"]), int(row["changed_ns"])))
    except (ValueError, TypeError, csv.Error):
        raise InputError(
            f"{path}, row {number}: cannot be read; correct it or remove it, or give another --output"
        ) from None
    return done, alarm


def _complete_length(content: bytes) -> int:
    """Length of the rows that have their line end; a line break inside quotes belongs to the name of a file."""
    end = content.rfind(b"\r\n")
    quotes = content.count(b'"', 0, end)
    while quotes % 2:
        before = content.rfind(b"\r\n", 0, end)
        quotes -= content.count(b'"', before, end)
        end = before
    return end + 2


def _file_state(path: Path) -> FileState | None:
    """The state of a file; `None` if there is none, as when it went away between two scans."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
