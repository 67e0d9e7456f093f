"""Judging files, and writing the verdicts: .csv, .parquet, or .html with the worst first."""

from __future__ import annotations

import csv
import heapq
import io
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from mekiki.console import Progress, silent
from mekiki.data.photo import Photo, list_photos_with_notes
from mekiki.errors import InputError
from mekiki.extras import require
from mekiki.judging.judge_photos import Inspector
from mekiki.judging.verdict import Verdict
from mekiki.report.judge_page import Card, Gallery, write_gallery
from mekiki.storage.atomic import replace_file

SUFFIXES = (".csv", ".parquet", ".html")
COLUMNS = tuple(Verdict(Photo(Path(), None), "").row())
MOST_CARDS = 300
"""Photographs on a page; beyond that the best of them are left out, and the page says so."""


def judge_paths(
    folder: Path,
    places: Sequence[Path],
    output: Path | None = None,
    *,
    on_verdict: Callable[[Verdict], None] | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Judge photographs, and write the verdicts to a file if one is named.

    Args:
        folder: the run folder.
        places: photographs, or folders of them.
        output: a .csv, .parquet or .html file.
        on_verdict: called with each verdict.
        progress: called after each block.

    Returns:
        `photographs`, how many are `OK`, `NG` and `unreadable`, the `guarantee`, `output` and `notes`; and, if no file
        is written and there are at most `MOST_CARDS`, the `verdicts`.

    Raises:
        InputError: the run is not calibrated, there is no photograph, or the file cannot be written.
    """
    if output is not None:
        check_output(output)
    paths, notes = list_photos_with_notes(places)
    inspector = Inspector.open(folder)
    rows: list[dict[str, Any]] = []
    with open_results(output, inspector) as results:
        html = output is not None and output.suffix == ".html"
        for verdict in inspector.judge_files(paths, anomaly_maps=html, progress=progress):
            results.add(verdict)
            if on_verdict is not None:
                on_verdict(verdict)
            if output is None and len(paths) <= MOST_CARDS:
                rows.append(verdict.to_dict())
    summary: dict[str, Any] = {
        "photographs": len(paths),
        **{name: results.counts[name] for name in ("OK", "NG", "unreadable")},
        "guarantee": inspector.metadata["guarantee"],
        "output": None if output is None else str(output),
        "notes": notes,
    }
    return summary | ({"verdicts": rows} if output is None and len(paths) <= MOST_CARDS else {})


class Results:
    """Collects verdicts for a file; made by `open_results`.

    Args:
        suffix: of the file; empty only counts.
        csv_file: where rows go at once, for .csv.

    Attributes:
        counts: how many of each verdict.
        worst: the `MOST_CARDS` worst readable photographs, as a heap.
        unreadable: the first `MOST_CARDS` that could not be read.
        rows: all rows, for .parquet.
    """

    def __init__(self, suffix: str = "", csv_file: TextIO | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.worst: list[tuple[tuple[bool, float, int], Verdict]] = []
        self.unreadable: list[Verdict] = []
        self.rows: list[dict[str, Any]] = []
        self._suffix = suffix
        self._csv = None if csv_file is None else csv.writer(csv_file)
        if self._csv is not None:
            self._csv.writerow(COLUMNS)

    def add(self, verdict: Verdict) -> None:
        """Add one verdict."""
        self.counts[verdict.verdict] += 1
        if self._csv is not None:
            self._csv.writerow(csv_row(verdict))
        elif self._suffix == ".parquet":
            self.rows.append(verdict.row())
        elif self._suffix == ".html":
            self._add_card(verdict)

    def _add_card(self, verdict: Verdict) -> None:
        if verdict.verdict == "unreadable":
            if len(self.unreadable) < MOST_CARDS:
                self.unreadable.append(verdict)
            return
        # NG before OK, because a correction may overrule a score; and of equals the first.
        item = ((verdict.verdict == "NG", verdict.score, -sum(self.counts.values())), verdict)
        if len(self.worst) < MOST_CARDS:
            heapq.heappush(self.worst, item)
        else:
            heapq.heappushpop(self.worst, item)


def check_output(path: Path) -> None:
    """Refuse a file that cannot be written, before anything is judged.

    Raises:
        InputError: its ending is none of `SUFFIXES`, its folder does not exist, or it is a folder itself.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: give a file that ends in .csv, .parquet or .html")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder; make it first")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a file")
    if path.suffix == ".parquet":
        require("pyarrow", extra="parquet", purpose=f"writing {path.name}")


@contextmanager
def open_results(path: Path | None, inspector: Inspector) -> Iterator[Results]:
    """Results that are written to `path` in one step when the block ends without an error; `None` only counts."""
    if path is None:
        yield Results()
        return
    with replace_file(path) as temporary:
        if path.suffix == ".csv":
            with temporary.open(
                "w", encoding="utf-8-sig", newline=""
            ) as handle:  # the byte order mark is for Excel
                yield Results(path.suffix, handle)
            return
        results = Results(path.suffix)
        yield results
        if path.suffix == ".html":
            write_gallery(temporary, make_gallery(results, inspector))
        else:
            arrow = require("pyarrow", extra="parquet", purpose="writing .parquet")
            parquet = require("pyarrow.parquet", extra="parquet", purpose="writing .parquet")
            parquet.write_table(
                arrow.Table.from_pylist(results.rows, schema=parquet_schema(arrow)), temporary
            )


def csv_row(verdict: Verdict) -> list[str]:
    """The row of a verdict for .csv; numbers have six digits, and are empty if not finite."""
    return [
        ("" if math.isnan(value) else f"{value:.6g}") if isinstance(value, float) else str(value)
        for value in verdict.row().values()
    ]


def csv_line(verdict: Verdict) -> str:
    """The same as text with its line end."""
    line = io.StringIO()
    csv.writer(line).writerow(csv_row(verdict))
    return line.getvalue()


def parquet_schema(arrow: Any) -> Any:
    """The columns of verdicts for pyarrow."""
    numbers = ("score", "p", "threshold")
    return arrow.schema([(name, arrow.float64() if name in numbers else arrow.string()) for name in COLUMNS])


def make_gallery(results: Results, inspector: Inspector) -> Gallery:
    """The content of the page: the worst first, then what could not be read."""
    references = inspector.references

    def thumbnail(name: str) -> NDArray[np.uint8] | None:
        return references.thumbnail(references.names.index(name)) if name in references.names else None

    cards = [
        Card(
            str(each.photo.path),
            each.verdict,
            each.score,
            each.p,
            each.why,
            each.defect_type,
            each.photo.pixels,
            each.anomaly_map,
            thumbnail(each.like_ok),
            thumbnail(each.like_ng),
            each.like_ok,
            each.like_ng,
        )
        for _, each in sorted(results.worst, key=lambda item: item[0], reverse=True)
    ]
    counts = results.counts
    judged = counts["OK"] + counts["NG"]
    subtitle = f"{counts['NG']:,} of {judged:,} photographs are NG"
    if counts["unreadable"]:
        subtitle += f"; {counts['unreadable']:,} cannot be read"
    if judged > len(cards):
        subtitle += f". Shown are the {len(cards)} worst"
    return Gallery(
        "Judged, the worst first",
        subtitle + ".",
        str(inspector.metadata["guarantee"]),
        cards,
        [(str(each.photo.path), each.photo.problem) for each in results.unreadable],
    )
