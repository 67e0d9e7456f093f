"""The scatter of points by label, legible for colour-blind readers and with many classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mekiki.errors import InputError
from mekiki.report.figures.canvas import new_figure, style_axes, text_style
from mekiki.report.figures.fonts import class_labels
from mekiki.report.figures.palette import FAINT_INK, INK, PAPER, class_style
from mekiki.report.figures.projection import frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

MOST_POINTS = 20_000


def scatter(
    points: ArrayLike,
    labels: ArrayLike,
    class_names: Sequence[str],
    axis_names: tuple[str, str] = ("dimension 1", "dimension 2"),
    title: str = "",
    seed: int = 0,
) -> Figure:
    """Points by label, with one scale on both axes, a legend outside and each class named at its median.

    Colours are chosen for colour-blind readers (`palette.COLOURS`); from the eleventh class on the marks change,
    too. The frame covers 99.8 % of the points along each axis, and the title says how many lie outside. At most
    20,000 points are drawn, a random sample that the title names.

    Args:
        points: `[N, 2]`, finite.
        labels: `[N]`, positions in `class_names`.
        class_names: one name a class; a class without points is left out.
        axis_names: of the horizontal and the vertical axis.
        title: set above the figure.
        seed: of the sample and of the drawing order.

    Raises:
        InputError: shapes that do not fit, a label without a name, points that are not finite.

    Example:
        >>> figure = scatter([[0, 0], [1, 1], [3, 1]], [0, 0, 1], ["ok", "scratch"], title="by hand")
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['ok', 'scratch']
    """
    from matplotlib.patheffects import withStroke

    where, which = check_points(points, labels, class_names)
    shown = frame(where)
    remarks = []
    order = np.random.default_rng(seed).permutation(len(where))  # else the last class would hide the others
    if len(where) > MOST_POINTS:
        remarks.append(f"{MOST_POINTS:,} of {len(where):,} points drawn, at random")
    if shown.outside:
        remarks.append(
            f"{shown.outside:,} point{'s lie' if shown.outside > 1 else ' lies'} outside the frame"
        )
    medians = {int(label): np.median(where[which == label], axis=0) for label in np.unique(which)}
    # A large class bears its name in the middle; over a small or dense one the name would hide the points.
    crowd = {label: int((which == label).sum()) >= 60 for label in medians}
    wide = {label: float(np.ptp(where[which == label], axis=0).max()) for label in medians}
    order = order[:MOST_POINTS]
    where, which = where[order], which[order]

    names, tags = class_labels(class_names), class_labels(class_names, longest=14)
    columns = math.ceil(len(medians) / 20)
    longest = max((len(names[label]) for label in medians), default=0)
    figure = new_figure(6.6 + columns * (0.45 + 0.078 * min(longest, 24)), 6.6, title)
    axes = figure.add_subplot()
    size = float(np.clip(60_000 / max(len(where), 1), 6, 30))
    alpha = float(np.clip(4_000 / max(len(where), 1), 0.35, 0.8))
    styles = [class_style(label) for label in range(len(class_names))]
    for marker in dict.fromkeys(styles[label].marker for label in medians):
        chosen = np.array([styles[label].marker == marker for label in which], dtype=bool)
        axes.scatter(
            where[chosen, 0],
            where[chosen, 1],
            c=[styles[label].colour for label in which[chosen]],
            s=size,
            marker=marker,
            alpha=alpha,
            linewidths=0,
            rasterized=True,
        )
    axes.set_xlim(*shown.x)
    axes.set_ylim(*shown.y)
    axes.set_aspect("equal", adjustable="box")
    style_axes(axes, *axis_names)
    if remarks:
        axes.set_title("; ".join(remarks), **text_style(9, FAINT_INK), loc="left")
    _legend(axes, list(medians), names, columns)
    figure.draw_without_rendering()  # fixes the layout, which the extents of the texts depend on
    texts = [
        axes.annotate(
            tags[label],
            median,
            textcoords="offset pixels",
            xytext=(0, 0 if crowd[label] and wide[label] > 0.04 * (shown.x[1] - shown.x[0]) else 22),
            ha="center",
            va="center",
            path_effects=[withStroke(linewidth=3, foreground=PAPER)],
            **text_style(11 if len(medians) <= 20 else 8, INK, fontweight="bold"),
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": FAINT_INK, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0},
            zorder=5,
        )
        for label, median in medians.items()
    ]
    _separate_texts(axes, texts)
    return figure


def check_points(
    points: ArrayLike, labels: ArrayLike, class_names: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points `[N, 2]` and labels `[N]` as arrays, or an `InputError` in one line."""
    where = np.asarray(points, dtype=np.float64)
    which = np.asarray(labels, dtype=np.int64)
    if where.ndim != 2 or where.shape[1] != 2 or which.shape != (len(where),):
        raise InputError(
            f"scatter: points must be [N, 2] and labels [N], not {list(where.shape)} and {list(which.shape)}"
        )
    if not np.isfinite(where).all():
        raise InputError(f"scatter: {int((~np.isfinite(where)).any(axis=1).sum())} points are not finite")
    if len(which) and not 0 <= which.min() <= which.max() < len(class_names):
        raise InputError(
            f"scatter: labels run from {which.min()} to {which.max()}, but there are {len(class_names)} class names"
        )
    return where, which


