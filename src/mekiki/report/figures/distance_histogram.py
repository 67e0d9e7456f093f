"""Histograms of the distances of same-class and different-class pairs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mekiki.errors import InputError
from mekiki.report.figures.canvas import annotate_line, new_figure, style_axes, text_style
from mekiki.report.figures.palette import DIFFERENT, INK, PAPER, SAME

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def pair_distances(
    edges: ArrayLike,
    same: ArrayLike,
    different: ArrayLike,
    threshold: float = math.nan,
    eer: float = math.nan,
    axis_name: str = "Euclidean distance (embedding units)",
    title: str = "Distances of pairs",
) -> Figure:
    """Histograms of the distances of same-class and different-class pairs, and the threshold of equal errors.

    Args:
        edges: `[B + 1]`, rising edges of the bins, in the unit of the distance.
        same: `[B]`, pairs of one class in each bin (counts or densities).
        different: `[B]`, the same of pairs of two classes.
        threshold: distance at which both errors are equal; NaN draws no line.
        eer: equal error rate, a share from 0 to 1.
        axis_name: the distance with its unit, such as `"Euclidean distance (margin = 1)"`.
        title: set above the figure.

    Raises:
        InputError: edges and bins that do not fit together.

    Example:
        >>> figure = pair_distances([0, 1, 2], [8, 2], [1, 9], threshold=1.0, eer=0.15)
        >>> figure.axes[0].texts[0].get_text()
        'threshold 1: equal error rate 15.0 %'
    """
    from matplotlib.patheffects import withStroke

    bins, near, far = densities(edges, same, different)
    figure = new_figure(7.4, 4.2)
    axes = figure.add_subplot()
    for values, label, colour in ((near, "same class", SAME), (far, "different classes", DIFFERENT)):
        axes.stairs(values, bins, fill=True, color=colour, alpha=0.3)
        axes.stairs(values, bins, color=colour, linewidth=1.6, label=label)
    top = max(float(near.max()), float(far.max())) or 1.0
    axes.set_ylim(0, 1.2 * top)
    last, beyond = histogram_end(bins, near, far, threshold)
    axes.set_xlim(bins[0], last)
    if beyond:
        axis_name += f"; {100 * beyond:.1g} % of the pairs of a kind lie farther apart"
    style_axes(axes, axis_name, "probability density\n(per unit of distance)", title)
    if math.isfinite(threshold):
        axes.axvline(threshold, color=INK, linewidth=1.4, linestyle=(0, (4, 3)))
        text = f"threshold {threshold:.3g}"
        if math.isfinite(eer):
            text += f": equal error rate {100 * eer:.1f} %"
        style = text_style(9, path_effects=[withStroke(linewidth=3, foreground=PAPER)])
        annotate_line(axes, threshold, text, style, offset=-6 if threshold > (bins[0] + last) / 2 else 6)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def densities(
    edges: ArrayLike, same: ArrayLike, different: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Edges, and the two histograms scaled to area 1; an empty one stays zero.

    Raises:
        InputError: edges that do not rise, or not one more edge than bins.

    Example:
        >>> densities([0, 1, 3], [1, 2], [0, 0])[1].round(3).tolist()
        [0.333, 0.333]
    """
    bins = np.asarray(edges, dtype=np.float64)
    heights = [np.asarray(counts, dtype=np.float64) for counts in (same, different)]
    if bins.ndim != 1 or len(bins) < 2 or any(h.shape != (len(bins) - 1,) for h in heights):
        raise InputError(
            f"distance histogram: {bins.size} edges need {max(bins.size - 1, 1)} bins, "
            f"not {heights[0].size} and {heights[1].size}"
        )
    width = np.diff(bins)
    if not (width > 0).all():
        raise InputError("distance histogram: the edges must rise")
    near, far = (h / (h.sum() * width) if h.sum() > 0 else np.zeros_like(h) for h in heights)
    return bins, near, far


def histogram_end(
    bins: NDArray[np.float64], near: NDArray[np.float64], far: NDArray[np.float64], threshold: float
) -> tuple[float, float]:
    """The end of the distance axis, and the largest share of either kind of pair beyond it.

    At most 0.2 % of either kind is left out, or a few far pairs would squeeze the rest together.

    Example:
        >>> bins = np.arange(102.0)
        >>> crowd = np.array([0.999, *[0.0] * 99, 0.001])
        >>> end, beyond = histogram_end(bins, crowd, crowd, 0.5)
        >>> end, round(beyond, 4)
        (2.0, 0.001)
    """
    beyond = np.max([np.cumsum((h * np.diff(bins))[::-1])[::-1] for h in (near, far)], axis=0)
    needed = np.nonzero(beyond > 0.002)[0]
    last = min(int(needed[-1]) + 2 if len(needed) else len(bins) - 1, len(bins) - 1)
    if math.isfinite(threshold):
        last = max(last, min(int(np.searchsorted(bins, threshold)) + 1, len(bins) - 1))
    if bins[last] - bins[0] > 0.8 * (bins[-1] - bins[0]):
        last = len(bins) - 1
    return float(bins[last]), float(beyond[last]) if last < len(beyond) else 0.0
