"""The data that a page's script draws, as plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.errors import InputError
from mekiki.report.content import History, PairDistances, ScatterContent
from mekiki.report.figures.charts import overlap_values
from mekiki.report.figures.distance_histogram import densities, histogram_end
from mekiki.report.figures.palette import ACCENT, DIFFERENT, SAME, class_style, overlap_colours
from mekiki.report.figures.projection import frame
from mekiki.report.figures.scatter_plot import check_points
from mekiki.report.figures.training_curves import Panel, history_columns, history_panels, rate_steps
from mekiki.report.thumbnails import thumbnail_sheet

MOST_POINTS = 4_000
"""Points of one scatter, each of which carries its image."""
_MOST_OVERLAPPING = 8


class PlotData:
    """Collects the plots of a page; equal sheets of thumbnails are stored once."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = [str(name) for name in class_names]
        self.plots: list[dict[str, Any]] = []
        self.sheets: list[dict[str, Any]] = []

    def to_dict(self) -> dict[str, Any]:
        """Everything the script reads."""
        styles = [class_style(label) for label in range(len(self.class_names))]
        return {
            "classes": [
                {"name": name, "colour": style.colour, "symbol": style.symbol}
                for name, style in zip(self.class_names, styles, strict=True)
            ],
            "colours": {"same": SAME, "different": DIFFERENT, "accent": ACCENT, "overlap": overlap_colours()},
            "sheets": self.sheets,
            "plots": self.plots,
        }

    def add_scatter(self, target: str, content: ScatterContent, most: int = MOST_POINTS) -> str:
        """Add a scatter of at most `most` points; return the sentences on what is drawn and what is not."""
        points, labels = check_points(content.points, content.labels, self.class_names)
        if not len(points) == len(content.names) == len(content.thumbnails):
            raise InputError(
                f"report: {len(points)} points, {len(content.names)} names and {len(content.thumbnails)} thumbnails"
            )
        rows = np.arange(len(points))
        notes = [content.note] if content.note else []
        if len(points) > most:
            rows = np.sort(np.random.default_rng(0).choice(len(points), most, replace=False))
            notes.append(f"{most:,} of {len(points):,} images are drawn, chosen at random")
        shown = frame(points[rows])
        if shown.outside:
            notes.append(
                f"{shown.outside:,} point{'s' if shown.outside > 1 else ''} outside the first view "
                "(double-click the plot to see all)"
            )
        sheet = thumbnail_sheet(content.thumbnails, rows)._asdict()
        if sheet not in self.sheets:
            self.sheets.append(sheet)
        self.plots.append(
            {
                "kind": "scatter",
                "target": target,
                "x": points[rows, 0],
                "y": points[rows, 1],
                "label": labels[rows],
                "name": [str(content.names[int(row)]) for row in rows],
                "index": rows if content.indices is None else np.asarray(content.indices)[rows],
                "axes": list(content.axis_names),
                "frame": [shown.x, shown.y],
                "medians": [
                    [int(label), *np.median(points[labels == label], axis=0)] for label in np.unique(labels)
                ],
                "sheet": self.sheets.index(sheet),
            }
        )
        return " ".join(f"{note[:1].upper()}{note[1:]}." for note in notes)

    def add_loss(self, target: str, history: History) -> list[Panel]:
        """Add the loss curve, with a second panel where the history holds an accuracy; return the panels."""
        columns = history_columns(history)
        panels = history_panels(columns)
        roles = {"training": "same", "validation": "different"}
        self.plots.append(
            {
                "kind": "loss",
                "target": target,
                "epoch": columns["epoch"],
                "panels": [
                    {
                        "unit": panel.unit,
                        "curves": [
                            {"name": name, "role": roles[name], "values": values}
                            for name, values in panel.curves.items()
                        ],
                    }
                    for panel in panels
                ],
                "rates": [[epoch, f"rate {rate:.3g}"] for epoch, rate in rate_steps(columns)],
            }
        )
        return panels

    def add_distances(self, target: str, content: PairDistances) -> float:
        """Add the distance histograms; return the share of pairs beyond the end of the axis."""
        bins, same, different = densities(content.edges, content.same, content.different)
        last, beyond = histogram_end(bins, same, different, content.threshold)
        count = max(int(np.searchsorted(bins, last)), 1)
        text = f"threshold {content.threshold:.3g}"
        if math.isfinite(content.eer):
            text += f"<br>equal error rate {100 * content.eer:.1f} %"
        self.plots.append(
            {
                "kind": "distances",
                "target": target,
                "edges": bins[: count + 1],
                "same": same[:count],
                "different": different[:count],
                "threshold": content.threshold,
                "text": text,
                "axis": content.axis_name,
            }
        )
        return beyond

    def add_overlap(self, target: str, matrix: NDArray[np.floating[Any]]) -> list[tuple[str, str, float]]:
        """Add the overlap heat map; return the pairs that overlap most, as (row class, column class, share)."""
        values = overlap_values(matrix, self.class_names)
        self.plots.append({"kind": "overlap", "target": target, "matrix": values})
        known = np.where(np.isfinite(values), values, -1.0)
        np.fill_diagonal(known, -1.0)
        order = np.argsort(-known, axis=None, kind="stable")[:_MOST_OVERLAPPING]
        places = [divmod(int(place), len(known)) for place in order]
        return [
            (self.class_names[i], self.class_names[j], known[i, j]) for i, j in places if known[i, j] >= 0
        ]

    def add_dots(
        self,
        target: str,
        title: str,
        names: Sequence[str],
        values: Sequence[tuple[float | None, float | None]],
    ) -> None:
        """Add a dot plot of one (mean, standard deviation) a name."""
        means, deviations = ([pair[side] for pair in values] for side in (0, 1))
        self.plots.append(
            {
                "kind": "dots",
                "target": target,
                "title": title,
                "names": list(names),
                "mean": means,
                "spread": deviations,
            }
        )