def _legend(axes: Axes, present: list[int], names: list[str], columns: int) -> None:
    from matplotlib.lines import Line2D

    if not present:
        return
    styles = [class_style(label) for label in present]
    handles = [Line2D([], [], color=s.colour, marker=s.marker, linestyle="", markersize=6.5) for s in styles]
    legend = axes.legend(
        handles,
        ["class"] * len(handles),
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        borderaxespad=0,
        frameon=False,
        ncols=columns,
        handletextpad=0.3,
        columnspacing=1.2,
    )
    # Names are set afterwards: matplotlib drops legend entries whose name starts with an underscore.
    for text, label in zip(legend.get_texts(), present, strict=True):
        text.set(text=names[label], **text_style(9 if len(present) <= 40 else 7.5))


def _separate_texts(axes: Axes, texts: list[Annotation]) -> None:
    """Move texts until none covers another and all are inside the axes."""
    if not texts:
        return
    boxes = [text.get_window_extent() for text in texts]
    half = np.array([[box.width / 2 + 2, box.height / 2 + 1] for box in boxes])
    centres = np.array([[(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2] for box in boxes])
    area = axes.get_window_extent()
    low, high = np.array([area.x0, area.y0]) + half, np.array([area.x1, area.y1]) - half
    moves = separate_boxes(centres, half, low, np.maximum(low, high)) - centres
    for text, move, size in zip(texts, moves, half, strict=True):
        x, y = text.get_position()
        text.set_position((x + float(move[0]), y + float(move[1])))
        if (np.abs(move) < 2 * size).all() and text.arrow_patch is not None:
            text.arrow_patch.set_visible(False)


def separate_boxes(
    centres: NDArray[np.float64],
    half: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    rounds: int = 200,
) -> NDArray[np.float64]:
    """Move boxes apart within bounds, by a simple relaxation.

    Args:
        centres: `[n, 2]`, the preferred centres.
        half: `[n, 2]`, half their widths and heights.
        low: `[n, 2]`, the smallest centre allowed.
        high: `[n, 2]`, the largest centre allowed.
        rounds: maximum number of steps.

    Example:
        >>> half = np.full((2, 2), [10.0, 5.0])
        >>> at = separate_boxes(np.array([[50.0, 50.0], [52.0, 51.0]]), half, half, 100 - half)
        >>> bool(abs(at[0, 1] - at[1, 1]) > 9.9)
        True
    """
    at = np.clip(centres, low, high)
    # Two boxes in exactly one place need a direction: the earlier one moves down and to the left.
    order = np.sign(np.subtract.outer(np.arange(len(at)), np.arange(len(at))))[..., None]
    for _ in range(rounds):
        gap = at[:, None] - at[None]
        gap = np.where(gap == 0, 1e-6 * order, gap)
        overlap = half[:, None] + half[None] - np.abs(gap)
        clash = (overlap > 0).all(axis=2, keepdims=True) & (order != 0)
        if not clash.any():
            break
        shorter = np.stack([overlap[..., 0] < overlap[..., 1], overlap[..., 1] <= overlap[..., 0]], axis=2)
        push = np.where(clash & shorter, np.sign(gap) * overlap, 0)
        at = np.clip(at + 0.5 * push.sum(axis=1), low, high)
    return at
