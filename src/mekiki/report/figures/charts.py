"""Overlap heat map, confused pairs and the comparison of losses; writing a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mekiki.errors import InputError
from mekiki.report.figures.canvas import new_figure, style_axes, text_style
from mekiki.report.figures.fonts import class_labels, drawable_text
from mekiki.report.figures.palette import ACCENT, FAINT_INK, GRID, INK, PAPER
from mekiki.storage.atomic import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OVERLAP_MEANING = (
    "probability that two of the row class lie farther apart\nthan one of the row and one of the column class"
)
MOST_ANNOTATED = 15
MOST_TICKS = 40


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG in one step: a crash leaves the old file or the new one.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "overlap.png"
        >>> save(overlap_matrix([[0.0]], ["ok"]), target)
        >>> target.read_bytes()[1:4]
        b'PNG'
    """
    with replace_file(path) as temporary:
        figure.savefig(temporary, format="png")


def overlap_matrix(
    matrix: ArrayLike, class_names: Sequence[str], title: str = "Overlap between classes"
) -> Figure:
    """Heat map of the overlap between classes; 0 is apart, 0.5 is one cloud.

    Up to 15 classes the cells carry their numbers in per cent. A cell without a number (NaN) is hatched.

    Args:
        matrix: `[C, C]`, the probability that two of the row class lie farther apart than one of the row and one
            of the column class.
        class_names: one name a class.
        title: set above the figure.

    Raises:
        InputError: a matrix that is not `[C, C]`.

    Example:
        >>> figure = overlap_matrix([[np.nan, 0.031], [0.024, np.nan]], ["4", "9"])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['3.1', '2.4']
    """
    values = overlap_values(matrix, class_names)
    count = len(values)
    side = float(np.clip(2.6 + 0.42 * count, 4.2, 9.0))
    figure = new_figure(side + 1.8, side + 0.4)
    axes = figure.add_subplot()
    style_axes(axes, "column class", "row class", title, grid=False)
    axes.patch.set(facecolor="#F3F4F5", edgecolor="#B8BFC6", hatch="////")
    image = axes.imshow(
        np.ma.masked_invalid(values), vmin=0, vmax=0.5, cmap="magma_r", interpolation="nearest"
    )
    names = class_labels(class_names, longest=16)
    step = math.ceil(count / MOST_TICKS)
    ticks = list(range(0, count, step))
    rotate = max((len(names[i]) for i in ticks), default=0) > 3 or len(ticks) > 20
    size = 9 if len(ticks) <= 20 else 7
    axes.set_xticks(ticks, [names[i] for i in ticks], **text_style(size, rotation=90 if rotate else 0))
    axes.set_yticks(ticks, [names[i] for i in ticks], **text_style(size))
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if count <= MOST_ANNOTATED:
        for row, column in zip(*np.nonzero(np.isfinite(values)), strict=True):
            share = values[row, column]
            axes.text(
                column,
                row,
                "0" if share == 0 else "<0.1" if share < 0.0005 else f"{100 * share:.1f}",
                **text_style(8, PAPER if share > 0.22 else INK, ha="center", va="center"),
            )
    above = np.nanmax(values, initial=0.0) > 0.5
    bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=28, extend="max" if above else "neither")
    bar.set_label(
        OVERLAP_MEANING + ("\n(numbers in the cells: %)" if count <= MOST_ANNOTATED else ""),
        **text_style(8.5),
    )
    bar.ax.tick_params(labelsize=8.5, labelcolor=INK)
    bar.outline.set_visible(False)
    return figure


def overlap_values(matrix: ArrayLike, class_names: Sequence[str]) -> NDArray[np.float64]:
    """The overlap matrix as floats, or an `InputError` when it is not `[C, C]`."""
    values = np.asarray(matrix, dtype=np.float64)
    if values.shape != (len(class_names), len(class_names)):
        raise InputError(
            f"overlap: {len(class_names)} classes need a matrix of that many rows and columns, not {list(values.shape)}"
        )
    return values


