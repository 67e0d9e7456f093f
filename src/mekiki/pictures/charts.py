"""Loss curve, distance histograms, overlap heat map, confused pairs and the comparison of losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mekiki.errors import InputError
from mekiki.files import replaced_file
from mekiki.pictures.canvas import dress, lettering, new_figure
from mekiki.pictures.lettering import class_labels, legible
from mekiki.pictures.palette import ACCENT, DIFFERENT, FAINT_INK, GRID, INK, PAPER, SAME

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OVERLAP_MEANING = (
    "probability that two of the row class lie farther apart\nthan one of the row and one of the column class"
)
ACCURACIES = {"accuracy": "accuracy", "pair_accuracy": "pairs judged rightly"}
MOST_ANNOTATED = 15
MOST_TICKS = 40


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG in one step: a crash leaves the old file or the new one.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "loss.png"
        >>> save(loss_curve({"epoch": [1], "train_loss": [0.3]}), target)
        >>> target.read_bytes()[1:4]
        b'PNG'
    """
    with replaced_file(path) as temporary:
        figure.savefig(temporary, format="png")


def loss_curve(history: Mapping[str, Sequence[float | None]], title: str = "Loss by epoch") -> Figure:
    """Training and validation loss by epoch; accuracy below where the history holds it.

    Args:
        history: columns of one length: `epoch`, `train_loss`, and optionally `val_loss`, `lr` (its steps are
            marked), `accuracy` and `val_accuracy`, or `pair_accuracy` and `val_pair_accuracy` (shares, 0 to 1).
            `None` and NaN are gaps.
        title: set above the figure.

    Raises:
        InputError: no epochs, or columns of different lengths.

    Example:
        >>> figure = loss_curve({"epoch": [1, 2], "train_loss": [0.05, 0.03], "accuracy": [0.8, 0.9]})
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['loss (mean per sample)', 'accuracy (%)']
    """
    columns = history_columns(history)
    kind = next((key for key in ACCURACIES if key in columns or f"val_{key}" in columns), None)
    figure = new_figure(7.4, 6.2 if kind else 4.2)
    panels = figure.subplots(2 if kind else 1, 1, sharex=True, squeeze=False)[:, 0]
    _curves(panels[0], columns, "train_loss", "val_loss", 1.0)
    dress(panels[0], "" if kind else "epoch", "loss (mean per sample)", title)
    panels[0].set_ylim(bottom=0 if _least(columns) >= 0 else None)
    if kind:
        _curves(panels[1], columns, kind, f"val_{kind}", 100.0)
        dress(panels[1], "epoch", f"{ACCURACIES[kind]} (%)")
    _rate_steps(panels[0], columns)
    _epoch_ticks(panels[-1], columns["epoch"])
    return figure


def history_columns(history: Mapping[str, Sequence[float | None]]) -> dict[str, NDArray[np.float64]]:
    """The columns of a history as float arrays with NaN for gaps; columns without a finite value are left out.

    Raises:
        InputError: no epochs, or columns of different lengths.

    Example:
        >>> history_columns({"train_loss": [0.2, None], "val_loss": [None, None]})
        {'train_loss': array([0.2, nan]), 'epoch': array([1., 2.])}
    """
    columns = {
        name: np.array([math.nan if value is None else float(value) for value in values])
        for name, values in history.items()
    }
    lengths = {name: len(values) for name, values in columns.items()}
    if not lengths or not max(lengths.values()):
        raise InputError("loss curve: the history holds no epochs")
    if len(set(lengths.values())) > 1:
        raise InputError(f"loss curve: the columns differ in length: {lengths}")
    columns = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    columns.setdefault("epoch", np.arange(1.0, max(lengths.values()) + 1))
    return columns


