"""The loss curve of a training history, with accuracy and learning-rate steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mekiki.errors import InputError
from mekiki.report.figures.canvas import dress, lettering, new_figure
from mekiki.report.figures.palette import DIFFERENT, FAINT_INK, INK, SAME

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCURACIES = {"accuracy": "accuracy", "pair_accuracy": "pairs judged rightly"}


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
