"""Verdicts into a file: .csv, .parquet, or .html with the worst first."""

from __future__ import annotations

import csv
import heapq
import io
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mekiki.console import Progress, silent
from mekiki.data.photo import list_photos_with_notes
from mekiki.errors import InputError
from mekiki.extras import require
from mekiki.judging.inspector import Inspector
from mekiki.judging.verdict import Verdict
from mekiki.report.judge_page import Card, Gallery, write_gallery
from mekiki.storage.atomic import replace_file

SUFFIXES = (".csv", ".parquet", ".html")
COLUMNS = (
    "file",
    "verdict",
    "score",
    "p",
    "threshold",
    "why",
    "kind",
    "like_ok",
    "like_ng",
    "problem",
    "note",
)
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
    """Judge photographs, and write what was said to a file if one is named.

    Args:
        folder: the run folder.
        places: photographs, or folders of them.
        output: a .csv, .parquet or .html file.
        on_verdict: told each verdict.
        progress: told after each block.

    Returns:
        `iter_photos`, how many are `OK`, `NG` and `unreadable`, the `guarantee`, `output`; and, where no file is
        written and there are at most `MOST_CARDS`, the `verdicts`.

    Raises:
        InputError: the run is not calibrated, there is no photograph, or the file cannot be written.
    """
    if output is not None:
        check_output(output)
    paths, skipped = list_photos_with_notes(places)
    inspector = Inspector.open(folder)
    rows: list[dict[str, Any]] = []
    with writing(output, inspector) as results:
        stream = inspector.judge_files(
            paths, anomaly_maps=output is not None and output.suffix == ".html", progress=progress
        )
        for verdict in stream:
            results.add(verdict)
            if on_verdict is not None:
                on_verdict(verdict)
            if output is None and len(rows) < MOST_CARDS:
                rows.append(verdict.to_dict())
    counts = results.counts
    told: dict[str, Any] = {
        "photographs": len(paths),
        **{name: counts[name] for name in ("OK", "NG", "unreadable")},
        "guarantee": inspector.metadata["guarantee"],
        "output": None if output is None else str(output),
        "notes": skipped,
    }
    if output is None and len(paths) <= MOST_CARDS:
        told["verdicts"] = rows
    return told


class Results:
    """Takes verdicts one by one; made by `writing`.

    Attributes:
        counts: how many of each verdict.
    """

    def __init__(self, path: Path | None) -> None:
        self.counts: Counter[str] = Counter()
        self.worst: list[tuple[tuple[bool, float, int], Verdict]] = []
        self.unreadable: list[Verdict] = []
        self.rows: list[dict[str, Any]] = []
        self._path = path
        self._table: Any = None

    def add(self, verdict: Verdict) -> None:
        """Take one."""
        self.counts[verdict.verdict] += 1
        if self._path is None:
            return
        if self._path.suffix == ".html":
            self._keep(verdict)
        elif self._path.suffix == ".csv":
            self._table.writerow(csv_row(verdict))
        else:
            self.rows.append(verdict.row())

    def _keep(self, verdict: Verdict) -> None:
        if verdict.verdict == "unreadable":
            if len(self.unreadable) < MOST_CARDS:
                self.unreadable.append(verdict)
            return
        # NG before OK, for a lesson may overrule a score; and of equals the first.
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
def writing(path: Path | None, inspector: Inspector) -> Iterator[Results]:
    """Results that are written to `path` in one step when the block ends well; `None` only counts."""
    results = Results(path)
    if path is None:
        yield results
        return
    check_output(path)
    with replace_file(path) as temporary:
        if path.suffix == ".csv":
            with temporary.open("w", encoding="utf-8-sig", newline="") as handle:  # the mark tells Excel
                results._table = csv.writer(handle)
                results._table.writerow(COLUMNS)
                yield results
            return
        yield results
        if path.suffix == ".html":
            write_gallery(temporary, gallery(results, inspector))
        else:
            _write_parquet(temporary, results.rows)


def csv_row(verdict: Verdict) -> list[str]:
    """One line of the table; numbers with six digits, nothing for those that are not."""
    return [
        ("" if math.isnan(value) else f"{value:.6g}") if isinstance(value, float) else str(value)
        for value in (verdict.row()[name] for name in COLUMNS)
    ]


def csv_line(verdict: Verdict) -> str:
    """The same as text with its end of line."""
    line = io.StringIO()
    csv.writer(line).writerow(csv_row(verdict))
    return line.getvalue()


def gallery(results: Results, inspector: Inspector) -> Gallery:
    """The page of a judgement: the worst first, then what could not be read."""
    examples = inspector.references
    place = {name: row for row, name in reversed(list(enumerate(examples.names)))}

    def example(name: str) -> Any:
        return None if name not in place else examples.thumbnail(place[name])

    cards = [
        Card(
            str(one.photo.path),
            one.verdict,
            one.score,
            one.p,
            one.why,
            one.defect_type,
            one.photo.pixels,
            one.anomaly_map,
            example(one.like_ok),
            example(one.like_ng),
            one.like_ok,
            one.like_ng,
        )
        for _, one in sorted(results.worst, key=lambda item: item[0], reverse=True)
    ]
    counts = results.counts
    judged = counts["OK"] + counts["NG"]
    said = f"{counts['NG']:,} of {judged:,} photographs are NG"
    if counts["unreadable"]:
        said += f"; {counts['unreadable']:,} cannot be read"
    if judged > len(cards):
        said += f". Shown are the {len(cards)} worst"
    return Gallery(
        "Judged, the worst first",
        said + ".",
        str(inspector.metadata["guarantee"]),
        cards,
        [(str(one.photo.path), one.photo.problem) for one in results.unreadable],
    )


def _write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    arrow = require("pyarrow", extra="parquet", purpose="writing .parquet")
    parquet = require("pyarrow.parquet", extra="parquet", purpose="writing .parquet")
    types = {"score": arrow.float64(), "p": arrow.float64(), "threshold": arrow.float64()}
    schema = arrow.schema([(name, types.get(name, arrow.string())) for name in COLUMNS])
    parquet.write_table(arrow.Table.from_pylist(rows, schema=schema), path)