def rate_steps(columns: Mapping[str, NDArray[np.float64]]) -> list[tuple[float, float]]:
    """Where the learning rate changes, as (epoch, new rate): none where it changes at most epochs.

    Example:
        >>> rate_steps({"epoch": np.arange(1.0, 5), "lr": np.array([0.1, 0.1, 0.01, 0.01])})
        [(3.0, 0.01)]
    """
    if "lr" not in columns:
        return []
    rate = columns["lr"]
    places = [i for i in range(1, len(rate)) if np.isfinite(rate[i]) and rate[i] != rate[i - 1]]
    if len(places) > max(1, (len(rate) - 1) // 2) or len(places) > 8:  # a continuous schedule has no steps
        return []
    return [(float(columns["epoch"][i]), float(rate[i])) for i in places]


def _least(columns: Mapping[str, NDArray[np.float64]]) -> float:
    values = [columns[name] for name in ("train_loss", "val_loss") if name in columns]
    return min((float(np.nanmin(column)) for column in values), default=0.0)


def _curves(
    axes: Axes, columns: Mapping[str, NDArray[np.float64]], train: str, val: str, factor: float
) -> None:
    few = len(columns["epoch"]) <= 40
    for name, label, colour, marker in ((train, "training", SAME, "o"), (val, "validation", DIFFERENT, "s")):
        if name in columns:
            axes.plot(
                columns["epoch"],
                factor * columns[name],
                color=colour,
                marker=marker if few else None,
                markersize=4.5,
                linewidth=1.8,
                label=label,
            )
    if axes.lines:
        axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    else:
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", **lettering())


def _rate_steps(axes: Axes, columns: Mapping[str, NDArray[np.float64]]) -> None:
    for epoch, rate in rate_steps(columns):
        axes.axvline(epoch - 0.5, color=FAINT_INK, linewidth=1, linestyle=(0, (3, 3)))
        axes.annotate(
            f"rate {rate:.3g}",
            (epoch - 0.5, 0.03),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            **lettering(8, FAINT_INK, rotation=90, va="bottom"),
        )


def _epoch_ticks(axes: Axes, epochs: NDArray[np.float64]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12, min_n_ticks=1))
    axes.set_xlim(float(epochs.min()) - 0.6, float(epochs.max()) + 0.6)


def pair_distances(
    edges: ArrayLike,
    same: ArrayLike,
    different: ArrayLike,
    threshold: float = math.nan,
    eer: float = math.nan,
    axis_name: str = "Euclidean distance (embedding units)",
    title: str = "Distances of pairs",
) -> Figure:
    """How far apart pairs of one class and pairs of two classes lie, and the threshold of equal errors.

    Args:
        edges: `[B + 1]`, rising edges of the bins, in the unit of the distance.
        same: `[B]`, how many pairs of one class fall into each bin (counts or densities).
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
    dress(axes, axis_name, "probability density\n(per unit of distance)", title)
    if math.isfinite(threshold):
        axes.axvline(threshold, color=INK, linewidth=1.4, linestyle=(0, (4, 3)))
        right = threshold > (bins[0] + last) / 2
        axes.annotate(
            f"threshold {threshold:.3g}"
            + (f": equal error rate {100 * eer:.1f} %" if math.isfinite(eer) else ""),
            (threshold, 0.97),
            xycoords=("data", "axes fraction"),
            xytext=(-6 if right else 6, 0),
            textcoords="offset points",
            path_effects=[withStroke(linewidth=3, foreground=PAPER)],
            **lettering(9, INK, ha="right" if right else "left", va="top"),
        )
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
    """Where the distance axis may end, and the largest share of either kind of pair that lies beyond.

    At most 0.2 % of either kind is left out, so that a few far pairs do not squeeze the rest together.

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
    values = square(matrix, class_names)
    count = len(values)
    side = float(np.clip(2.6 + 0.42 * count, 4.2, 9.0))
    figure = new_figure(side + 1.8, side + 0.4)
    axes = figure.add_subplot()
    dress(axes, "column class", "row class", title, grid=False)
    axes.patch.set(facecolor="#F3F4F5", edgecolor="#B8BFC6", hatch="////")
    drawn = axes.imshow(
        np.ma.masked_invalid(values), vmin=0, vmax=0.5, cmap="magma_r", interpolation="nearest"
    )
    names = class_labels(class_names, longest=16)
    step = math.ceil(count / MOST_TICKS)
    ticks = list(range(0, count, step))
    turned = max((len(names[i]) for i in ticks), default=0) > 3 or len(ticks) > 20
    size = 9 if len(ticks) <= 20 else 7
    axes.set_xticks(ticks, [names[i] for i in ticks], **lettering(size, rotation=90 if turned else 0))
    axes.set_yticks(ticks, [names[i] for i in ticks], **lettering(size))
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
                **lettering(8, PAPER if share > 0.22 else INK, ha="center", va="center"),
            )
    bar = figure.colorbar(
        drawn, ax=axes, shrink=0.8, aspect=28, extend="max" if _above(values) else "neither"
    )
    bar.set_label(
        OVERLAP_MEANING + ("\n(numbers in the cells: %)" if count <= MOST_ANNOTATED else ""), **lettering(8.5)
    )
    bar.ax.tick_params(labelsize=8.5, labelcolor=INK)
    bar.outline.set_visible(False)
    return figure


