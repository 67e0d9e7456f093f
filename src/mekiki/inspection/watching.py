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

from mekiki.datasets.layout import image_files
from mekiki.errors import InputError
from mekiki.inspection.inspector import Inspector, Verdict
from mekiki.inspection.results import COLUMNS, csv_line

WATCHED = "watched.csv"


@dataclass(frozen=True)
class _State:
    """A file as it was at one look; equal twice running, and it is taken to be whole."""

    size: int
    changed: int


def watch(
    inspector: Inspector,
    folder: Path,
    output: Path | None = None,
    *,
    poll: float = 1.0,
    on_verdict: Callable[[Verdict], None],
    keep_on: Callable[[], bool] = lambda: True,
) -> int:
    """Judge photographs as they arrive in a folder, or in folders in it, until told to stop.

    A file is judged when it has not changed between two looks; one that is overwritten later is another photograph,
    and is judged too.

    Args:
        inspector: the calibrated judge.
        folder: where photographs arrive.
        output: the file of results, .csv; by default `watched.csv` in the run folder.
        poll: seconds between two looks.
        on_verdict: told each verdict, after it is on disk.
        keep_on: asked before each look.

    Returns:
        How many were judged.

    Raises:
        InputError: there is no such folder, or the file of results is of something else.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the one where photographs arrive")
    path = output or inspector.folder / WATCHED
    if path.suffix != ".csv":
        raise InputError(f"{path}: watching writes .csv, one line a photograph; give a file that ends so")
    done = _begin(path)
    seen: dict[Path, _State] = {}
    judged = 0
    with path.open("ab") as handle:
        while keep_on():
            ready = []
            for file in image_files(folder)[0]:
                state = _state(file)
                if state is None or (str(file), state.size, state.changed) in done:
                    continue
                if seen.get(file) == state:
                    ready.append((file, state))
                seen[file] = state
            for file, state in ready:
                verdict = inspector.judge_one(file)
                if _state(file) != state:
                    continue  # it was still being written after all
                line = f"{state.size},{state.changed},{csv_line(verdict)}"
                handle.write(line.encode())
                handle.flush()
                os.fsync(handle.fileno())
                done.add((str(file), state.size, state.changed))
                seen.pop(file, None)
                judged += 1
                on_verdict(verdict)
            if not ready and keep_on():
                time.sleep(poll)
    return judged


def _begin(path: Path) -> set[tuple[str, int, int]]:
    """What was judged before; the file is made, or its torn end taken away."""
    header = f"size,changed_ns,{','.join(COLUMNS)}\r\n".encode()
    if not path.exists() or path.stat().st_size == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(header)
        return set()
    content = path.read_bytes()
    if not content.startswith(header):
        raise InputError(f"{path}: is not a file that watching wrote; give another --output")
    whole = content.rfind(b"\r\n") + 2
    if whole < len(content):
        with path.open("r+b") as handle:
            handle.truncate(whole)
    rows = csv.DictReader(io.StringIO(content[:whole].decode("utf-8"), newline=""))
    return {(row["file"], int(row["size"]), int(row["changed_ns"])) for row in rows}


def _state(path: Path) -> _State | None:
    try:
        found = path.stat()
    except OSError:
        return None  # it went away between two looks
    return _State(found.st_size, found.st_mtime_ns)