def confused_pairs(
    pixels_a: NDArray[np.uint8],
    pixels_b: NDArray[np.uint8],
    captions: Sequence[str],
    title: str = "Most confused pairs",
) -> Figure:
    """Image pairs side by side, a caption under each.

    Args:
        pixels_a: uint8 `[N, H, W]` or `[N, H, W, 3]`, the left images.
        pixels_b: the right images, of the same shape.
        captions: one a pair; line breaks are kept, long lines are wrapped.
        title: set above the figure.

    Raises:
        InputError: shapes that do not fit together.

    Example:
        >>> grey = np.zeros((2, 8, 8), np.uint8)
        >>> figure = confused_pairs(grey, grey + 99, ["4 and 9, distance 0.02", "7 and 9, distance 0.03"])
        >>> len(figure.axes)
        2
    """
    import textwrap

    check_pairs(pixels_a, pixels_b, captions)
    count = len(captions)
    columns = min(max(count, 1), 5)
    rows = math.ceil(count / columns)
    lines = [
        "\n".join(
            part for line in drawable_text(caption).split("\n") for part in textwrap.wrap(line, 30) or [""]
        )
        for caption in captions
    ]
    tallest = max((line.count("\n") + 1 for line in lines), default=1)
    shape = pixels_a.shape[1] / max(pixels_a.shape[2], 1) if count else 1.0
    figure = new_figure(
        max(2.35 * columns, 4.6), 0.6 + max(rows, 1) * (1.1 * min(shape, 2) + 0.25 + 0.15 * tallest), title
    )
    if not count:
        figure.text(0.5, 0.4, "no such pair", ha="center", **text_style())
        return figure
    for place, axes in enumerate(_panels(figure, count, columns, wspace=0.09, hspace=0.04)):
        left, right = _as_rgb(pixels_a[place]), _as_rgb(pixels_b[place])
        gap = np.full((left.shape[0], max(1, left.shape[1] // 12), 3), 255, np.uint8)
        small = max(left.shape[:2]) < 64
        axes.imshow(
            np.concatenate([left, gap, right], axis=1), interpolation="nearest" if small else "antialiased"
        )
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xlabel(lines[place], **text_style(8))
    return figure


def check_pairs(pixels_a: NDArray[np.uint8], pixels_b: NDArray[np.uint8], captions: Sequence[str]) -> None:
    """Raise an `InputError` when image pairs and captions do not fit together."""
    if not len(pixels_a) == len(pixels_b) == len(captions):
        raise InputError(
            f"pairs: {len(pixels_a)} left images, {len(pixels_b)} right images and {len(captions)} captions"
        )
    if pixels_a.shape != pixels_b.shape or pixels_a.ndim not in (3, 4) or pixels_a.dtype != np.uint8:
        raise InputError(
            "pairs: images must be uint8 [N, H, W] or [N, H, W, 3] and of one size, "
            f"not {pixels_a.dtype} {list(pixels_a.shape)} and {pixels_b.dtype} {list(pixels_b.shape)}"
        )


def _as_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels


def comparison(
    names: Sequence[str],
    metrics: Mapping[str, tuple[ArrayLike, ArrayLike]],
    title: str = "Losses side by side (mean ± standard deviation over seeds)",
) -> Figure:
    """Small multiples, one a metric: a dot for each loss with its standard deviation over seeds.

    Args:
        names: `n` losses.
        metrics: name of the metric, with its unit, to (means `[n]`, standard deviations `[n]`); NaN draws nothing.
        title: set above the figure.

    Raises:
        InputError: arrays of another length than `names`.

    Example:
        >>> figure = comparison(["siamese", "triplet"], {"5-NN accuracy (%)": ([96.7, 97.1], [0.1, 0.2])})
        >>> figure.axes[0].get_title(loc="left")
        '5-NN accuracy (%)'
    """
    for metric, values in metrics.items():
        lengths = [np.asarray(value).size for value in values]
        if lengths != [len(names)] * 2:
            raise InputError(f"comparison: {metric} has {lengths} values for {len(names)} losses")
    columns = min(max(len(metrics), 1), 4)
    rows = math.ceil(max(len(metrics), 1) / columns)
    figure = new_figure(1.4 + 2.6 * columns, 0.6 + rows * (0.75 + 0.42 * len(names)), title)
    labels = class_labels(names, longest=22)
    panels = _panels(figure, len(metrics), columns, wspace=0.05, hspace=0.09)
    for axes, (metric, values) in zip(panels, metrics.items(), strict=True):
        mean, deviation = (np.asarray(side, dtype=np.float64) for side in values)
        _draw_dots(axes, mean, deviation)
        style_axes(axes)
        axes.set_title(drawable_text(metric), **text_style(9.5), loc="left")
        axes.grid(False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_yticks(range(len(names)), labels, **text_style(9))
        axes.set_ylim(len(names) - 0.4, -0.75)
    return figure


def _panels(figure: Figure, count: int, columns: int, **space: float) -> list[Axes]:
    """`count` panels in rows of `columns`, which share the vertical axis."""
    figure.get_layout_engine().set(**space)  # type: ignore[union-attr]
    rows = math.ceil(max(count, 1) / columns)
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for spare in panels[count:]:
        spare.remove()
    return panels[:count]


def _draw_dots(axes: Axes, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> None:
    from matplotlib.ticker import MaxNLocator

    rows = np.arange(len(mean))
    bars = np.nan_to_num(deviation)
    axes.hlines(rows, 0, 1, transform=axes.get_yaxis_transform(), color=GRID, linewidth=0.8, zorder=0)
    axes.errorbar(mean, rows, xerr=bars, fmt="o", color=ACCENT, capsize=3, markersize=5.5)
    if not np.isfinite(mean).any():
        axes.text(0.5, 0.5, "–", transform=axes.transAxes, **text_style())
        return
    low, high = float(np.nanmin(mean - bars)), float(np.nanmax(mean + bars))
    margin = 0.22 * (high - low) or max(0.05 * abs(high), 0.5)
    axes.set_xlim(low - margin, high + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    for row in rows[np.isfinite(mean)]:
        axes.annotate(
            f"{mean[row]:.4g}" + (f" ± {deviation[row]:.2g}" if deviation[row] > 0 else ""),
            (float(mean[row]), float(row)),
            xytext=(0, 5),
            textcoords="offset points",
            **text_style(7.5, FAINT_INK, ha="center", va="bottom"),
        )
