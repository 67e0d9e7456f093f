"""The data that the page's script draws, as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.errors import InputError
from mekiki.report.content import ComparisonContent, History, PairDistances, ScatterContent
from mekiki.report.figures.charts import square
from mekiki.report.figures.distance_histogram import densities, histogram_end
from mekiki.report.figures.history import ACCURACIES, history_columns, rate_steps
from mekiki.report.figures.palette import ACCENT, DIFFERENT, SAME, class_style, overlap_colours
from mekiki.report.figures.projection import frame
from mekiki.report.figures.scatter_plot import check_points
from mekiki.report.thumbnails import sheet

MOST_POINTS = 4_000  # of one scatter: each carries its image


class Payload:
    """Collects what a page draws; equal sheets of thumbnails are stored once."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = [str(name) for name in class_names]
        self.plots: list[dict[str, Any]] = []
        self.sheets: list[dict[str, Any]] = []
        self._known: dict[str, int] = {}

    def data(self) -> dict[str, Any]:
        """All of it, for the page's JSON."""
        return {
            "classes": [
                {"name": name, "colour": class_style(i).colour, "symbol": class_style(i).symbol}
                for i, name in enumerate(self.class_names)
            ],
            "colours": {"same": SAME, "different": DIFFERENT, "accent": ACCENT, "overlap": overlap_colours()},
            "sheets": self.sheets,
            "plots": self.plots,
        }

    def scatter(self, target: str, content: ScatterContent, most: int) -> str:
        """Add a scatter of at most `most` points; gives the sentence about what is and is not drawn."""
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
        indices = rows if content.indices is None else np.asarray(content.indices)[rows]
        self.plots.append(
            {
                "kind": "scatter",
                "target": target,
                "x": points[rows, 0],
                "y": points[rows, 1],
                "label": labels[rows],
                "name": [str(content.names[int(row)]) for row in rows],
                "index": indices,
                "axes": list(content.axis_names),
                "frame": [shown.x, shown.y],
                "medians": [
                    [int(label), *np.median(points[labels == label], axis=0)] for label in np.unique(labels)
                ],
                "sheet": self._sheet(content.thumbnails, rows),
            }
        )
        return ". ".join(note[:1].upper() + note[1:] for note in notes) + ("." if notes else "")

    def _sheet(self, thumbnails: NDArray[np.uint8], rows: NDArray[np.int64]) -> int:
        made = sheet(thumbnails, rows)
        if made.address not in self._known:
            self._known[made.address] = len(self.sheets)
            self.sheets.append(
                {
                    "address": made.address,
                    "width": made.width,
                    "height": made.height,
                    "columns": made.columns,
                    "reduced": made.reduced,
                }
            )
        return self._known[made.address]

    def loss(self, target: str, history: History) -> None:
        """Add the loss curve, with its second panel where the history holds an accuracy."""
        columns = history_columns(history)
        kind = next((key for key in ACCURACIES if key in columns or f"val_{key}" in columns), None)
        panels = [_panel(columns, "train_loss", "val_loss", "loss (mean per sample)", 1.0)]
        if kind:
            panels.append(_panel(columns, kind, f"val_{kind}", f"{ACCURACIES[kind]} (%)", 100.0))
        self.plots.append(
            {
                "kind": "loss",
                "target": target,
                "epoch": columns["epoch"],
                "panels": panels,
                "rates": [[epoch, f"rate {rate:.3g}"] for epoch, rate in rate_steps(columns)],
            }
        )

    def distances(self, target: str, content: PairDistances) -> float:
        """Add the distance histograms; gives the share of pairs that lies beyond the axis."""
        bins, near, far = densities(content.edges, content.same, content.different)
        last, beyond = histogram_end(bins, near, far, content.threshold)
        keep = max(int(np.searchsorted(bins, last)), 1)
        said = f"threshold {content.threshold:.3g}"
        if math.isfinite(content.eer):
            said += f"<br>equal error rate {100 * content.eer:.1f} %"
        self.plots.append(
            {
                "kind": "distances",
                "target": target,
                "edges": bins[: keep + 1],
                "same": near[:keep],
                "different": far[:keep],
                "threshold": content.threshold,
                "said": said,
                "axis": content.axis_name,
            }
        )
        return beyond

    def overlap(self, target: str, matrix: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Add the overlap heat map; gives the matrix, checked."""
        values = square(matrix, self.class_names)
        self.plots.append({"kind": "overlap", "target": target, "matrix": values})
        return values

    def dots(self, target: str, content: ComparisonContent) -> list[str]:
        """Add one dot plot for each column of a comparison that has a number; gives the columns' keys."""
        drawn = []
        for column in content.columns:
            pairs = [entry.metrics.get(column.key, (None, None)) for entry in content.entries]
            mean = [scaled(pair[0], column.factor) for pair in pairs]
            if any(value is not None for value in mean):
                drawn.append(column.key)
                self.plots.append(
                    {
                        "kind": "dots",
                        "target": f"{target}-{len(drawn) - 1}",
                        "title": column.label,
                        "names": [entry.name for entry in content.entries],
                        "mean": mean,
                        "spread": [scaled(pair[1], column.factor) for pair in pairs],
                    }
                )
        return drawn


def scaled(value: float | None, factor: float) -> float | None:
    """The value times the factor, or None where it is missing or not finite.

    Example:
        >>> scaled(0.5, 100.0), scaled(None, 100.0), scaled(float("nan"), 1.0)
        (50.0, None, None)
    """
    return None if value is None or not math.isfinite(value) else factor * float(value)


def _panel(
    columns: Mapping[str, NDArray[np.float64]], train: str, val: str, unit: str, factor: float
) -> dict[str, Any]:
    return {
        "unit": unit,
        "curves": [
            {"name": name, "role": role, "values": factor * columns[key]}
            for key, name, role in ((train, "training", "same"), (val, "validation", "different"))
            if key in columns
        ],
    }
