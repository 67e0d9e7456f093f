"""The report of one run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mekiki.report.content import ReportContent
from mekiki.report.figures.charts import check_pairs
from mekiki.report.formatting import flatten, script_json
from mekiki.report.plot_data import PlotData
from mekiki.report.render import write_page
from mekiki.report.thumbnails import data_url, shrink

_PAIR_SIDE = 160
"""Pixels on the longer side of an image of a pair."""


def write_report(path: Path, content: ReportContent) -> None:
    """Write the report of one run as one HTML file that needs no other file and no network.

    The file holds plotly.js (about 5 MB) and the thumbnails of at most 4,000 images a scatter. More points than that
    are thinned at random, and the page says so.

    Args:
        path: the file, usually `report.html` in the run folder.
        content: what it shows.

    Raises:
        InputError: parts of the content do not fit together.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "report.html"
        >>> write_report(target, ReportContent("By hand", ["ok", "ng"], history={"train_loss": [0.2, 0.1]}))
        >>> "<h1>By hand</h1>" in target.read_text(encoding="utf-8")
        True
    """
    plots = PlotData(content.class_names)
    scatters = [
        {"side": side, "count": len(points.points), "note": plots.add_scatter(f"plot-{side}", points)}
        for side, points in (("test", content.test), ("training", content.train))
        if points is not None and len(points.points)
    ]
    panels = plots.add_loss("plot-loss", content.history) if any(map(len, content.history.values())) else []
    seconds = [
        value for value in content.history.get("seconds", ()) if value is not None and np.isfinite(value)
    ]
    beyond = 0.0 if content.distances is None else plots.add_distances("plot-distances", content.distances)
    overlap = None if content.overlap is None else plots.add_overlap("plot-overlap", content.overlap)
    for pairs in content.confused:
        check_pairs(pairs.pixels_a, pairs.pixels_b, pairs.captions)
    write_page(
        path,
        "run.html",
        content=content,
        data=script_json(plots.to_dict()),
        scatters=scatters,
        panels=panels,
        seconds_per_epoch=float(np.mean(seconds)) if seconds else None,
        beyond=beyond,
        overlap=overlap,
        pair_side=_PAIR_SIDE,
        pair_image=lambda pixels: data_url(shrink(pixels, _PAIR_SIDE)),
        metrics=flatten(content.metrics),
    )
