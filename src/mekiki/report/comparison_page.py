"""The side-by-side report of several losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mekiki.report.content import Column, ComparisonContent, ComparisonEntry
from mekiki.report.formatting import script_json
from mekiki.report.plot_data import MOST_POINTS, PlotData
from mekiki.report.render import write_page

_MOST_POINTS_OF_ALL = 8_000


def write_comparison(path: Path, content: ComparisonContent) -> None:
    """Write a side-by-side report of several losses as one HTML file that needs no other file and no network.

    Args:
        path: the file.
        content: what it shows. Where the entries share their test images, the images are stored once.

    Raises:
        InputError: parts of the content do not fit together.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "comparison.html"
        >>> from mekiki.report.content import ComparisonEntry
        >>> siamese = ComparisonEntry("siamese", {"knn": (0.967, 0.001)})
        >>> triplet = ComparisonEntry("triplet", {"knn": (0.971, 0.002)})
        >>> write_comparison(target, ComparisonContent("Two losses", ["ok", "ng"], [siamese, triplet]))
        >>> "96.70 ± 0.10" in target.read_text(encoding="utf-8")
        True
    """
    plots = PlotData(content.class_names)
    names = [entry.name for entry in content.entries]
    columns: list[dict[str, Any]] = []
    for column in content.columns:
        values = [(_scale(entry, column, 0), _scale(entry, column, 1)) for entry in content.entries]
        means = [mean for mean, _ in values]
        if any(mean is not None for mean in means):
            plots.add_dots(f"dots-{len(columns)}", column.label, names, values)
            columns.append({"column": column, "values": values, "best": _best(means, column.better)})
    most = min(MOST_POINTS, _MOST_POINTS_OF_ALL // max(len(names), 1))
    entries = []
    for place, entry in enumerate(content.entries):
        note, panels, overlap = None, [], None
        if entry.test is not None and len(entry.test.points):
            note = plots.add_scatter(f"plot-test-{place}", entry.test, most)
        if any(map(len, entry.history.values())):
            panels = plots.add_loss(f"plot-loss-{place}", entry.history)
        if entry.overlap is not None:
            overlap = plots.add_overlap(f"plot-overlap-{place}", entry.overlap)
        if entry.note or note is not None or panels or overlap is not None:
            entries.append(
                {"place": place, "entry": entry, "note": note, "panels": panels, "overlap": overlap}
            )
    write_page(
        path,
        "comparison.html",
        content=content,
        data=script_json(plots.to_dict()),
        columns=columns,
        entries=entries,
    )


def _scale(entry: ComparisonEntry, column: Column, side: int) -> float | None:
    """Mean (side 0) or standard deviation (side 1) in the column's unit; `None` where it is missing."""
    value = entry.metrics.get(column.key, (None, None))[side]
    return None if value is None or not math.isfinite(value) else column.factor * float(value)


def _best(means: Sequence[float | None], better: str) -> set[int]:
    """Places of the best mean; none where all are equal, or where neither end of the scale is better."""
    known = [mean for mean in means if mean is not None]
    if not better or len(known) < 2:
        return set()
    best = max(known) if better == "high" else min(known)
    places = {place for place, mean in enumerate(means) if mean == best}
    return places if len(places) < len(known) else set()