def square(matrix: ArrayLike, class_names: Sequence[str]) -> NDArray[np.float64]:
    """The overlap matrix as floats, or an `InputError` when it is not `[C, C]`."""
    values = np.asarray(matrix, dtype=np.float64)
    if values.shape != (len(class_names), len(class_names)):
        raise InputError(
            f"overlap: {len(class_names)} classes need a matrix of that many rows and columns, not {list(values.shape)}"
        )
    return values


def _above(values: NDArray[np.float64]) -> bool:
    finite = values[np.isfinite(values)]
    return bool(finite.size and finite.max() > 0.5)


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
        "\n".join(part for line in legible(caption).split("\n") for part in textwrap.wrap(line, 30) or [""])
        for caption in captions
    ]
    tallest = max((line.count("\n") + 1 for line in lines), default=1)
    shape = pixels_a.shape[1] / max(pixels_a.shape[2], 1) if count else 1.0
    figure = new_figure(
        max(2.35 * columns, 4.6), 0.6 + max(rows, 1) * (1.1 * min(shape, 2) + 0.25 + 0.15 * tallest)
    )
    figure.suptitle(legible(title), **lettering(11, fontweight="bold"), x=0.01, ha="left")
    if not count:
        figure.text(0.5, 0.4, "no such pair", ha="center", **lettering())
        return figure
    figure.get_layout_engine().set(wspace=0.09, hspace=0.04)  # type: ignore[union-attr, call-arg]
    panels: Any = figure.subplots(rows, columns, squeeze=False)
    for place, axes in enumerate(panels.flat):
        if place >= count:
            axes.remove()
            continue
        left, right = _three(pixels_a[place]), _three(pixels_b[place])
        gap = np.full((left.shape[0], max(1, left.shape[1] // 12), 3), 255, np.uint8)
        small = max(left.shape[:2]) < 64
        axes.imshow(
            np.concatenate([left, gap, right], axis=1), interpolation="nearest" if small else "antialiased"
        )
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xlabel(lines[place], **lettering(8))
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


def _three(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
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
    figure = new_figure(1.4 + 2.6 * columns, 0.6 + rows * (0.75 + 0.42 * len(names)))
    figure.suptitle(legible(title), **lettering(11, fontweight="bold"), x=0.01, ha="left")
    figure.get_layout_engine().set(wspace=0.05, hspace=0.09)  # type: ignore[union-attr, call-arg]
    panels: Any = figure.subplots(rows, columns, squeeze=False, sharey=True)
    labels = class_labels(names, longest=22)
    for place, axes in enumerate(panels.flat):
        if place >= len(metrics):
            axes.remove()
            continue
        metric = list(metrics)[place]
        mean, spread = (np.asarray(values, dtype=np.float64) for values in metrics[metric])
        _dots(axes, mean, spread)
        dress(axes)
        axes.set_title(legible(metric), **lettering(9.5), loc="left")
        axes.grid(False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_yticks(range(len(names)), labels, **lettering(9))
        axes.set_ylim(len(names) - 0.4, -0.75)
    return figure


def _dots(axes: Axes, mean: NDArray[np.float64], spread: NDArray[np.float64]) -> None:
    from matplotlib.ticker import MaxNLocator

    rows = np.arange(len(mean))
    axes.hlines(rows, 0, 1, transform=axes.get_yaxis_transform(), color=GRID, linewidth=0.8, zorder=0)
    axes.errorbar(mean, rows, xerr=np.nan_to_num(spread), fmt="o", color=ACCENT, capsize=3, markersize=5.5)
    shown = np.isfinite(mean)
    if not shown.any():
        axes.text(0.5, 0.5, "–", transform=axes.transAxes, **lettering())
        return
    low = float((mean - np.nan_to_num(spread))[shown].min())
    high = float((mean + np.nan_to_num(spread))[shown].max())
    room = 0.22 * (high - low) or max(0.05 * abs(high), 0.5)
    axes.set_xlim(low - room, high + room)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    for row in rows[shown]:
        axes.annotate(
            f"{mean[row]:.4g}" + (f" ± {spread[row]:.2g}" if spread[row] > 0 else ""),
            (float(mean[row]), float(row)),
            xytext=(0, 5),
            textcoords="offset points",
            **lettering(7.5, FAINT_INK, ha="center", va="bottom"),
        )
