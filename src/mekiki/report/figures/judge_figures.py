"""Figures of a calibrated judge: scores of OK and NG parts, the trade-off of thresholds, and factor effects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from mekiki.errors import InputError
from mekiki.report.figures.canvas import annotate_line, new_figure, style_axes, text_style
from mekiki.report.figures.fonts import class_labels
from mekiki.report.figures.palette import ACCENT, DIFFERENT, FAINT_INK, INK, SAME

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BINS = 60


def score_histogram(
    ok: ArrayLike, ng: ArrayLike = (), threshold: float | None = None, title: str = "Distance from good"
) -> Figure:
    """Histogram of the scores of OK and NG parts with the threshold, on a signed logarithmic scale.

    Args:
        ok: scores of OK parts, `[n]`.
        ng: scores of NG parts, `[m]`.
        threshold: above it a part is NG; `None` draws no line.
        title: set above the figure.

    Raises:
        InputError: no OK part, or scores that are not finite.

    Example:
        >>> figure = score_histogram([0.5, 0.7, 1.1], [4.0, 9.0], threshold=2.0)
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['NG above 2']
    """
    good, bad = np.asarray(ok, np.float64).ravel(), np.asarray(ng, np.float64).ravel()
    every = np.concatenate([good, bad])
    if not len(good) or not np.isfinite(every).all():
        raise InputError("scores: give finite numbers, and at least one OK part")
    # Scores are unbounded: on a linear scale one very bad part would press all others against the axis.
    unit = float(np.median(np.abs(good))) or 1.0
    low, high = float(every.min()), float(every.max())
    edges = _signed_exp(np.linspace(_signed_log(low / unit), _signed_log(high / unit), _BINS + 1)) * unit
    edges[0], edges[-1] = low, high  # rounding must not leave a part outside
    if not high > low:
        edges = np.array([low - 0.5, low + 0.5])
    figure = new_figure(7.4, 3.8)
    axes = figure.add_subplot()
    for values, label, colour in ((good, "OK", SAME), (bad, "NG", DIFFERENT)):
        if len(values):
            shares = np.histogram(values, edges)[0] / len(values)
            axes.stairs(
                shares, edges, fill=True, color=colour, alpha=0.35, label=f"{label} ({len(values):,})"
            )
            axes.stairs(shares, edges, color=colour, linewidth=1.3)
    scale: Any = (lambda x: _signed_log(x / unit), lambda y: _signed_exp(y) * unit)
    axes.set_xscale("function", functions=scale)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xticks(_ticks(unit, float(edges[0]), float(edges[-1])))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    axes.minorticks_off()
    style_axes(axes, "score (larger = farther from good)", "share of the parts", title)
    if threshold is not None:
        axes.axvline(threshold, color=INK, linewidth=1.2, linestyle="--")
        annotate_line(axes, threshold, f"NG above {threshold:.3g}", text_style(8.5))
    axes.legend(frameon=False, prop={"size": 8.5}, loc="upper right")
    return figure


def trade_off_curve(
    false_rejects: ArrayLike,
    misses: ArrayLike,
    chosen: tuple[float, float] | None = None,
    title: str = "What each threshold costs",
) -> Figure:
    """Bad parts passed against good parts rejected, at every threshold.

    Args:
        false_rejects: shares of OK parts rejected, `[T]`.
        misses: shares of NG parts passed, `[T]`.
        chosen: both at the chosen threshold; `None` marks nothing.
        title: set above the figure.

    Raises:
        InputError: the two are not of one length.

    Example:
        >>> figure = trade_off_curve([1.0, 0.1, 0.0], [0.0, 0.2, 1.0], chosen=(0.1, 0.2))
        >>> figure.axes[0].texts[0].get_text()
        'chosen: 10 % rejected, 20 % missed'
    """
    x, y = 100 * np.asarray(false_rejects, np.float64), 100 * np.asarray(misses, np.float64)
    if x.shape != y.shape or x.ndim != 1 or not len(x):
        raise InputError(f"false rejects {list(x.shape)} and misses {list(y.shape)}: give as many of each")
    figure = new_figure(5.2, 4.4)
    axes = figure.add_subplot()
    axes.plot(x, y, color=ACCENT, linewidth=1.8, drawstyle="steps-post")
    style_axes(axes, "OK parts rejected, % (overkill)", "NG parts passed, % (escape)", title)
    # Linear below 1 %, logarithmic above.
    for scale in (axes.set_xscale, axes.set_yscale):
        scale("symlog", linthresh=1.0, linscale=0.5)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    ticks = [0, 1, 2, 5, 10, 20, 50, 100]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    if chosen is not None:
        place = (100 * chosen[0], 100 * chosen[1])
        axes.plot(*place, "o", color=INK, markersize=6, clip_on=False, zorder=5)
        axes.annotate(
            f"chosen: {place[0]:.3g} % rejected, {place[1]:.3g} % missed",
            place,
            xytext=(8, 8),
            textcoords="offset points",
            **text_style(8.5),
        )
    return figure


def factor_effects(
    names: Sequence[str], level_means: ArrayLike, title: str = "Factor effects: what each item brings"
) -> Figure:
    """The factor-effect chart of item selection: the mean S/N ratio with each item and without it.

    A line that falls from left to right is an item worth keeping.

    Args:
        names: of the items, `[k]`.
        level_means: mean S/N ratio with and without each item, dB, `[k, 2]`; NaN for items that were left out.
        title: set above the figure.

    Raises:
        InputError: names and means that do not fit together.

    Example:
        >>> figure = factor_effects(["length", "width"], [[3.0, 1.0], [1.5, 2.5]])
        >>> [line.get_color() == ACCENT for line in figure.axes[0].lines]
        [True, False]
    """
    means = np.asarray(level_means, np.float64)
    if means.shape != (len(names), 2) or not len(names):
        raise InputError(f"level means {list(means.shape)} for {len(names)} items; give [k, 2]")
    figure = new_figure(max(4.0, 1.2 + 0.45 * len(names)), 3.8)
    axes = figure.add_subplot()
    for place, (used, left_out) in enumerate(means):
        colour = ACCENT if used > left_out else FAINT_INK
        axes.plot(
            [place - 0.22, place + 0.22], [used, left_out], "o-", color=colour, markersize=4, linewidth=1.6
        )
    style_axes(axes, "left dot: used; right dot: left out", "mean S/N ratio of NG parts, dB", title)
    turned: dict[str, Any] = {"rotation": 60, "ha": "right"} if max(map(len, names)) * len(names) > 60 else {}
    axes.set_xticks(range(len(names)), class_labels(names, longest=16), **text_style(8.5, **turned))
    axes.grid(False, axis="x")
    return figure


def _signed_log(values: Any) -> Any:
    """ln(1 + |x|), with the sign of x."""
    return np.sign(values) * np.log1p(np.abs(values))


def _signed_exp(values: Any) -> Any:
    """The inverse of `_signed_log`."""
    return np.sign(values) * np.expm1(np.abs(values))


def _ticks(unit: float, low: float, high: float) -> list[float]:
    """Round numbers, far enough apart to be legible; 0 has priority."""
    powers = range(
        math.floor(math.log10(unit)) - 1, math.ceil(math.log10(max(abs(low), abs(high)) or 1.0)) + 1
    )
    magnitudes = [0.0, *(lead * 10.0**power for lead in (1, 2, 5) for power in powers)]
    gap = 0.07 * (_signed_log(high / unit) - _signed_log(low / unit))
    ticks: list[float] = []
    for tick in (sign * magnitude for magnitude in magnitudes for sign in (1, -1)):
        place = _signed_log(tick / unit)
        if low <= tick <= high and all(abs(place - _signed_log(other / unit)) >= gap for other in ticks):
            ticks.append(tick)
    return sorted(ticks)
